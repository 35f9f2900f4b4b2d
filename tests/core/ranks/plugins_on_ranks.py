"""Plugins that tests of several processes name in configs: they note where they are called, and some do what none may."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from events import Plugin, PluginSettings, build, on, transform
from events.errors import CollectiveRefused
from events.payloads import (
    ConfigureContext,
    EpochEnd,
    EpochStart,
    LearningRateFunction,
    ModelContext,
    ModelReady,
    RunClose,
    RunStart,
    SampleContext,
    StepEnd,
)
from events.plugin import Subscription
from plugins.plugins import BasePlugin


class Everywhere(Plugin):
    """Notes what is told to each rank, in `everywhere-<rank>.json` of the run's folder."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.noted: dict[str, list[Any]] = {"steps": [], "epochs": [], "refused": [], "samples": []}

    @on("step.end", ranks="all", collective=True)
    def exchange_in_a_step(self, event: StepEnd) -> None:
        self.noted["steps"].append(self.ranks.gather([self.ranks.rank, event.step]))
        self.noted["samples"].append([len(event.sample_ids), sum(len(one.sample_ids) for one in event.stand_ins)])

    @on("epoch.end", ranks="all", collective=True)
    def exchange_after_an_epoch(self, event: EpochEnd) -> None:
        for _ in range(2):
            self.noted["epochs"].append(self.ranks.gather({"rank": self.ranks.rank, "mean": event.mean_loss}))

    @on("epoch.start", ranks="all")
    def forget_to_declare(self, event: EpochStart) -> None:
        try:
            self.ranks.gather(0)
        except CollectiveRefused as error:
            self.noted["refused"].append(str(error))

    @on("run.close", ranks="all")
    def write(self, event: RunClose) -> None:
        told = {"rank": self.ranks.rank, "count": self.ranks.count, "is_main": self.ranks.is_main}
        (event.run.folder / f"everywhere-{self.ranks.rank}.json").write_text(json.dumps(self.noted | told))


class InWorkers(Plugin):
    """Notes which rank each process is told to be where samples are made, in files beside the config."""

    class Settings(PluginSettings):
        folder: Path

    @transform("sample.caption")
    def note(self, caption: str, sample: SampleContext) -> str:
        with (self.settings.folder / f"maker-{os.getpid()}").open("w") as file:
            file.write(f"{self.ranks.rank} {self.ranks.count}")
        return caption


class ByTorchAlone(Plugin):
    """Exchanges between ranks without saying so."""

    @on("epoch.end", ranks="all")
    def add_up(self, event: EpochEnd) -> None:
        import torch
        import torch.distributed as dist

        if dist.is_initialized():
            dist.all_reduce(torch.ones(1))


class FailsOnTheSecond(Plugin):
    """Ends its rank after the third step."""

    @on("step.end", ranks="all")
    def fail(self, event: StepEnd) -> None:
        if self.ranks.rank == 1 and event.step == 3:
            raise ValueError("rank 1 has had enough")


class ClassStyle(BasePlugin):
    """In the class style, on every rank."""

    runs_on = "all"

    def on_training_end(self, log_folder: str, **kwargs: Any) -> None:
        Path(log_folder, f"class-style-{self.ranks.rank}").touch()


class ClassStyleOnMain(BasePlugin):
    """Likewise, where its signals have it."""

    def on_training_end(self, log_folder: str, **kwargs: Any) -> None:
        Path(log_folder, f"class-style-on-main-{self.ranks.rank}").touch()


def own_rank() -> int:
    """As the launcher has told it."""
    return int(os.environ.get("RANK", "0"))


class AnotherOrder(Plugin):
    """Its handlers stand in another order on other ranks, as with another version of a package there."""

    def subscriptions(self) -> Iterator[Subscription]:
        found = list(super().subscriptions())
        yield from found if own_rank() == 0 else reversed(found)

    @on("model.ready")
    def first(self, event: ModelReady) -> None: ...

    @on("model.ready")
    def second(self, event: ModelReady) -> None: ...


class AnotherFactor(Plugin):
    """Goes by what a handler of the main rank alone has noted, as authors may forget."""

    _factor = 1.0

    @on("run.start")
    def note(self, event: RunStart) -> None:
        self._factor = 0.5

    @build("schedule")
    def scale(self, factor: LearningRateFunction, context: ModelContext) -> LearningRateFunction:
        return lambda steps_taken: self._factor * factor(steps_taken)


class AnotherRate(Plugin):
    """Another learning rate on other ranks."""

    @transform("run.configure")
    def change(self, config: Any, context: ConfigureContext) -> Any:
        rate = config.train.learning_rate * (1 + own_rank())
        return config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": rate})})
