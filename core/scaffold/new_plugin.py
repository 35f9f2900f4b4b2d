"""What `run.py new plugin NAME` writes: a plugin with settings and a handler of each kind, and a test of it that passes.

The texts lie beside this file, `$module` and `$kind` standing for the names of the plugin's module and class.
"""

import keyword
import re
from collections.abc import Collection, Iterator
from importlib.util import find_spec
from pathlib import Path
from string import Template

from events.attach import WORD_STARTS

from ..errors import ConfigError
from ..invocation import typed

SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
CAMEL = re.compile(r"[A-Z][A-Za-z0-9]*")
LONGEST = 40
"""Letters of a name."""


def write_plugin(name: str, folder: Path, taken: Collection[str]) -> Iterator[str]:
    """Write `plugins/NAME.py` and `tests/test_NAME.py` into the folder; yields what to tell the author.

    `taken` are the modules of `plugins` that are found before those beside a config. Raises ConfigError for a name that
    cannot be, a folder that is not there, and a file that is.
    """
    module, kind = names_of(name)
    is_clone = (folder / "events" / "catalogue.py").is_file()
    texts = {
        folder / "plugins" / f"{module}.py": _text("plugin", module, kind, is_clone=is_clone),
        folder / "tests" / f"test_{module}.py": _text("test", module, kind, is_clone=is_clone),
    }
    problems = [*_problems_with(module, kind, taken), *_problems_at(folder, texts)]
    if problems:
        raise ConfigError("new plugin", problems)
    try:
        for path, text in texts.items():
            path.parent.mkdir(exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError("new plugin", [f"{error.filename} cannot be written: {error.strerror}"]) from None
    return _told(module, kind, *texts)


def names_of(name: str) -> tuple[str, str]:
    """Of the module and of the class, from either. Raises ConfigError for a name in neither form.

    >>> names_of("soft_light"), names_of("SoftLight"), names_of("HSLShift")
    (('soft_light', 'SoftLight'), ('soft_light', 'SoftLight'), ('hsl_shift', 'HSLShift'))
    """
    if len(name) <= LONGEST and SNAKE.fullmatch(name):
        return name, "".join(part.capitalize() for part in name.split("_"))
    if len(name) <= LONGEST and CAMEL.fullmatch(name):
        return WORD_STARTS.sub("_", name).lower(), name
    raise ConfigError("new plugin", [f"{name!r} is no name of up to {LONGEST} letters such as soft_light or SoftLight"])


def _problems_with(module: str, kind: str, taken: Collection[str]) -> Iterator[str]:
    if keyword.iskeyword(module) or keyword.iskeyword(kind):
        yield f"{module} is a word of Python's own; take another name"
    elif module in taken:
        yield f"plugins.{module} is there already, beside the trainer, and is found first; take another name"
    elif re.search(rf"\b{kind}\b", _template("plugin") + _template("test")):
        yield f"{kind} is the name of something that the plugin needs; take another name"


def _problems_at(folder: Path, paths: Collection[Path]) -> Iterator[str]:
    if not folder.is_dir():
        yield f"--folder  {folder} is no folder; name the one that your config lies in"
    yield from (f"{path} is there already, and nothing is overwritten" for path in paths if path.exists())


def _told(module: str, kind: str, plugin: Path, test: Path) -> Iterator[str]:
    yield f"{plugin} is written, and {test}. Name it in your config:"
    yield f'\n[[plugins]]\nuse = "plugins.{module}.{kind}"\nword = "shiny"\n'
    missing = "" if find_spec("pytest") else ", which needs pip install pytest"
    yield f"test it with: python -m pytest {test}{missing}"
    yield f"see what it handles with: {typed('plan')}"


def _text(name: str, module: str, kind: str, *, is_clone: bool) -> str:
    """In a clone the packages are the author's own, and stand behind other libraries; elsewhere they are among them."""
    text = Template(_template(name)).substitute(module=module, kind=kind)
    if is_clone:
        for line in ("from pydantic import Field\n", "import pytest\n"):
            if line in text:
                text = text.replace(line, "", 1).replace("\nfrom events", f"\n{line}\nfrom events", 1)
    return text


def _template(name: str) -> str:
    return Path(__file__).with_name(f"{name}.py.template").read_text(encoding="utf-8")
