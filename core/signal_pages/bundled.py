"""Which of the plugins that come along handle a signal, read from the marks on their methods."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from events.marks import Mark, marks_of
from events.plugin import Plugin


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """A handler of a plugin."""

    use: str
    """What a config names the plugin as."""
    file: str
    """From the root of the repository."""
    method: str
    mark: Mark


def handlers_of(kinds: Mapping[str, type[Plugin]], hooks: Mapping[str, str], signal: str) -> list[Handled]:
    """The plugins' handlers of a signal by priority; `hooks` are the methods of class-style plugins, with their signals."""
    found = [one for use, kind in kinds.items() for one in _handlers(use, kind, hooks) if one.mark.signal == signal]
    return sorted(found, key=lambda one: (one.mark.priority, one.use, one.method))


def _handlers(use: str, kind: type[Plugin], hooks: Mapping[str, str]) -> Iterator[Handled]:
    file = f"{kind.__module__.replace('.', '/')}.py"
    for name in dir(kind):
        marks = marks_of(inspect.getattr_static(kind, name))
        if not marks and name in vars(kind) and name in hooks:
            marks = (Mark(kind="notification", signal=hooks[name]),)
        for mark in marks:
            yield Handled(use=use, file=file, method=name, mark=mark)
