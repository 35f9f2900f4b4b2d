"""A handler of a signal to copy from, and the line by which a test fires the signal."""

import inspect
import re
from collections.abc import Iterator

from events import payloads, testing
from events.spec import Notification, SignalSpec

from .carried import parameter_of, payload_of, type_of

DECORATORS = {"notification": "on", "transform": "transform", "build": "build"}
METHODS = {"notification": "emit", "transform": "apply", "build": "compose"}
"""Of the harness for tests."""
HEAVY = {"torch.": "import torch", "Image.": "from PIL import Image"}
"""How a type begins that is of a heavy library, and what imports it for type checkers."""


def decorator_of(spec: SignalSpec, *options: str) -> str:
    """Such as `@on("epoch.end")`; a part is named without its room."""
    arguments = ", ".join((f'"{short_name(spec)}"', *options))
    return f"@{DECORATORS[spec.kind]}({arguments})"


def short_name(spec: SignalSpec) -> str:
    return spec.name.removeprefix("build.")


def example(spec: SignalSpec) -> Iterator[str]:
    """The lines of a plugin that handles the signal and changes nothing."""
    value, heavy = type_of(spec), [line for start, line in HEAVY.items() if start in type_of(spec)]
    yield f"# plugins/at_{spec.name.replace('.', '_')}.py"
    if standard := [name for name, is_used in (("TYPE_CHECKING", heavy), ("Any", "Any" in value)) if is_used]:
        yield from (f"from typing import {', '.join(standard)}", "")
    named = sorted({payload_of(spec), *(set(re.findall(r"\w+", value)) & set(payloads.__all__))})
    yield f"from events import Plugin, {DECORATORS[spec.kind]}"
    yield f"from events.payloads import {', '.join(named)}"
    if heavy:
        yield from ("", "if TYPE_CHECKING:", *(f"    {line}" for line in heavy))
    title = "".join(part.title() for part in re.split(r"[._]", spec.name))
    yield from ("", "", f"class At{title}(Plugin):", f"    {decorator_of(spec)}", *_method(spec, bool(heavy)))


def _method(spec: SignalSpec, is_heavy: bool) -> Iterator[str]:
    if isinstance(spec, Notification):
        yield f"    def handle(self, event: {payload_of(spec)}) -> None:"
        yield "        print(event)"
        return
    kind = f'"{type_of(spec)}"' if is_heavy else type_of(spec)
    yield f"    def handle(self, {parameter_of(spec)}: {kind}, context: {payload_of(spec)}) -> {kind}:"
    yield f"        return {parameter_of(spec)}"


def firing(spec: SignalSpec) -> str:
    """The call that fires it in a test, with the function of events.testing that makes its payload."""
    maker = maker_of(spec)
    taken = inspect.signature(getattr(testing, maker)).parameters.values()
    needed = [one.name for one in taken if one.default is one.empty and one.kind is not one.VAR_POSITIONAL]
    payload = f"{maker}({', '.join(needed)})"
    given = payload if isinstance(spec, Notification) else f"{parameter_of(spec)}, {payload}"
    return f'Harness(plugin).{METHODS[spec.kind]}("{short_name(spec)}", {given})'


def maker_of(spec: SignalSpec) -> str:
    """The function of events.testing that makes the payload or context."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", payload_of(spec)).lower()
