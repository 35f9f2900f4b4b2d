"""Curves and previews for TensorBoard: ``tensorboard --logdir runs``."""

import importlib.util
from typing import TYPE_CHECKING

from pydantic import Field

from events import Plugin, PluginSettings, on
from events.payloads import MetricsReady, PreviewEnd, RunStart, ValidationEnd

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Plugin):
    """Write each report's numbers, and each preview round as a grid, to `<run>/tensorboard`.

    What a resumed run takes anew replaces what was written of those steps before.
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

    @on("run.start")
    def open(self, event: RunStart) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = event.run.folder / "tensorboard"
        self._writer = SummaryWriter(str(folder), purge_step=event.resumed_step + 1, flush_secs=30)

    @on("metrics.ready")
    def write_numbers(self, event: MetricsReady) -> None:
        assert self._writer is not None
        for name, value in event.values.items():
            self._writer.add_scalar(name, value, event.step)

    @on("validation.end")
    def write_validation(self, event: ValidationEnd) -> None:
        assert self._writer is not None
        for name, loss in event.losses.items():
            self._writer.add_scalar(f"validation/{name}", loss, event.step)

    @on("preview.end", priority=95)
    def write_grid(self, event: PreviewEnd) -> None:
        if not (self.settings.previews and event.paths):
            return
        import numpy
        from PIL import Image

        from core.grid import labelled_grid

        assert self._writer is not None
        shown = zip(event.prompts, event.paths, strict=False)  # fewer paths than prompts when rendering failed
        cells = [(Image.open(path), prompt.text, bool(prompt.note)) for prompt, path in shown]
        grid = numpy.asarray(labelled_grid(cells, min(self.settings.columns, len(cells))))
        self._writer.add_image("previews", grid, event.step, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
