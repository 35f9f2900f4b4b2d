"""How this command line was called, for what tells users what to type: `python run.py` in a clone, or `signalbox`."""

import sys
from pathlib import PurePath

INSTALLED = "signalbox"
"""The command that the package installs."""


def invocation() -> list[str]:
    """The words that a command begins with, as it was typed."""
    return words_of(sys.argv[0])


def words_of(program: str) -> list[str]:
    """Of a process that was started as `program`.

    >>> words_of("/somewhere/bin/signalbox"), words_of("run.py")
    (['signalbox'], ['python', 'run.py'])
    """
    return [INSTALLED] if PurePath(program).stem == INSTALLED else ["python", "run.py"]


def typed(arguments: str) -> str:
    """The command with these arguments.

    >>> typed("runs").endswith(" runs")
    True
    """
    return " ".join([*invocation(), arguments])
