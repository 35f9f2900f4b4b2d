"""Small real runs: where the parts lie, what a run leaves, and when two runs are the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from events.bus import Bus

ROOT = Path(__file__).parent.parent
STARTER = ROOT / "examples" / "starter"
PICTURES = ROOT / "examples" / "emoji" / "pictures"
NAMES = ("hearts/red-heart", "hearts/blue-heart", "circles/red-circle", "circles/green-circle", "fruit/lemon",
         "fruit/cherries", "birds/owl", "birds/duck", "squares/blue-square", "animals/fox")  # fmt: skip


CONFIG = """
[run]
name = "test"
dir = {dir}
[model]
path = {model}
train = ["unet", "text_encoder"]
from_scratch = ["unet", "text_encoder"]
[data]
root = {data}
resolution = 32
max_aspect = 1.0
workers = 0
[cache]
dir = {cache}
[train]
steps = 7
batch_size = 4
learning_rate = 1e-3
warmup_steps = 2
device = "cpu"
threads = 1
[checkpoint]
every_steps = 2
[preview]
every_steps = 0
at_start = false
at_end = false
count = 2
steps = 2
[export]
at_end = false
[log]
every_steps = 2
"""


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    folder: Path
    exit_code: int
    output: str = ""
    bus: Bus | None = None
    spent: Mapping[str, float] = field(default_factory=dict)
    """Seconds by kind."""

    def state(self) -> dict[str, object]:
        """Everything the newest checkpoint holds, tensors included, by file."""
        from safetensors.torch import load_file

        newest = sorted((self.folder / "checkpoints").glob("step-*"))[-1]
        loaded: dict[str, object] = {path.name: load_file(path) for path in newest.glob("*.safetensors")}
        state = json.loads((newest / "state.json").read_text())
        state.pop("run")
        return loaded | {"state": state, "step": newest.name}


def reports(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, without the times, which no two runs have in common."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["values"] = {name: value for name, value in line["values"].items() if not name.startswith("time/")}
    return lines


def assert_same_state(one: Run, other: Run, *, but: str = "") -> None:
    """Bit for bit the same weights, optimizer, plugin state and position, `but` for one file or one key of the state."""
    assert_same(one.state(), other.state(), but=but)


def assert_same(left: dict[str, object], right: dict[str, object], *, but: str = "") -> None:
    """As `assert_same_state`, of what `Run.state` has returned."""
    import torch

    for whole in (left, right):
        for table in (whole, whole["state"]):
            table.pop(but, None)  # type: ignore[attr-defined]  # a dict
    assert left["state"] == right["state"]
    for name, tensors in left.items():
        if name.endswith(".safetensors"):
            assert tensors.keys() == right[name].keys()
            for key, tensor in tensors.items():
                assert torch.equal(tensor, right[name][key]), f"{name}: {key}"


def sets(overrides: Sequence[str]) -> list[str]:
    """Overrides as command-line arguments."""
    return [part for override in overrides for part in ("--set", override)]
