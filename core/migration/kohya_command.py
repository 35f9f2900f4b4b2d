"""The command line of one of kohya's scripts, as it stands in a shell file: the script and its arguments."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ..errors import ConfigError

CONTINUED = {"\\": r"\\\r?\n", "^": r"\^\r?\n", "`": r"`\r?\n"}
"""How a command goes on in the next line: of shells, of Windows' batch files, of PowerShell."""
WINDOWS = (".bat", ".cmd", ".ps1")
COMMENTS = ("#", "::", "REM ", "rem ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line taken apart."""

    script: str
    """Such as `sdxl_train_network`; empty where none is named."""
    launcher: dict[str, Any]
    """Arguments before the script, which are accelerate's."""
    arguments: dict[str, Any]
    """True for one without a value, text for one value, a list for several."""


def read_command(file: str, content: str) -> Command:
    """The one command of a file that trains. Raises ConfigError where there is none, or several, or a stray word."""
    try:
        words = list(_words(file, content))
    except ValueError as error:
        raise ConfigError(file, [f"cannot be read as a command line: {error}"]) from None
    scripts = [place for place, word in enumerate(words) if word.endswith(".py") and not _is_value(words, place)]
    if len(scripts) > 1:
        named = ", ".join(words[place] for place in scripts)
        raise ConfigError(file, [f"has {len(scripts)} commands ({named}); give each a file of its own"])
    start = scripts[0] if scripts else next((n for n, word in enumerate(words) if word.startswith("--")), len(words))
    arguments = _arguments(file, words[start + bool(scripts) :])
    if not arguments:
        raise ConfigError(file, ["has no argument of the form --name value"])
    before = words[: scripts[0]] if scripts else []
    first = next((place for place, word in enumerate(before) if word.startswith("--")), len(before))
    return Command(
        script=PurePath(words[scripts[0]].replace("\\", "/")).stem if scripts else "",
        launcher=_arguments(file, before[first:]),
        arguments=arguments,
    )


def _words(file: str, content: str) -> Iterator[str]:
    """The words of the lines that hold arguments; comments and other commands are passed over."""
    is_windows = file.lower().endswith(WINDOWS)
    for sign in ("^", "`", "\\") if is_windows else ("\\",):
        content = re.sub(CONTINUED[sign], " ", content)
    for line in content.splitlines():
        if line.strip().startswith(COMMENTS) or "--" not in line:
            continue
        lexer = shlex.shlex(line, posix=True)
        lexer.whitespace_split = True
        if is_windows:  # where a backslash is part of a path, and # of a name
            lexer.escape, lexer.commenters = "", ""
        yield from lexer


def _is_value(words: list[str], place: int) -> bool:
    """Whether a word belongs to the argument before it."""
    return (
        place > 0
        and words[place - 1].startswith("--")
        and "=" not in words[place - 1]
        and _takes_value(words[place - 1])
    )


def _takes_value(name: str) -> bool:
    """Of the arguments of accelerate launch, those that stand alone."""
    return name.lstrip("-") not in ("multi_gpu", "quiet", "use_deepspeed", "use_fsdp", "cpu", "same_network", "debug")


def _arguments(file: str, words: list[str]) -> dict[str, Any]:
    found: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            found[name] = [value] if equals else []
        elif not name:
            raise ConfigError(file, [f"{word!r} stands where an argument of the form --name was expected"])
        else:
            found[name].append(word)
    return {name: True if not values else values[0] if len(values) == 1 else values for name, values in found.items()}
