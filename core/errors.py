"""The errors a user can do something about. They are shown without a traceback; anything else is our bug and keeps it."""

from collections.abc import Sequence

from events.errors import PluginError


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


class LostRankError(TrainerError):
    """Of several processes one is gone or stands still, and nothing says why."""

    exit_code = 8


class OtherRankError(TrainerError):
    """Another rank has ended with an error of its own, which it tells; this one ends too, with the same exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    @classmethod
    def of(cls, rank: int, said: str, exit_code: int) -> "OtherRankError":
        """What the others raise when this rank has said why it ends."""
        return cls(f"rank {rank} ended: {said.splitlines()[0] if said else 'no reason given'}", exit_code)


PLUGIN_EXIT_CODE = 6
"""For events.errors.PluginError, which keeps the traceback of the plugin's own exception."""


def exit_code_of(error: BaseException) -> int:
    """What the process ends with for an error that nobody mends; 130 for an interruption, 1 for one of ours."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, PluginError):
        return PLUGIN_EXIT_CODE
    return error.exit_code if isinstance(error, TrainerError) else 1
