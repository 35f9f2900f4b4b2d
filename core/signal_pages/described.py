"""The types that signals carry, read from their source: what each is, and its fields with their types and meanings."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import events
from events import payloads

BESIDE = {"control.py": ("Control",), "randomness.py": ("Streams",)}
"""Types of `events` that fields of payloads have, by file."""
SAME_EVERYWHERE = {
    "run": "What stays the same from the first signal to the last.",
    "step": "Counts optimizer steps.",
    "epoch": "Counted from 0.",
    "control": "What may be asked of the run.",
}
"""What names mean that have no docstring of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A field, property or method."""

    name: str
    """With its parameters, if it is a method."""
    type: str
    """Of a method, what it returns."""
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A class, or an alias of a type."""

    name: str
    meaning: str
    """Its docstring."""
    members: tuple[Member, ...] = ()


def described_types() -> dict[str, Described]:
    """Every type of `events.payloads`, and those beside that its fields have, by name in alphabetical order."""
    room = Path(str(events.__file__)).parent
    found = [
        one
        for path in sorted((room / "payloads").glob("*.py"))
        for one in _types_in(path)
        if one.name in payloads.__all__
    ]
    found += [one for file, names in BESIDE.items() for one in _types_in(room / file) if one.name in names]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def _types_in(path: Path) -> Iterator[Described]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, after in zip_longest(body, body[1:]):
        if isinstance(node, ast.ClassDef):
            yield Described(name=node.name, meaning=ast.get_docstring(node) or "", members=tuple(_members_of(node)))
        elif (
            isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name) and not target.id.isupper()
        ):
            meaning = _text_of(after)
            yield Described(name=target.id, meaning=f"`{_type_text(node.value)}`: {meaning}")


def _members_of(node: ast.ClassDef) -> Iterator[Member]:
    for one, after in zip_longest(node.body, node.body[1:]):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            name = one.target.id
            yield Member(
                name=name, type=_type_text(one.annotation), meaning=_text_of(after) or SAME_EVERYWHERE.get(name, "")
            )
        elif isinstance(one, ast.FunctionDef) and not one.name.startswith("_") and one.name != "for_handler":
            is_property = any(ast.unparse(decorator) == "property" for decorator in one.decorator_list)
            name = one.name if is_property else f"{one.name}({_parameters(one)})"
            yield Member(name=name, type=_type_text(one.returns), meaning=ast.get_docstring(one) or "")


def _parameters(function: ast.FunctionDef) -> str:
    function.args.args = function.args.args[1:]  # self
    return ast.unparse(_Unquoted().visit(function.args))


def _type_text(annotation: ast.expr | None) -> str:
    return "None" if annotation is None else ast.unparse(_Unquoted().visit(annotation))


class _Unquoted(ast.NodeTransformer):
    """Types that are written as text become types; the choices of a Literal and defaults stay what they are."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None if node.annotation is None else self.visit(node.annotation)
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        for one in (*node.args, *node.kwonlyargs):
            self.visit(one)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        return node if ast.unparse(node.value) == "Literal" else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.parse(node.value, mode="eval").body if isinstance(node.value, str) else node


def _text_of(node: ast.stmt | None) -> str:
    """The docstring that a field or an alias has behind it."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""
