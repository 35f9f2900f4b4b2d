"""What a plugin is: a class with marked methods, typed settings and, if it has any, state."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from .lane import DEFAULT_SIZE, FullPolicy
from .marks import Mark, marks_of
from .spec import SignalSpec

if TYPE_CHECKING:
    from .bus import Bus
    from .ranks import PluginRanks

OnError = Literal["raise", "warn", "disable"]


class PluginSettings(BaseModel):
    """The settings of a plugin: a typed model in which unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginTable:
    """A plugin as the config names it. It is what travels to a loader worker, which builds the plugin anew."""

    use: str
    """The class in module-path form, `package.module.Class`, or the name that an installed package gives it."""
    name: str
    """Unique in a run; the class's name unless the config says otherwise."""
    position: int
    """Place in the config, counted from 0."""
    settings: Mapping[str, Any]
    priority: int | Mapping[str, int] | None = None
    variations: int | None = None
    """Its random changes to samples repeat after this many; None: each time an item is shown is a draw of its own."""
    on_error: OnError | None = None
    """None: sync handlers raise, async ones are disabled after three failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One method that wants one signal."""

    mark: Mark
    method: Any
    """What is called, bound."""
    written: Any
    """The function the author wrote; its file and line stand in the plan."""
    label: str


class Plugin:
    """Base of every plugin. Mark methods with `@on`, `@transform` and `@build`; override what is needed of the rest."""

    Settings: ClassVar[type[PluginSettings]] = PluginSettings
    version: ClassVar[int] = 1
    """Raise it when the meaning of a stored state or the result of a transform changes."""
    declares: ClassVar[tuple[SignalSpec, ...]] = ()
    """Signals of its own, named `plugin_name.something`; emit them through `self.bus`."""
    reads: ClassVar[tuple[str, ...]] = ()
    """What it takes from items that would else be without effect: fields of ItemSettings, `caption_lines`, `mask`."""
    lane_size: ClassVar[int] = DEFAULT_SIZE
    lane_full: ClassVar[FullPolicy] = "block"
    """What to do when its async handlers fall behind by `lane_size` events."""

    bus: "Bus"
    """The run's signals, set when the plugin is attached."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        self.settings: Any = settings if settings is not None else self.Settings()
        self.name = name or type(self).__name__

    @property
    def ranks(self) -> "PluginRanks":
        """The processes of the run that the plugin is attached to."""
        return self.bus.ranks_of(self)

    def state_dict(self) -> Mapping[str, Any]:
        """What a resumed run needs of this plugin: nested dicts of numbers, strings, lists and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if state:
            raise ValueError(f"{type(self).__name__} stored a state but has no load_state_dict")

    def check(self) -> Iterable[str]:
        """What would go wrong with it here, a sentence each: a program that is not installed, a port that is in use.

        Asked before a run loads its model, and by `run.py check`; it must leave everything as it is.
        """
        return ()

    def close(self) -> None:
        """Called last, however the run ended."""

    def subscriptions(self) -> Iterator[Subscription]:
        """What the plugin subscribes to, in order of definition, base classes first.

        A method overridden without a decorator keeps the marks of the one it overrides; ``name = None`` takes it out.
        """
        names = dict.fromkeys(name for kind in reversed(type(self).__mro__) for name in vars(kind))
        for name in names:
            versions = [vars(kind)[name] for kind in type(self).__mro__ if name in vars(kind)]
            written = versions[0]
            is_property = isinstance(written, property | cached_property)  # which must not be evaluated here
            for mark in _first_marks(versions) if written is not None else ():
                yield Subscription(
                    mark=mark,
                    method=written if is_property else getattr(self, name),
                    written=_function_of(written),
                    label=f"{type(self).__name__}.{name}",
                )


def _first_marks(versions: list[Any]) -> tuple[Mark, ...]:
    """The marks of the first of a method's versions that has any."""
    found = (marks_of(version) or marks_of(_function_of(version)) for version in versions)
    return next((marks for marks in found if marks), ())


def _function_of(written: object) -> Any:
    """The function inside what a class body holds."""
    if isinstance(written, staticmethod | classmethod):
        return written.__func__
    if isinstance(written, property):
        return written.fget
    return written.func if isinstance(written, cached_property) else written
