"""Plugins that the tests of `run.py data` name in configs."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image, ImageDraw

from events import Plugin, PluginSettings, on, transform
from events.payloads import Batch, BatchContext, PlanContext, SampleContext, SampleKey, SampleSettings, StepStart

if TYPE_CHECKING:
    from torch import Tensor


class Recorder(Plugin):
    """Keeps what each step is given; `newest` is the one that was built last."""

    newest: ClassVar["Recorder"]

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.steps: list[tuple[int, int, tuple[Batch, ...]]] = []

    @on("step.start")
    def note(self, event: StepStart) -> None:
        self.steps.append((event.step, event.epoch, event.batches))
        Recorder.newest = self


class PaintInPlace(Plugin):
    """Draws on the very picture it is given."""

    @transform("sample.image")
    def paint(self, image: Image.Image, sample: SampleContext) -> Image.Image:
        ImageDraw.Draw(image).rectangle((0, 0, 9, 9), fill=(0, 0, 255))
        return image


class Widen(Plugin):
    """Makes pictures twice as wide."""

    @transform("sample.image")
    def widen(self, image: Image.Image, sample: SampleContext) -> Image.Image:
        return image.resize((image.width * 2, image.height))


class Darken(Plugin):
    """Halves the pixels."""

    @transform("sample.pixels")
    def darken(self, pixels: "Tensor", sample: SampleContext) -> "Tensor":
        return pixels * 0.5 - 0.5


class Weigh(Plugin):
    """Halves the loss of owls and leaves a note."""

    @transform("sample.settings")
    def weigh(self, settings: SampleSettings, sample: SampleContext) -> SampleSettings:
        if "owl" not in sample.sample_id:
            return settings
        return replace(settings, loss_scale=0.5, extras={"bird": True})


class HalfWeights(Plugin):
    """Halves the weights of whole batches."""

    @transform("batch.host")
    def halve(self, batch: Batch, context: BatchContext) -> Batch:
        return replace(batch, weight=batch.weight * 0.5)


class OnlyBirds(Plugin):
    """Leaves the birds."""

    @transform("data.items")
    def birds(self, items: Any, context: Any) -> Any:
        return tuple(item for item in items if "birds" in item.id)


class LastBatchOut(Plugin):
    """Leaves the last batch out of each epoch."""

    @transform("epoch.plan")
    def leave(self, batches: tuple[tuple[SampleKey, ...], ...], context: PlanContext) -> tuple[Any, ...]:
        return batches[:-1]


class FailOnOwls(Plugin):
    """Cannot stand owls."""

    @transform("sample.caption")
    def fail(self, caption: str, sample: SampleContext) -> str:
        if "owl" in sample.sample_id:
            raise RuntimeError("an owl")
        return caption
