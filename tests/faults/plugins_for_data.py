"""Plugins that make trouble for a run's data: in the workers that load them, and among the files while it trains."""

import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events import Plugin, PluginSettings, on, transform
from events.payloads import Batch, BatchContext, SampleContext, StepEnd
from tests.core.rooms_for_tests import TROUBLES
from tests.zoo import with_a_flipped_bit

if TYPE_CHECKING:
    from PIL import Image


class Trouble(Plugin):
    """Does something bad when a worker makes a picture of some name; once, where a marker says that it has."""

    class Settings(PluginSettings):
        kind: str = ""
        at: str = "none"
        marker: str = ""

    @transform("sample.image")
    def meet(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        settings: Any = self.settings
        is_worker = multiprocessing.parent_process() is not None
        is_done = bool(settings.marker) and Path(settings.marker).exists()
        if settings.kind and is_worker and not is_done and settings.at in str(sample.path):
            if settings.marker:
                Path(settings.marker).touch()
            TROUBLES[settings.kind]()
        return image


class OddBatch(Plugin):
    """Puts something into each batch that cannot travel between processes."""

    @transform("batch.host")
    def add(self, batch: Batch, context: BatchContext) -> Batch:
        return replace(batch, extras=({"odd": lambda: None}, *batch.extras[1:]))


class FailsInWorkers(Plugin):
    """Can be made in the training process alone."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if os.environ.get("SIGNALBOX_TRAINS") != str(os.getpid()):
            raise LookupError("not in this process")

    @transform("sample.caption")
    def leave(self, caption: str, sample: SampleContext) -> str:
        return caption


def write_again(path: Path) -> None:
    """The same bytes in a new file of another time."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


ACTIONS: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "replaced by another": lambda path: shutil.copy(path.with_name("duck.png"), path),
    "one flipped bit": lambda path: path.write_bytes(with_a_flipped_bit(path.read_bytes())),
    "replaced by a pipe": make_pipe,
    "emptied": lambda path: path.write_bytes(b""),
    "written again": write_again,
    "nothing": lambda path: None,
}


class Spoil(Plugin):
    """Does something to one file after the first epoch, and notes which samples each step used."""

    class Settings(PluginSettings):
        path: Path
        action: str
        step: int = 3
        used: Path

    @on("step.end")
    def act(self, event: StepEnd) -> None:
        settings: Any = self.settings
        with open(settings.used, "a") as file:
            print(event.step, *(one for batch in event.batches for one in batch.sample_ids), file=file)
        if event.step == settings.step:
            ACTIONS[settings.action](settings.path)
