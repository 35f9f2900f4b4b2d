"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TextIO

from ..errors import ConfigError


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """A text file to write, which takes its name when it is complete; what stood there stays until then.

    Halves of characters, which file names may hold, are written as their numbers. Raises ConfigError for a place that
    cannot be written to.
    """
    beside = path.with_name(f".{path.name[:200]}-{token_hex(8)}")  # nobody can have put a link there
    try:
        file = beside.open("x", encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise _refusal(path, error) from error
    try:
        with file:
            yield file
        try:
            beside.replace(path)
        except OSError as error:
            raise _refusal(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def _refusal(path: Path, error: OSError) -> ConfigError:
    return ConfigError(str(path), [f"cannot be written: {error.strerror}"])
