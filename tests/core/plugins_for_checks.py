"""Plugins that the tests of `run.py check` name in configs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from events import Plugin, PluginSettings, build, on, transform
from events.payloads import DataContext, DataReady, Item, ModelContext, ModelReady, StepEnd, StepParts, WeightFunction

if TYPE_CHECKING:
    from torch import nn


class TellData(Plugin):
    """Writes a file when it hears what a run trains on."""

    class Settings(PluginSettings):
        file: Path

    @on("data.ready")
    def tell(self, event: DataReady) -> None:
        self.settings.file.write_text(f"{len(event.items)}")


class Needs(Plugin):
    """Says what it is told to say of itself."""

    class Settings(PluginSettings):
        problems: tuple[str, ...] = Field((), description="what would go wrong")

    def check(self) -> Iterable[str]:
        return iter(self.settings.problems)


class SaysOne(Plugin):
    """Returns a text where a list of them is meant."""

    def check(self) -> Iterable[str]:
        return "there is no program called banana"


class CannotCheck(Plugin):
    """Fails while it looks."""

    def check(self) -> Iterable[str]:
        yield "port 80 is in use"
        raise LookupError("where is it?")


class ForgetsToReturn(Plugin):
    """Looks, and returns nothing."""

    def check(self) -> Iterable[str]:  # type: ignore[empty-body]  # what it is for
        pass


class DropAll(Plugin):
    """Leaves no item."""

    @transform("data.items")
    def drop(self, items: tuple[Item, ...], context: DataContext) -> tuple[Item, ...]:
        return ()


class MeanWeight(Plugin):
    """Reads values of the model while it is put together."""

    @build("model")
    def read(self, modules: "dict[str, nn.Module]", context: ModelContext) -> "dict[str, nn.Module]":
        for module in modules.values():
            float(next(module.parameters()).mean())
        return modules


class Misspelt(Plugin):
    """Asks the model for a module that it has not."""

    @build("model")
    def look(self, modules: "dict[str, nn.Module]", context: ModelContext) -> "dict[str, nn.Module]":
        modules["untet"].requires_grad_(False)
        return modules


class NoWeight(Plugin):
    """Cannot weigh."""

    @build("weight")
    def weigh(self, weight: WeightFunction, parts: StepParts) -> WeightFunction:
        raise ValueError(f"there is no weight for {parts.prediction}")


class Strict(Plugin):
    """Takes back only what it has stored under this key; `needs_model` has it look at the model before."""

    class Settings(PluginSettings):
        key: str = "count"

    def state_dict(self) -> Mapping[str, Any]:
        return {self.settings.key: 1}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        state[self.settings.key]

    @on("step.end")
    def listen(self, event: StepEnd) -> None:
        pass


class StrictOfModel(Strict):
    """The same, of one that cannot take anything back before it has seen the model."""

    @on("model.ready")
    def remember(self, event: ModelReady) -> None:
        pass
