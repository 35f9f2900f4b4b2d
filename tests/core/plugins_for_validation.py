"""Plugins that the tests of validation name in configs."""

from typing import ClassVar

from events import Plugin, on, transform
from events.payloads import SampleContext, StepEnd, StepStart, ValidationEnd, ValidationStart


class Recorder(Plugin):
    """Keeps what it hears."""

    losses: ClassVar[list[tuple[int, dict[str, float]]]] = []
    images: ClassVar[list[dict[str, int]]] = []
    trained: ClassVar[set[str]] = set()

    @on("validation.start")
    def start(self, event: ValidationStart) -> None:
        self.images.append(dict(event.images))

    @on("validation.end")
    def end(self, event: ValidationEnd) -> None:
        self.losses.append((event.step, dict(event.losses)))

    @on("step.start")
    def step(self, event: StepStart) -> None:
        self.trained.update(sample_id for batch in event.batches for sample_id in batch.sample_ids)
        if event.step == 3:
            event.control.evaluate(asker="the test")


class Captions(Plugin):
    """Keeps the captions that reach it after every other plugin, by item."""

    seen: ClassVar[dict[str, list[str]]] = {}

    @transform("sample.caption", priority=99)
    def keep(self, caption: str, sample: SampleContext) -> str:
        self.seen.setdefault(sample.sample_id, []).append(caption)
        return caption


class Spoiled(Plugin):
    """Makes the model worse with each step after the one with the lowest loss."""

    least_at: ClassVar[int] = 0

    @on("step.end")
    def spoil(self, event: StepEnd) -> None:
        import torch

        if event.step > self.least_at:
            with torch.no_grad():
                event.live.modules["unet"].conv_out.bias += 0.5  # type: ignore[union-attr, operator]  # a convolution
