"""Plugins that take as long as a test says, on a clock of its own, and one that looks on at each step."""

from collections.abc import Callable
from dataclasses import dataclass

from events import Plugin, on, transform
from events.bus import Bus
from events.catalogue import EPOCH_END
from events.payloads import Batch, DeviceContext, EpochEnd, MetricsReady, SampleContext, StepEnd, StepStart
from events.testing import epoch_end


@dataclass(slots=True)
class Clock:
    now: float = 0.0


clock = Clock()


class Sleeper(Plugin):
    """Takes `seconds` at each epoch's end, and does something `meanwhile`."""

    seconds = 0.0
    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    @on("epoch.end")
    def sleep(self, event: EpochEnd) -> None:
        clock.now += Sleeper.seconds
        Sleeper.meanwhile()

    @transform("sample.caption")
    def caption(self, caption: str, sample: SampleContext) -> str:
        return caption

    @classmethod
    def fire(cls, bus: Bus, *, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        cls.seconds, cls.meanwhile = seconds, staticmethod(meanwhile)
        bus[EPOCH_END].emit(epoch_end())


class LookOn(Plugin):
    """Has a handler of each kind in every step, and changes nothing."""

    @on("step.start")
    def start(self, event: StepStart) -> None: ...

    @on("step.end")
    def end(self, event: StepEnd) -> None: ...

    @on("metrics.ready")
    async def report(self, event: MetricsReady) -> None: ...

    @transform("batch.device")
    def move(self, batch: Batch, context: DeviceContext) -> Batch:
        return batch
