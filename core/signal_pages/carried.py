"""What a signal carries: the types of payload, context and value, and how the value is checked, in words."""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache

from events import catalogue, checks
from events.spec import Build, Notification, SignalSpec, Transform


def payload_of(spec: SignalSpec) -> str:
    """The name of the payload, or of a transform's or build signal's context."""
    if isinstance(spec, Notification):
        return spec.payload.__name__
    assert isinstance(spec, Transform | Build)
    return spec.context.__name__


def words_of(spec: SignalSpec) -> str:
    """The value or part, in the catalogue's words; empty for a notification."""
    if isinstance(spec, Transform):
        return spec.value
    return spec.part if isinstance(spec, Build) else ""


def parameter_of(spec: SignalSpec) -> str:
    """What a handler's first parameter is called."""
    return spec.parameters[0]


def type_of(spec: SignalSpec) -> str:
    """The value's or part's type, as the catalogue annotates it; empty for a notification."""
    return _written()[spec.name][0] if spec.name in _written() else ""


def hands_over_a_function(spec: SignalSpec) -> bool:
    """Whether what is carried is called later, within the step."""
    return isinstance(spec, Build) and spec.check is checks.is_callable


def checks_of(spec: SignalSpec) -> Iterator[str]:
    """What a returned value must be, a line for each function of events/checks.py that looks at it."""
    source = _written()[spec.name][1]
    for name in re.findall(r"\w+", source):
        check = getattr(checks, name, None)
        if inspect.isfunction(check):
            shown = source if source.startswith(name) else name
            yield f"`{shown}`: {' '.join((inspect.getdoc(check) or '').split())}"


@cache
def _written() -> dict[str, tuple[str, str]]:
    """By signal, the type of what it carries and the call that checks it, as the catalogue's source has them."""
    found = {}
    for node in ast.parse(inspect.getsource(catalogue)).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call)):
            continue
        words = {word.arg: word.value for word in node.value.keywords}
        if "check" in words:
            text = node.annotation.value if isinstance(node.annotation, ast.Constant) else ast.unparse(node.annotation)
            value = str(text).partition("[")[2].removesuffix("]").rpartition(", ")[0]
            found[ast.literal_eval(words["name"])] = value, ast.unparse(words["check"])
    return found
