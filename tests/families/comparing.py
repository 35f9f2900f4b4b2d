"""Comparing modules, and making changed copies of models."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

MODULES = ("unet", "vae", "text_encoder")


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    """Bit for bit, by name."""
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype, name
        assert torch.equal(tensor, right[name]), name


def copy_with(folder: Path, to: Path, file: str, **changes: object) -> Path:
    """A copy of a model's folder with keys of one of its JSON files changed."""
    shutil.copytree(folder, to)
    path = to / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return to


def copy_with_scheduler(folder: Path, to: Path, scheduler: Any) -> Path:
    """A copy of a model's folder with another scheduler."""
    copy_with(folder, to, "model_index.json", scheduler=["diffusers", type(scheduler).__name__])
    scheduler.save_pretrained(to / "scheduler")
    return to
