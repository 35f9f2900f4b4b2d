"""Plugins that spoil numbers and use memory up, in chosen steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from events import Plugin, PluginSettings, build, on
from events.payloads import Batch, LossFunction, MetricsReady, ModelReady, StepEnd, StepParts, StepStart

if TYPE_CHECKING:
    from torch import Tensor

Place = tuple[int, int]
"""(epoch, step within it, from 0)."""


class AtPlaces(Plugin):
    """Knows whether the step that is being taken is one of those that it is told of."""

    class Settings(PluginSettings):
        places: tuple[Place, ...] = ()
        how: str = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.now: Place = (-1, -1)

    @on("step.start")
    def remember(self, event: StepStart) -> None:
        self.now = (event.epoch, event.step_in_epoch)

    @property
    def is_now(self) -> bool:
        return self.now in self.settings.places


class Spoil(AtPlaces):
    """A loss or a gradient that is not finite, each time its batch is trained on."""

    class Settings(AtPlaces.Settings):
        how: Literal["nan", "inf", "gradient", "average", "weights"] = "nan"

    spoilt: ClassVar[bool] = False
    """Averages and weights are spoilt once in a process."""

    @build("loss")
    def spoil(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def spoiled(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            value = loss(prediction, target, t, batch)
            return value * float(self.settings.how) if self.is_now and self.settings.how in ("nan", "inf") else value

        return spoiled

    @on("model.ready")
    def hook(self, event: ModelReady) -> None:
        last = list(event.groups[0].parameters.values())[-1]
        last.register_hook(lambda gradient: gradient * float("nan") if self._spoils("gradient") else gradient)
        self._weight = last

    @on("step.end")
    def after(self, event: StepEnd) -> None:
        ema: Any = self.bus.plugins["Ema"]
        targets = {"average": next(iter(ema._means.values())), "weights": self._weight.detach()}
        if self.settings.how in targets and self.is_now and not Spoil.spoilt:
            Spoil.spoilt = True
            targets[self.settings.how].view(-1)[0] = float("nan")

    def _spoils(self, how: str) -> bool:
        return self.is_now and self.settings.how == how


class LeaveOut(AtPlaces):
    """Asks for the batches of its places to be left out, as anybody may who knows that they are bad."""

    @on("step.start", priority=60)
    def leave_out(self, event: StepStart) -> None:
        if self.is_now:
            event.control.skip_batch("known to be bad", asker=self.name)


class UseUp(AtPlaces):
    """Raises as if memory had run out, the first `times` that its step is tried."""

    class Settings(AtPlaces.Settings):
        how: Literal["torch", "cpu", "python"] = "torch"
        where: Literal["loss", "gradient", "update", "updated"] = "loss"
        times: int = 1

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.raised = 0

    @build("loss")
    def use_up(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def using(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            self._raise("loss")
            return loss(prediction, target, t, batch)

        return using

    @on("model.ready")
    def hook(self, event: ModelReady) -> None:
        next(iter(event.groups[0].parameters.values())).register_hook(lambda gradient: self._raise("gradient"))
        event.optimizer.register_step_pre_hook(lambda *_: self._raise("update"))
        event.optimizer.register_step_post_hook(lambda *_: self._raise("updated"))

    def _raise(self, where: str) -> None:
        if not self.is_now or self.settings.where != where or self.raised == self.settings.times:
            return
        self.raised += 1
        import torch

        raise {
            "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you tried to"
                                " allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"),
            "python": MemoryError(),
        }[self.settings.how]  # fmt: skip


class Press(AtPlaces):
    """Takes `megabytes` in the step, in a process that is allowed `room` more than it has; with `passes`, once only."""

    class Settings(AtPlaces.Settings):
        megabytes: int = 512
        room: int = 256
        passes: bool = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.tried = 0

    @build("loss")
    def press(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def pressing(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            if not self.is_now:
                return loss(prediction, target, t, batch)
            import torch

            self.tried += 1
            limit(None if self.settings.passes and self.tried > 1 else self.settings.room)
            weighed = prediction + 0 * torch.zeros(self.settings.megabytes << 18).mean()
            return loss(weighed, target, t, batch)

        return pressing


class Mistaken(AtPlaces):
    """Its function fails in the closed step."""

    @build("loss")
    def mistake(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def mistaken(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            return loss(prediction[:, :2] if self.is_now else prediction, target, t, batch)

        return mistaken


def limit(room: int | None) -> None:
    """Allow this process so many megabytes of addresses more than it has; None lifts it."""
    import resource

    if room is None:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return
    with open("/proc/self/statm") as stream:
        pages = int(stream.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (room << 20), resource.RLIM_INFINITY))


class Notes(Plugin):
    """Writes a line for each report into `folder`, beside training."""

    class Settings(PluginSettings):
        folder: Path

    @on("metrics.ready")
    async def write(self, event: MetricsReady) -> None:
        with open(self.settings.folder / "notes.txt", "ab", buffering=0) as stream:
            stream.write(f"{event.step}\n".encode())
