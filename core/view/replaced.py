"""Small files that are replaced as a whole, to be read again when they have changed."""

import logging
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from ..history.facts import Facts

log = logging.getLogger("signalbox.view")
Kind = TypeVar("Kind", bound=Facts)


class Replaced:
    """What files were like when they were looked at."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, int, int]] = {}
        """Time of change in ns, size and inode."""

    def has_changed(self, path: Path) -> bool:
        """Since this was asked last; a file that was never there has not."""
        try:
            facts = path.stat()
        except OSError:
            return self._seen.pop(path, None) is not None
        found = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        before, self._seen[path] = self._seen.get(path), found
        return found != before

    def is_there(self, path: Path) -> bool:
        """As of the last look."""
        return path in self._seen

    def version(self, path: Path) -> str:
        """Differs when the file is another than before."""
        return str(self._seen[path][0])


def read_facts(path: Path, kind: type[Kind]) -> Kind | None:
    """None for a file that is gone or cannot be read."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError:
        return None
    except ValidationError as error:
        log.warning("%s cannot be read: %s", path, error)
        return None
