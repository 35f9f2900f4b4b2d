"""Curves and previews for TensorBoard: ``tensorboard --logdir runs``."""

import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import sleep, time
from typing import TYPE_CHECKING

from pydantic import Field

from events import Plugin, PluginSettings, on
from events.disk import OncePerMinute
from events.payloads import CheckpointLoaded, MetricsReady, PreviewEnd, RunStart, ValidationEnd

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Plugin):
    """Write each report's numbers, and each preview round as a grid, to `<run>/tensorboard`.

    What a resumed run takes anew, or one that went back, replaces what was written of those steps before.
    """

    class Settings(PluginSettings):
        previews: bool = Field(True, description="also write the preview grids")
        columns: int = Field(4, ge=1, description="pictures in a row of a grid")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        """Raises ModuleNotFoundError when tensorboard is not installed."""
        super().__init__(settings, name=name)
        if importlib.util.find_spec("tensorboard") is None:
            raise ModuleNotFoundError("tensorboard is not installed; pip install tensorboard, or leave the plugin out")
        self._writer: SummaryWriter | None = None
        self._folder = Path()
        self._first_step = 0
        """Of this session; what is there of it and of later ones counts no more."""
        self._failure: OSError | None = None
        self._attempts = OncePerMinute()

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        self._folder, self._first_step = event.run.folder / "tensorboard", event.resumed_step + 1
        with self._writing():
            pass

    @on("checkpoint.loaded")
    def go_back(self, event: CheckpointLoaded) -> None:
        if event.step + 1 != self._first_step:
            self.close()
            self._first_step = event.step + 1

    @on("metrics.ready")
    def write_numbers(self, event: MetricsReady) -> None:
        with self._writing() as writer:
            for name, value in event.values.items():
                writer.add_scalar(name, value, event.step)

    @on("validation.end")
    def write_validation(self, event: ValidationEnd) -> None:
        with self._writing() as writer:
            for name, loss in event.losses.items():
                writer.add_scalar(f"validation/{name}", loss, event.step)

    @on("preview.end", priority=95)
    def write_grid(self, event: PreviewEnd) -> None:
        if not (self.settings.previews and event.paths):
            return
        import numpy
        from PIL import Image

        from core.preview.grid import labelled_grid

        shown = zip(event.prompts, event.paths, strict=False)  # fewer paths than prompts when rendering failed
        cells = [(Image.open(path), prompt.text, bool(prompt.note)) for prompt, path in shown]
        grid = numpy.asarray(labelled_grid(cells, min(self.settings.columns, len(cells))))
        with self._writing() as writer:
            writer.add_image("previews", grid, event.step, dataformats="HWC")

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and self._failure is None:
            writer.close()

    @contextmanager
    def _writing(self) -> "Generator[SummaryWriter, None, None]":
        """The writer. One whose disk is full has lost its thread: another takes its place, after a minute at the earliest.

        Raises OSError until then.
        """
        if self._writer is None:
            is_due = self._attempts.is_due()
            if self._failure is not None and not is_due:
                raise self._failure
            self._writer = self._open()
        try:
            yield self._writer
        except OSError as error:
            self._failure, self._writer = error, None
            raise

    def _open(self) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        _wait_for_a_later_name(self._folder)
        try:
            writer = SummaryWriter(str(self._folder), purge_step=self._first_step, flush_secs=30)
        except OSError as error:
            self._failure = error
            raise
        self._failure = None
        return writer


def _wait_for_a_later_name(folder: Path) -> None:
    """Readers take the files in the order of their names, which begin with the second in which they were opened.

    Two of one second would be in the order of process and count, as text: the later one has to be of a later second.
    """
    while list(folder.glob(f"events.out.tfevents.{int(time()):010d}.*")):
        sleep(0.05)
