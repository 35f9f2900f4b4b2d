"""What plugins say would go wrong with them in this environment, asked before anything is loaded."""

from collections.abc import Iterator

from events.bus import Bus
from events.plugin import Plugin

from ..errors import ConfigError


def plugin_problems(bus: Bus) -> list[str]:
    """A line for each thing that `Plugin.check` of any plugin says, or that it fails with."""
    return [problem for name, plugin in bus.plugins.items() for problem in _problems(name, plugin)]


def require_fit_plugins(bus: Bus) -> None:
    """Raises ConfigError with all that plugins say would go wrong."""
    if problems := plugin_problems(bus):
        raise ConfigError("plugins", problems)


def _problems(name: str, plugin: Plugin) -> Iterator[str]:
    try:
        found = plugin.check() or ()
        for problem in [found] if isinstance(found, str) else found:
            yield f"{name}  {problem}"
    except (Exception, SystemExit) as error:
        yield f"{name}  its own check failed: {type(error).__name__}: {error}"
