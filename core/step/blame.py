"""Whose function failed inside the closed step, where no handler runs that the bus could name."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

from events.bus import Bus
from events.errors import PluginError
from events.plugin import Plugin


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One call on the way to where an error was raised."""

    module: str
    code: CodeType
    line: int
    variables: Mapping[str, Any]


def plugin_error(error: BaseException, bus: Bus, step: int) -> PluginError | None:
    """The error as that of the plugin in whose module it came up last; None when no plugin's code was on the way."""
    frames = list(_frames(error.__traceback__))[::-1]
    for place, frame in enumerate(frames):
        names = [name for name, plugin in bus.plugins.items() if frame.module in _modules(plugin)]
        if names:
            here = [one for one in frames[place:] if one.module == frame.module]
            return _named(error, bus, _narrowed(names, here, bus), here, step)
    return None


def _named(error: BaseException, bus: Bus, names: list[str], here: list[Frame], step: int) -> PluginError:
    who, signal = " or ".join(names), _signal_of(bus, names, here)
    given = f", which it gave at {signal}," if signal else ""
    said = f"plugin {who} failed in {here[0].code.co_qualname} ({_place_of(here[0])}){given} in step {step}"
    message = f"{said}: {type(error).__name__}: {error}{_what_rank_lacks(bus, names)}"
    return PluginError(message, plugin=who, signal=signal)


def _what_rank_lacks(bus: Bus, names: list[str]) -> str:
    """On another rank than the main one: which of the plugin's handlers have not run there, which may be why."""
    if bus.ranks.is_main:
        return ""
    lacking = [
        signal.name
        for signal in bus.signals
        if any(handler.plugin in names and handler.ranks == "main" for handler in signal.planned)
    ]
    if not lacking:
        return ""
    return f'. On rank {bus.ranks.rank} its handlers of {", ".join(lacking)} do not run; @on(..., ranks="all") has them run'


def _narrowed(names: list[str], here: list[Frame], bus: Bus) -> list[str]:
    """Of the plugins of one module those that a call belongs to: by instance, else by the name of its class."""
    for frame in here:
        own = [name for name in names if any(value is bus.plugins[name] for value in frame.variables.values())]
        if own:
            return own
    for frame in here:
        kind = frame.code.co_qualname.partition(".")[0]
        own = [name for name in names if any(kind == one.__name__ for one in _classes(bus.plugins[name]))]
        if own:
            return own
    return names


def _signal_of(bus: Bus, names: list[str], here: list[Frame]) -> str:
    """The signal of the handler within which one of the functions was written; nothing where none was."""
    labels = {frame.code.co_qualname.partition(".<locals>")[0] for frame in here}
    handlers = (handler for signal in bus.signals for handler in signal.handlers)
    return next((one.signal for one in handlers if one.plugin in names and one.label in labels), "")


def _frames(traceback: TracebackType | None) -> Iterator[Frame]:
    """Outermost first."""
    while traceback is not None:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__", ""))
        yield Frame(module=module, code=frame.f_code, line=traceback.tb_lineno, variables=frame.f_locals)
        traceback = traceback.tb_next


def _classes(plugin: Plugin) -> list[type]:
    """The plugin's own and those that it is derived from, without what every plugin is."""
    return [kind for kind in type(plugin).__mro__ if kind not in Plugin.__mro__]


def _modules(plugin: Plugin) -> set[str]:
    return {kind.__module__ for kind in _classes(plugin)}


def _place_of(frame: Frame) -> str:
    path = Path(frame.code.co_filename)
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}:{frame.line}"
