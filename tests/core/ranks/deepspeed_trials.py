"""Tries DeepSpeed's engine on a few small weights in two processes; the main one prints what it found as JSON.

Its own program, since an engine takes a process over. Started by `test_deepspeed.py` with torch's launcher.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.config.tables import Config
from core.errors import TrainerError
from core.ranks.deepspeed import Engine
from core.step.optimizer import make_optimizer
from events.payloads import ParameterGroup

SHAPES = {"first": {"a": (7, 3), "b": (5,)}, "second": {"c": (2, 2), "d": (1,)}}
"""By parameter group. Two shares of the first are of 13 numbers, or a few more, so that "a" is cut within a row."""
TIMEOUT_SECONDS = 45.0


def config(stage: int, optimizer: str) -> Config:
    return Config.model_validate(
        {
            "model": {"path": "nowhere"}, "data": {"root": "nowhere"}, "train": {"optimizer": optimizer, "clip_norm": 0, "device": "cpu"},
            "distributed": {"strategy": "deepspeed", "zero_stage": stage, "timeout_seconds": TIMEOUT_SECONDS},
        }
    )  # fmt: skip


def weights(shapes_of: dict[str, Any] = SHAPES) -> tuple[ParameterGroup, ...]:
    """The same numbers each time."""
    draw = torch.Generator().manual_seed(1)
    return tuple(
        ParameterGroup(
            name=name, learning_rate=0.1, weight_decay=0.01,
            parameters={key: nn.Parameter(torch.randn(shape, generator=draw)) for key, shape in shapes.items()},
        )
        for name, shapes in shapes_of.items()
    )  # fmt: skip


class Trial:
    """An engine, and an optimizer with the whole state that does the same on every rank by itself."""

    def __init__(self, stage: int, optimizer: str) -> None:
        self.groups, self.own = weights(), weights()
        settings = config(stage, optimizer)
        self.alone = make_optimizer(self.own, settings.train)
        self.engine = Engine(settings, torch.device("cpu"), self.groups, make_optimizer(self.groups, settings.train))
        self.divided = self.engine.optimizer
        self.loss = self.engine.shared(self._loss)

    def step(self) -> None:
        """The loss of rank r is r + 1 times a sum; the mean of both is taken."""
        self.engine.backward(self.loss(self.groups) * (dist.get_rank() + 1))
        self.divided.step()
        (self._loss(self.own) * 1.5).backward()
        self.alone.step()
        self.alone.zero_grad()

    def distance(self) -> float:
        """Of the weights from those that were moved alone."""
        return furthest(self.groups, self.own)

    def state_distance(self) -> float:
        """Of all that both optimizers keep, by weight; infinite where they keep different things."""
        mine, other = self.divided.state_dict()["state"], self.alone.state_dict()["state"]
        if [list(one) for one in mine.values()] != [list(one) for one in other.values()]:
            return float("inf")
        both = [(one[key], other[number][key]) for number, one in mine.items() for key in one]
        return max((float((one - two).abs().max()) for one, two in both), default=0.0)

    @staticmethod
    def _loss(groups: tuple[ParameterGroup, ...]) -> Tensor:
        return torch.stack([one.square().sum() for group in groups for one in group.parameters.values()]).sum()


def furthest(*both: tuple[ParameterGroup, ...]) -> float:
    """How far weights are from those of the same name, at most."""
    one, other = ([weight for group in groups for weight in group.parameters.values()] for groups in both)
    return max(float((a - b).detach().abs().max()) for a, b in zip(one, other, strict=True))


def refused(act: Callable[[], Any]) -> str:
    try:
        act()
    except TrainerError as error:
        return str(error)
    return ""


def try_stage(stage: int, optimizer: str) -> dict[str, Any]:
    trial, found = Trial(stage, optimizer), {}
    found["kept before a step"] = sum(map(len, trial.divided.state_dict()["state"].values()))
    for _ in range(3):
        trial.step()
    found["moved alike"], found["kept alike"] = trial.distance(), trial.state_distance()
    resumed = Trial(stage, optimizer)
    state = trial.alone.state_dict()
    resumed.alone.load_state_dict(state)
    resumed.divided.load_state_dict(state)
    found["taken back"] = resumed.state_distance()
    with torch.no_grad():
        for group in (*resumed.groups, *resumed.own):
            for weight in group.parameters.values():
                weight.mul_(0.5)
    resumed.step()
    found["goes on alike"] = resumed.distance()
    return found


def try_refusals() -> dict[str, Any]:
    trial, found = Trial(2, "torch.optim.AdamW"), {}
    trial.step()
    state = trial.alone.state_dict()
    without = state | {"state": {number: one for number, one in state["state"].items() if number != 1}}
    trial.divided.load_state_dict(without)
    found["without a gradient"] = float(trial.divided.state_dict()["state"][1]["exp_avg"].abs().max())
    other = state | {"state": state["state"] | {0: state["state"][0] | {"step": torch.tensor(9.0)}}}
    found["other counts"] = refused(lambda: trial.divided.load_state_dict(other))
    trial.engine.require_no_hooks()
    hook = trial.divided.register_step_pre_hook(lambda *_: None)
    found["a hook on the optimizer"] = refused(trial.engine.require_no_hooks)
    hook.remove()
    hook = trial.groups[0].parameters["a"].register_post_accumulate_grad_hook(lambda _: None)
    found["a hook on a weight"] = refused(trial.engine.require_no_hooks)
    hook.remove()
    single, settings = weights({"first": {"a": (2,), "number": ()}}), config(2, "torch.optim.AdamW")
    optimizer = make_optimizer(single, settings.train)
    found["a single number"] = refused(lambda: Engine(settings, torch.device("cpu"), single, optimizer))
    group = trial.engine._zero.real_dp_process_group[0]  # no public way
    found["time limit"] = group._get_backend(torch.device("cpu")).options._timeout.total_seconds()
    return found


def main() -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    found: dict[str, Any] = {
        f"{stage} {optimizer}": try_stage(stage, f"torch.optim.{optimizer}")
        for stage, optimizer in ((1, "AdamW"), (2, "AdamW"), (2, "NAdam"), (1, "SGD"))
    }
    found["refusals"] = try_refusals()
    if dist.get_rank() == 0:
        print(json.dumps(found), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
