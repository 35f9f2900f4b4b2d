"""Writes `events/subscribe.pyi`, the decorators as type checkers see them: `python -m tests.events.make_subscribe_stub`.

Each signal of the catalogue is an overload whose type variable is bound to what its handlers look like, so that a method
keeps its own type and one with several decorators must fit each. Names that the catalogue does not have, which may be of
signals that plugins declare, take any method. `tests/events/test_subscribe_stub.py` holds the file against the catalogue.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from events import catalogue, payloads
from events.catalogue import CATALOGUE
from events.spec import Build, Notification, SignalSpec

STUB = Path(catalogue.__file__).with_name("subscribe.pyi")
HEAD = '''\
"""The decorators as type checkers see them. Generated from the catalogue: python -m tests.events.make_subscribe_stub"""

from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeAlias, TypeVar, overload

import torch
from PIL import Image

from .payloads import (
{payloads}
)
from .ranks import On

E = TypeVar("E")
V = TypeVar("V")
C = TypeVar("C")
Handler = TypeVar("Handler", bound=Callable[..., Any])

# What handlers look like: methods, and static methods, which have no self.
Looks: TypeAlias = Callable[[Any, E], None] | Callable[[E], None]
Waits: TypeAlias = Callable[[Any, E], Coroutine[Any, Any, None]] | Callable[[E], Coroutine[Any, Any, None]]
Changes: TypeAlias = Callable[[Any, V, C], V] | Callable[[V, C], V]

# For signals of another kind: no method takes nothing, and the name that is told says which decorator does.
UseOn = TypeVar("UseOn", bound=Callable[[], None])
UseTransform = TypeVar("UseTransform", bound=Callable[[], None])
UseBuild = TypeVar("UseBuild", bound=Callable[[], None])
{names}
{shapes}
'''
KINDS = {"notification": "on", "transform": "transform", "build": "build"}
"""The decorator of each kind of signal."""
PARAMETERS = {
    "on": "signal: {}, *, priority: int = ..., ranks: On | None = ..., collective: bool = ...",
    "transform": "signal: {}, *, priority: int = ..., training_only: bool = ...",
    "build": "part: {}, *, priority: int = ...",
}
WIDTH = 120


def stub() -> str:
    """The text of the file."""
    shapes = {_variable(spec): _shape_of(spec) for spec in CATALOGUE}
    used = set(re.findall(r"\w+", " ".join(shapes.values()))) & set(payloads.__all__)
    head = HEAD.format(
        payloads="\n".join(f"    {name}," for name in sorted(used)),
        names="\n".join(_alias(decorator) for decorator in KINDS.values()),
        shapes="\n".join(f'{name} = TypeVar("{name}", bound={shape})' for name, shape in shapes.items()),
    )
    return head + "".join(f"\n{line}" for decorator in KINDS.values() for line in _overloads(decorator)) + "\n"


def _overloads(decorator: str) -> Iterator[str]:
    """Its own signals, those of other kinds, and any other name."""
    for spec in _signals_of(decorator):
        name = spec.name.removeprefix("build.")
        names = f'"{name}"' if name == spec.name else f'"{name}", "{spec.name}"'
        yield _overload(decorator, f"Literal[{names}]", _variable(spec))
    for other in KINDS.values():
        if other != decorator != "build":  # which puts `build.` before any name
            yield _overload(decorator, _name_of_alias(other), f"Use{other.title()}")
    yield _overload(decorator, "str", "Handler")


def _overload(decorator: str, names: str, variable: str) -> str:
    """Broken where the formatter would break it."""
    parameters, returns = PARAMETERS[decorator].format(names), f"Callable[[{variable}], {variable}]: ..."
    line = f"def {decorator}({parameters}) -> {returns}"
    return "@overload\n" + (line if len(line) <= WIDTH else f"def {decorator}(\n    {parameters}\n) -> {returns}")


def _alias(decorator: str) -> str:
    """All signals of a decorator."""
    names = "".join(f'    "{spec.name}",\n' for spec in _signals_of(decorator))
    return f"{_name_of_alias(decorator)}: TypeAlias = Literal[\n{names}]"


def _name_of_alias(decorator: str) -> str:
    return f"SignalsOf{decorator.title()}"


def _signals_of(decorator: str) -> list[SignalSpec]:
    return [spec for spec in CATALOGUE if KINDS[spec.kind] == decorator]


def _variable(spec: SignalSpec) -> str:
    """The name that a type checker tells: `TakesEpochEnd`, `ChangesSampleCaption`, `BuildsLoss`."""
    if isinstance(spec, Notification):
        return f"Takes{spec.payload.__name__}"
    name = "".join(part.title() for part in re.split(r"[._]", spec.name.removeprefix("build.")))
    return f"Builds{name}" if isinstance(spec, Build) else f"Changes{name}"


def _shape_of(spec: SignalSpec) -> str:
    """What its handlers look like, as the bound of a type variable."""
    if isinstance(spec, Notification):
        payload = spec.payload.__name__
        return f"Looks[{payload}] | Waits[{payload}]" if spec.allows_async else f"Looks[{payload}]"
    return f"Changes[{_carried(spec)}]"


def _carried(spec: SignalSpec) -> str:
    """Value and context of a transform or build signal, as its annotation in the catalogue names them."""
    constant = spec.name.upper().replace(".", "_")
    for node in ast.parse(inspect.getsource(catalogue)).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == constant:
            annotation = node.annotation
            text = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
            return str(text).partition("[")[2].removesuffix("]")
    raise LookupError(f"{constant} in events/catalogue.py needs an annotation that names its value and context")


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
