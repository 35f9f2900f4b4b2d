"""Plugins that the tests of the trainer name in configs."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from events import Plugin, PluginSettings, build, on, transform
from events.catalogue import CATALOGUE
from events.marks import Mark
from events.payloads import (
    Batch,
    ConfigureContext,
    DeviceContext,
    EpochEnd,
    EpochStart,
    ExportContext,
    LossFunction,
    MetricsReady,
    ModelReady,
    NoiseFunction,
    PlanContext,
    SampleContext,
    SampleKey,
    StepEnd,
    StepParts,
    StepStart,
)  # fmt: skip
from events.plugin import Subscription
from events.spec import SignalSpec
from plugins.plugins import BasePlugin

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor


class Jitter(Plugin):
    """Random pixels: each draw is the sample's own."""

    @transform("sample.pixels")
    def jitter(self, pixels: "Tensor", sample: SampleContext) -> "Tensor":
        import torch

        return pixels + 0.01 * torch.randn(pixels.shape, generator=sample.rng.torch)


class PaintedCaption(Plugin):
    """A picture transform whose result follows from the caption."""

    @transform("sample.image")
    def paint(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        shade = len(sample.caption) % 256
        return image.point(lambda value: value ^ shade)


class Captions(Plugin):
    """Keeps the captions that are trained on, in order."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.seen: list[str] = []

    @on("step.start")
    def keep(self, event: StepStart) -> None:
        self.seen += [caption for batch in event.batches for caption in batch.captions]


class SlowPictures(Plugin):
    """Takes its time, so that a test can break in."""

    @transform("sample.image")
    def wait(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        time.sleep(0.01)
        return image


class GlobalNoise(Plugin):
    """Draws from a global generator, as a plugin should not."""

    @transform("sample.image")
    def shade(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        import random

        factor = random.random()
        return image.point(lambda value: int(value * factor))


class Counter(Plugin):
    """Counts what it hears and stores it."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.counts = {"epochs_started": 0, "epochs": 0, "steps": 0, "reports": 0}
        self.losses: list[float] = []

    @on("epoch.start")
    def count_start(self, event: EpochStart) -> None:
        self.counts["epochs_started"] += 1

    @on("epoch.end")
    def count_epoch(self, event: EpochEnd) -> None:
        self.counts["epochs"] += 1
        self.losses.append(-1.0 if event.mean_loss is None else event.mean_loss)

    @on("step.end")
    def count_step(self, event: StepEnd) -> None:
        self.counts["steps"] += 1

    @on("metrics.ready")
    def count_report(self, event: MetricsReady) -> None:
        self.counts["reports"] += 1
        self.losses.append(event.values["loss"])

    def state_dict(self) -> Mapping[str, Any]:
        return {"counts": self.counts, "losses": self.losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.counts = dict(state["counts"])
        self.losses = list(state["losses"])


class KillAt(Plugin):
    """Ends its own process without warning once a step has been taken."""

    class Settings(PluginSettings):
        step: int

    @on("step.end", priority=99)
    def kill(self, event: StepEnd) -> None:
        if event.step == self.settings.step:
            os.kill(os.getpid(), signal.SIGKILL)


class SignalAt(Plugin):
    """Sends the whole process group a signal in a step, as a terminal does."""

    class Settings(PluginSettings):
        step: int
        number: int = int(signal.SIGINT)

    @on("step.start")
    def send(self, event: StepStart) -> None:
        if event.step == self.settings.step:
            os.killpg(os.getpgid(0), self.settings.number)


class SpoilLoss(Plugin):
    """Makes the loss of some steps not finite."""

    class Settings(PluginSettings):
        steps: tuple[int, ...]

    @on("step.start", ranks="all")
    def remember(self, event: StepStart) -> None:
        self.now = event.step

    @build("loss")
    def spoil(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def spoiled(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            value = loss(prediction, target, t, batch)
            return value * float("nan") if self.now in self.settings.steps else value

        return spoiled


class ExtraNoise(Plugin):
    """A build plugin with draws of its own."""

    @build("noise")
    def add(self, noise: NoiseFunction, parts: StepParts) -> NoiseFunction:
        def more(latents: "Tensor", generator: "torch.Generator") -> "Tensor":
            import torch

            own = torch.randn(latents.shape, generator=generator, device=latents.device)
            return noise(latents, generator) + 0.1 * own

        return more


class SetAccumulate(Plugin):
    """Asks for another accumulation at the end of the first epoch."""

    class Settings(PluginSettings):
        value: int = 2

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.seen: list[tuple[int, int]] = []

    @on("epoch.start")
    def note(self, event: EpochStart) -> None:
        self.seen.append((event.epoch, event.accumulate))

    @on("epoch.end")
    def ask(self, event: EpochEnd) -> None:
        if event.epoch == 0:
            event.control.set("train.accumulate", self.settings.value, asker=self.name)


class SkipStep(Plugin):
    """Skips the batch that would be step 3, once."""

    skipped = False

    @on("step.start")
    def skip(self, event: StepStart) -> None:
        if event.step == 3 and not self.skipped:
            self.skipped = True
            event.control.skip_batch("for the test", asker=self.name)


class Failing(Plugin):
    """Raises in a look-on handler."""

    @on("step.end")
    def fail(self, event: StepEnd) -> None:
        if event.step == 3:
            raise RuntimeError("out of cheese")


class EmitInStep(Plugin):
    """Does what nobody may: dispatches from within the step."""

    @build("loss")
    def emit(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def emitting(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            from events.catalogue import RUN_CLOSE
            from events.payloads import RunClose

            self.bus[RUN_CLOSE].emit(RunClose(run=parts.run))
            return loss(prediction, target, t, batch)

        return emitting


class EmitEverything(Plugin):
    """Tries every way to fire every signal of the run from within the step, and keeps what each has raised."""

    outcomes: ClassVar[dict[tuple[str, str], str]] = {}

    @build("loss")
    def emit(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def trying(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            for one in self.bus.signals:
                self._try(one)
            return loss(prediction, target, t, batch)

        return trying

    def _try(self, one: Any) -> None:
        ways = {
            "notification": ("emit", (None,)),
            "transform": ("apply", (None, None)),
            "build": ("compose", (None, None)),
        }
        way, arguments = ways[one.spec.kind]
        for name, call in (
            (way, lambda: getattr(one, way)(*arguments)),
            ("send", lambda: one.send(self)),
            ("receivers_for", lambda: list(one.receivers_for(self))),
        ):
            try:
                call()
            except Exception as error:
                self.outcomes[one.name, name] = type(error).__name__
            else:
                self.outcomes[one.name, name] = "fired"


class ReadWeight(Plugin):
    """Reads a number from the device after each step."""

    @on("step.end")
    def read(self, event: StepEnd) -> None:
        next(event.live.modules["unet"].parameters()).sum().item()


class Brighten(Plugin):
    """A device transform that only enqueues."""

    @transform("batch.device")
    def brighten(self, batch: Batch, context: DeviceContext) -> Batch:
        from dataclasses import replace

        return replace(batch, pixels=batch.pixels.clamp(max=0.9))


class NoOp(Plugin):
    """Handles every signal of the catalogue and changes nothing; twenty of these change nothing either."""

    def subscriptions(self) -> Iterator[Subscription]:
        for spec in CATALOGUE:
            handler = self._handler(spec)
            mark = Mark(kind=spec.kind, signal=spec.name, priority=50)
            yield Subscription(mark=mark, method=handler, written=handler, label=f"NoOp.{spec.name}")

    def _handler(self, spec: SignalSpec) -> Callable[..., Any]:
        async def wait(event: Any) -> None:
            pass

        def look(event: Any) -> None:
            pass

        def passing(value: Any, context: Any) -> Any:
            return value

        return passing if spec.kind != "notification" else wait if spec.allows_async else look


class RecordAll(Plugin):
    """Hears every signal of the training process and notes its name; `newest` is the one that heard last."""

    newest: ClassVar["RecordAll"]

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.fired: list[str] = []

    def subscriptions(self) -> Iterator[Subscription]:
        for spec in CATALOGUE:
            if spec.where == "training":
                handler = self._handler(spec)
                mark = Mark(kind=spec.kind, signal=spec.name, priority=1)
                yield Subscription(mark=mark, method=handler, written=handler, label=f"RecordAll.{spec.name}")

    def _handler(self, spec: SignalSpec) -> Callable[..., Any]:
        def look(event: Any) -> None:
            self.fired.append(spec.name)
            RecordAll.newest = self

        def passing(value: Any, context: Any) -> Any:
            look(value)
            return value

        return look if spec.kind == "notification" else passing


class HearAll(RecordAll):
    """Hears those of the loader too, and is asked of all runs what was heard."""

    heard: ClassVar[set[str]] = set()

    def subscriptions(self) -> Iterator[Subscription]:
        for spec in CATALOGUE:
            mark = Mark(kind=spec.kind, signal=spec.name, priority=1)
            handler = self._handler(spec)
            yield Subscription(mark=mark, method=handler, written=handler, label=f"HearAll.{spec.name}")

    def _handler(self, spec: SignalSpec) -> Callable[..., Any]:
        def look(event: Any) -> None:
            self.heard.add(spec.name)

        def passing(value: Any, context: Any) -> Any:
            self.heard.add(spec.name)
            return value

        return look if spec.kind == "notification" else passing


class AskForPreview(Plugin):
    """Asks for pictures of the first step."""

    @on("step.end")
    def ask(self, event: StepEnd) -> None:
        if event.step == 1:
            event.control.preview()


class BreakFile(Plugin):
    """Writes nonsense into a file in a step."""

    class Settings(PluginSettings):
        path: str
        step: int

    @on("step.end")
    def break_it(self, event: StepEnd) -> None:
        if event.step == self.settings.step:
            Path(self.settings.path).write_text("[[prompts")


class FailExport(Plugin):
    """Raises while the model is exported."""

    @transform("checkpoint.tensors")
    def fail(self, tensors: "dict[str, Tensor]", context: ExportContext) -> "dict[str, Tensor]":
        raise RuntimeError("no export today")


class SlowAsyncCounter(Plugin):
    """Counts reports before and after it has waited for something slow."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.handed_over = self.done = 0

    @on("metrics.ready", priority=1)
    def count(self, event: MetricsReady) -> None:
        self.handed_over += 1

    @on("metrics.ready")
    async def report(self, event: MetricsReady) -> None:
        await asyncio.sleep(0.05)
        self.done += 1

    def state_dict(self) -> Mapping[str, Any]:
        return {"handed_over": self.handed_over, "done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.handed_over, self.done = state["handed_over"], state["done"]


class SkipAll(Plugin):
    """Skips whatever comes."""

    @on("step.start")
    def skip(self, event: StepStart) -> None:
        event.control.skip_batch("all of it", asker=self.name)


class Reconfigure(Plugin):
    """Changes the config before anything is built."""

    @transform("run.configure")
    def change(self, config: Any, context: ConfigureContext) -> Any:
        run, train = config.run.model_copy(update={"name": "renamed"}), config.train.model_copy(update={"steps": 2})
        return config.model_copy(update={"run": run, "train": train})


class StopAt(Plugin):
    """Asks the run to stop, without giving a reason."""

    class Settings(PluginSettings):
        step: int

    @on("step.end")
    def stop(self, event: StepEnd) -> None:
        if event.step == self.settings.step:
            event.control.stop("")


class OnlyFirst(Plugin):
    """Leaves one item of the data set."""

    @transform("data.items")
    def first(self, items: Any, context: Any) -> Any:
        return items[:1]


class RampInClassStyle(BasePlugin):
    """Accumulates four batches a step from the second epoch on, as a plugin in the class style would."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def on_epoch_start(self, **kwargs: Any) -> None:
        self.lengths.append(kwargs["epoch_length"])

    def on_epoch_end(self, **kwargs: Any) -> None:
        kwargs["arg_update_callback"]("grad_accum", 4)


class Seen(Plugin):
    """Keeps the batches that are trained on."""

    batches: ClassVar[list[Batch]] = []

    @on("step.start")
    def keep(self, event: StepStart) -> None:
        self.batches.extend(event.batches)


class Dtypes(Plugin):
    """Keeps the dtypes of each module's weights, as trained."""

    seen: ClassVar[dict[str, set[str]]] = {}

    @on("model.ready")
    def look(self, event: ModelReady) -> None:
        for name, module in event.modules.items():
            self.seen[name] = {str(weight.dtype) for weight in module.parameters()}


class Targets(Plugin):
    """Keeps what is to be predicted."""

    seen: ClassVar[list[Any]] = []

    @build("loss")
    def keep(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def kept(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            self.seen.append(target.detach().clone())
            return loss(prediction, target, t, batch)

        return kept


class FailAt(Plugin):
    """Gives a loss that fails in one step."""

    class Settings(PluginSettings):
        step: int

    @on("step.start")
    def remember(self, event: StepStart) -> None:
        self.now = event.step

    @build("loss")
    def give(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def failing(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            if self.now == self.settings.step:
                raise ValueError("broken")
            return loss(prediction, target, t, batch)

        return failing


class PlansAStranger(Plugin):
    """Adds a batch of a picture that is not there."""

    @transform("epoch.plan")
    def add(
        self, batches: tuple[tuple[SampleKey, ...], ...], context: PlanContext
    ) -> tuple[tuple[SampleKey, ...], ...]:
        return (*batches, (SampleKey(context.epoch, len(context.items), 0),))
