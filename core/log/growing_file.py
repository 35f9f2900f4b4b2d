"""Files that grow by a line, whole or not at all, and lose those of steps that are taken again."""

import os
from pathlib import Path


def append(path: Path, line: str) -> None:
    """Write a line at the end. A full disk, which takes its beginning, leaves the file as it was. Raises OSError."""
    rest = f"{line}\n".encode()
    with path.open("ab", buffering=0) as stream:
        end = stream.tell()
        try:
            while rest:
                rest = rest[stream.write(rest) :]
        except OSError:
            stream.truncate(end)
            raise


def rewrite(path: Path, text: str) -> None:
    """Put a text in the place of all that the file holds, at once; nobody sees a part of it. Raises OSError."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
