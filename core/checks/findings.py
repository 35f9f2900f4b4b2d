"""What a check has found: lines on what is in order, and problems, of which one does not hide the next."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from events.errors import PluginError

from ..errors import ConfigError, TrainerError


@dataclass(slots=True)
class Findings:
    """Of one check."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def say(self, what: str, text: str) -> None:
        """A line on what is in order."""
        self.lines.append(f"{what:<10}{text}")

    @contextmanager
    def looking(self) -> Generator[None, None, None]:
        """What training would refuse within becomes a problem, and the check goes on behind it."""
        try:
            yield
        except ConfigError as error:
            self.problems += error.problems
        except PluginError as error:
            self.problems.append(str(error).partition("\n")[0])
        except (TrainerError, ValueError, OSError) as error:
            self.problems.append(str(error))
