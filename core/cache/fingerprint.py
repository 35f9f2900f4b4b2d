"""A fingerprint of a transform handler: its plugin, version, settings, and the source that it follows from.

The source is the plugin's class and whatever of the same module it names, followed from name to name, as syntax trees:
comments and layout do not count. Modules that lie beside it and that it imports count as a whole. What cannot be read
as source counts by name and version alone.
"""

import ast
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from events.bus import Bus
from events.plugin import Plugin
from events.spec import SignalSpec

from .keys import digest


def transforms_before(bus: Bus, *specs: SignalSpec) -> tuple[str, ...]:
    """The fingerprints of these signals' handlers, in the order in which they run."""
    found: list[str] = []
    for signal in bus.signals:
        if any(signal.spec is spec for spec in specs):
            found += [
                f"{signal.name} {handler.label} {fingerprint(bus.plugins[handler.plugin], handler.plugin)}"
                for handler in signal.handlers
            ]
    return tuple(found)


def fingerprint(plugin: Plugin, name: str) -> str:
    """Of one plugin, under its name in the config, since its random draws follow from that too."""
    kind = type(plugin)
    settings = plugin.settings.model_dump(mode="json")
    sources = [source_digest(one) for one in kind.__mro__ if one.__module__ not in ("builtins", "events.plugin")]
    return digest(name, f"{kind.__module__}.{kind.__qualname__}", plugin.version, settings, sources).hex()


def source_digest(kind: type) -> str:
    """Of a class and what it names in its module."""
    module = sys.modules.get(kind.__module__)
    tree = _tree_of(module)
    if module is None or tree is None:
        return kind.__qualname__
    definitions = dict(_definitions(tree))
    wanted, taken = [kind.__qualname__.partition(".")[0]], dict[str, str]()
    while wanted:
        name = wanted.pop()
        if name in taken or name not in definitions:
            continue
        node = definitions[name]
        taken[name] = (
            ast.dump(node) if not isinstance(node, ast.Import | ast.ImportFrom) else _imported(module, name, node)
        )
        wanted += [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    return digest(sorted(taken.items())).hex()


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """What each name at the top level of a module stands for."""
    for node in ast.walk(tree):  # also inside `if TYPE_CHECKING:` and `try:`
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node in tree.body:
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        yield name.id, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield (alias.asname or alias.name).partition(".")[0], node


def _imported(module: ModuleType, name: str, node: ast.Import | ast.ImportFrom) -> str:
    """Text of the module that a name comes from, if it lies beside; else only what is imported."""
    here = getattr(module, "__file__", None)
    for source in _sources(module, name, node):
        there = getattr(source, "__file__", None)
        if here and there and source is not module and Path(there).parent == Path(here).parent:
            tree = _tree_of(source)
            return ast.dump(tree) if tree is not None else ast.dump(node)
    return ast.dump(node)


def _sources(module: ModuleType, name: str, node: ast.Import | ast.ImportFrom) -> Iterator[ModuleType]:
    """The modules that an import may have taken the name from, the most particular first."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names if (alias.asname or alias.name).partition(".")[0] == name]
    else:
        origin = "." * node.level + (node.module or "")
        if node.level:
            origin = importlib.util.resolve_name(origin, module.__package__ or "")
        originals = [alias.name for alias in node.names if (alias.asname or alias.name) == name]
        names = [f"{origin}.{original}" for original in originals] + [origin]
    yield from (sys.modules[one] for one in names if one in sys.modules)


def _tree_of(module: ModuleType | None) -> ast.Module | None:
    """The syntax of the module's file, which a run reads once at its start."""
    if module is None:
        return None
    file = inspect.getsourcefile(module) if getattr(module, "__file__", None) else None
    try:
        return ast.parse(Path(file).read_bytes()) if file else None
    except (OSError, SyntaxError, ValueError):
        return None
