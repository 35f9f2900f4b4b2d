"""A text file that a plugin's setting names: read once, and from then on its text is part of the settings.

>>> import tempfile
>>> from events.plugin import PluginSettings
>>> class Settings(PluginSettings):
...     file: TextFile
>>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
...     _ = file.write("grey => gray")
...     file.flush()
...     Settings.model_validate({"file": file.name}).file.text
'grey => gray'
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

MOST_BYTES = 64 * 1024 * 1024


class TextFile:
    """Written in the config as a path. It travels to loader workers with its text, which is what they work with.

    So a file that is edited while a run goes on changes nothing in it, and caches of what follows from the text are
    made anew by the next run. Settings that are dumped as Python objects hold it as it is, as JSON path and digest.
    """

    __slots__ = ("path", "text")

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text

    @classmethod
    def read(cls, path: Path) -> "TextFile":
        """UTF-8, with or without a byte order mark. Raises ValueError with a sentence about the file."""
        try:
            if path.exists() and not path.is_file():
                raise ValueError(f"{path} is no regular file")
            if path.stat().st_size > MOST_BYTES:
                raise ValueError(f"{path} is larger than {MOST_BYTES // 1024**2} MiB; is it the right file?")
            return cls(path, path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is no UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"
            ) from None
        except FileNotFoundError:
            raise ValueError(f"{path} does not exist (seen from {Path.cwd()})") from None
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None

    def lines(self) -> Iterator[tuple[int, str]]:
        """(number, text) of each line that is neither empty nor a comment, which begins with #; without blanks around."""
        for number, line in enumerate(self.text.splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield number, line.strip()

    def at(self, number: int) -> str:
        """The place of a line for a message: `words.txt, line 3`."""
        return f"{self.path}, line {number}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextFile) and (self.path, self.text) == (other.path, other.text)

    def __hash__(self) -> int:
        return hash((self.path, self.text))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @classmethod
    def _of(cls, given: Any) -> "TextFile":
        if isinstance(given, cls):
            return given
        if not isinstance(given, str | Path) or not str(given):
            raise ValueError(f"{given!r} is not the path of a file")
        return cls.read(Path(given))

    def _told(self) -> dict[str, str]:
        """What stands for it in JSON, and so in the keys of caches."""
        digest = hashlib.blake2b(self.text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return {"path": str(self.path), "digest": digest}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        told = core_schema.plain_serializer_function_ser_schema(cls._told, when_used="json")
        return core_schema.no_info_plain_validator_function(cls._of, serialization=told)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "format": "path"}
