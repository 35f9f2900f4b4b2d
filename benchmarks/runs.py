"""Small real runs in this process, as `run.py train` makes them, and the clock that goes with them."""

import contextlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

from pydantic import Field

from events import Plugin, PluginSettings, on
from events.bus import Bus
from events.payloads import StepEnd
from tests.small_runs import CONFIG, NAMES, PICTURES, STARTER

WARM_UP = 5
"""Steps that are not counted."""
SETTLING = 2
"""Of a block, since what was handed over before may still go on."""
CLOCK = '[[plugins]]\nuse = "benchmarks.runs.Clock"\n'
SMALL = {
    "sample_size": 8, "block_out_channels": (32, 64), "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "layers_per_block": 1, "cross_attention_dim": 64,
    "attention_head_dim": 8, "norm_num_groups": 8,
}  # fmt: skip
"""A UNet whose step takes some tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The end of a step, in seconds."""

    cpu: float
    """Of the training thread."""
    wall: float


class Clock(Plugin):
    """Notes when each step has ended; it is in every run that others are compared with.

    In a run of blocks it mutes a signal in every second block, so that steps with and without its handlers take turns.
    """

    class Settings(PluginSettings):
        mute: str = Field("", description="a signal's name")
        block_steps: int = Field(10, gt=SETTLING, description="after how many steps it is muted or heard again")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._marks: list[Mark] = []

    @on("step.end", priority=0)
    def note(self, event: StepEnd) -> None:
        self._marks.append(Mark(thread_time(), perf_counter()))
        if self.settings.mute and len(self._marks) % self.settings.block_steps == 0:
            signal = next(one for one in self.bus.signals if one.name == self.settings.mute)
            signal.is_muted = not signal.is_muted

    def steps(self) -> tuple[list[float], list[float]]:
        """(CPU of the training thread, wall) of each step with all that lies between two, without the first few."""
        marks = self._marks[WARM_UP:]
        return [after.cpu - before.cpu for before, after in pairwise(marks)], [
            after.wall - before.wall for before, after in pairwise(marks)
        ]

    def blocks(self) -> tuple[list[Mark], list[Mark]]:
        """(heard, muted): the median step of each block, the first pair of blocks left out."""
        size = self.settings.block_steps
        medians = []
        for start in range(2 * size, len(self._marks) - size + 1, size):
            own = list(pairwise(self._marks[start + SETTLING - 1 : start + size]))
            medians.append(
                Mark(median(b.cpu - a.cpu for a, b in own), median(b.wall - a.wall for a, b in own))
            )  # fmt: skip
        pairs = len(medians) // 2
        return medians[: 2 * pairs : 2], medians[1 : 2 * pairs : 2]


def write_config(folder: Path, *, steps: int, unet: dict[str, Any] | None = None, more: str = "") -> Path:
    """A config of a run on ten of the demo's pictures, without validation, previews and export.

    `unet` is the config of a UNet to take in place of the demo's; `more` is TOML text to append.
    """
    model, data = folder / "model", folder / "pictures"
    shutil.copytree(STARTER, model)
    if unet is not None:
        from diffusers import UNet2DConditionModel

        UNet2DConditionModel(**unet).save_config(model / "unet")
    for name in NAMES:
        for suffix in (".png", ".txt"):
            target = (data / name).with_suffix(suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy((PICTURES / name).with_suffix(suffix), target)
    values = {"dir": folder / "runs", "model": model, "data": data, "cache": folder / "cache"}
    text = CONFIG.format(**{key: json.dumps(str(value)) for key, value in values.items()})
    config = folder / "config.toml"
    text = text.replace('train = ["unet", "text_encoder"]', 'train = ["unet"]').replace("steps = 7", f"steps = {steps}")
    text = text.replace("[cache]\n", "[cache]\nlatents = true\ntext = true\n")
    config.write_text(text + more)
    return config


def execute(config: Path, overrides: Sequence[str] = ()) -> Bus:
    """A fresh run to its end; its folder is gone afterwards. Returns its bus, closed, with the plugins."""
    import run
    from core.run.session import Session, configure
    from core.run_folder.folder import find_run

    with quiet():
        loaded = run.load(config, list(overrides))
        bus, source = run.assemble_bus(loaded, config)
        loaded = configure(bus, loaded, str(config))
        folder = find_run(loaded, fresh=True)
        Session(loaded, bus, source, folder).execute()
    shutil.rmtree(folder.path)
    return bus


def clock_of(bus: Bus) -> Clock:
    """That of a run whose config has CLOCK."""
    clock = bus.plugins["Clock"]
    assert isinstance(clock, Clock)
    return clock


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what a run prints."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
