"""Plugins whose effect depends on what happened before, with and without a state that says so."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from events import Plugin, transform
from events.payloads import Batch, DeviceContext


class ForgetsItsCount(Plugin):
    """Weighs each step's samples by how many steps there were before, and does not store that."""

    count = 0

    @transform("batch.device")
    def weigh(self, batch: Batch, context: DeviceContext) -> Batch:
        self.count += 1
        return replace(batch, weight=batch.weight * self.count)


class KeepsItsCount(ForgetsItsCount):
    """The same, and stores it."""

    def state_dict(self) -> Mapping[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


class DrawsFromEverybodys(Plugin):
    """Weighs each step's samples by a number of torch's global generator."""

    @transform("batch.device")
    def weigh(self, batch: Batch, context: DeviceContext) -> Batch:
        import torch

        return replace(batch, weight=batch.weight * torch.rand(()))
