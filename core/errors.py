"""The errors a user can do something about. They are shown without a traceback; anything else is our bug and keeps it."""

from collections.abc import Sequence


class TrainerError(Exception):
    """Base. The message has the key or path, what was found and what to do."""

    exit_code = 2


class ConfigError(TrainerError):
    """The config, the command line or a plugin named in it cannot be used; `problems` holds them all."""

    exit_code = 2

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"{source}: {count} problem{'' if count == 1 else 's'}{lines}")


class DataError(TrainerError):
    exit_code = 3


class CheckpointError(TrainerError):
    exit_code = 4


class NonFiniteError(TrainerError):
    """The loss or a gradient was not finite too often in a row; no weight was touched by it."""

    exit_code = 5


class ResourceError(TrainerError):
    """Disk or memory does not suffice; what was trained is saved where that was possible."""

    exit_code = 7


class OutOfMemoryError(ResourceError):
    """Memory ran out, also at the second attempt."""


PLUGIN_EXIT_CODE = 6
"""For events.errors.PluginError, which keeps the traceback of the plugin's own exception."""
