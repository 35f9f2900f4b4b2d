"""From the names in the config to plugin instances, with hints for misspelt names and every problem at once."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.attached.installed import find_installed
from core.config.file import describe_problem
from core.config.tables import PluginEntry
from events.bus import Bus
from events.errors import AttachError
from events.plugin import Plugin, PluginTable
from events.text_file import TextFile

CLASS_STYLE = "plugins.plugins"
"""The module of the base class of class-style plugins."""


def tables_of(entries: Sequence[PluginEntry]) -> tuple[PluginTable, ...]:
    """The config's enabled entries as the tables that plugins are built from, here and in loader workers."""
    return tuple(
        PluginTable(
            use=entry.use,
            name=entry.name or entry.use.rpartition(".")[2],
            position=position,
            settings=entry.settings,
            priority=entry.priority,
            variations=entry.variations,
            on_error=entry.on_error,
        )
        for position, entry in enumerate(entries)
        if entry.enabled
    )


def build_plugins(tables: Sequence[PluginTable], folder: Path) -> list[tuple[Plugin, PluginTable]]:
    """An instance for each table; modules are found as always, and beside the config in `folder`.

    In the tables that come back the files that settings name have been read, so that whoever builds the plugins anew
    from these has the same text.

    Raises AttachError with a line for each class that cannot be loaded and each setting that is wrong.
    """
    if problems := leading_out(tables, folder):
        raise AttachError(problems)
    find_beside(folder)
    built: list[tuple[Plugin, PluginTable]] = []
    found: list[str] = []
    for table in tables:
        try:
            plugin = build_plugin(table)
            built.append((plugin, with_files(table, plugin)))
        except AttachError as error:
            found += error.problems
    if found:
        raise AttachError(tuple(found))
    return built


def plugin_problems(entries: Sequence[PluginEntry], folder: Path) -> tuple[str, ...]:
    """Everything that is wrong with the plugins of a config, without using them."""
    try:
        Bus().attach(build_plugins(tables_of(entries), folder))
    except AttachError as error:
        return error.problems
    return ()


def load_plugin(use: str, folder: Path, settings: Mapping[str, Any]) -> Plugin:
    """The plugin that a config in `folder` would make of `use` and these settings, for tests. Raises AttachError."""
    table = PluginTable(use=use, name=use.rpartition(".")[2], position=0, settings=settings)
    ((plugin, _),) = build_plugins([table], folder)
    return plugin


def build_plugin(table: PluginTable) -> Plugin:
    """Raises AttachError for a class that cannot be loaded and for settings it does not have."""
    kind = load_class(table)
    try:
        settings = kind.Settings.model_validate(dict(table.settings))
    except ValidationError as error:
        raise AttachError(tuple(_setting_problem(table, kind, problem) for problem in error.errors())) from None
    try:
        return kind(settings, name=table.name)
    except (Exception, SystemExit) as error:
        said = str(error) if isinstance(error, ModuleNotFoundError) else repr(error)
        raise AttachError((f"plugins[{table.position}] {table.use} cannot be made: {said}",)) from error


def with_files(table: PluginTable, plugin: Plugin) -> PluginTable:
    """The table with each file that the plugin's settings have read in the place of its path."""
    settings = {name: getattr(plugin.settings, name) for name in type(plugin.settings).model_fields}
    files = {name: value for name, value in settings.items() if isinstance(value, TextFile)}
    return replace(table, settings={**table.settings, **files}) if files else table


def load_class(table: PluginTable) -> type[Plugin]:
    """The class that `use` names, by its path or by the name that an installed package gives it. Raises AttachError."""
    at = f"plugins[{table.position}].use  {table.use}"
    module_name, dot, class_name = table.use.rpartition(".")
    if not dot:
        try:
            module_name, class_name = find_installed(table.use)
        except LookupError as error:
            raise AttachError((f"{at}: {error.args[0]}",)) from None
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise AttachError((f"{at}: {_missing(module_name, error)}",)) from None
    except (Exception, SystemExit) as error:  # a plugin's module may fail in any way while it is imported
        raise AttachError((f"{at}: importing {module_name} failed: {type(error).__name__}: {error}",)) from error
    kind = getattr(module, class_name, None)
    candidates = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, Plugin)]
    if kind is None:
        raise AttachError((f"{at}: {module_name} has no {class_name}{_hint(class_name, candidates)}",))
    if not (isinstance(kind, type) and issubclass(kind, Plugin)):
        raise AttachError((f"{at}: {class_name} is no subclass of events.Plugin or plugins.plugins.BasePlugin",))
    return kind


def leading_out(tables: Sequence[PluginTable], folder: Path) -> tuple[str, ...]:
    """A line for each plugin whose module would be found beside the config by a link out of its folder; nothing is imported."""
    home = folder.resolve()
    problems = []
    for table in tables:
        place = home
        for part in table.use.split(".")[:-1]:
            place = place / part
            for path in (place, place.with_name(f"{part}.py"), place / "__init__.py"):
                if path.exists() and not path.resolve().is_relative_to(home):
                    problems.append(
                        f"plugins[{table.position}].use  {table.use}: {path} is a link that leads out of {home}, to"
                        f" {path.resolve()}; put the file itself there"
                    )
    return tuple(problems)


def find_beside(folder: Path) -> None:
    """Let plugin modules lie beside the config: `my_plugins/x.py` there, or a `plugins/` folder that joins ours."""
    text = str(folder.resolve())
    if text not in sys.path:
        sys.path.append(text)
    package = importlib.import_module("plugins")
    beside = str(folder.resolve() / "plugins")
    if Path(beside).is_dir() and beside not in package.__path__:
        package.__path__.append(beside)


def bundled_classes() -> dict[str, type[Plugin]]:
    """Every plugin that comes with the trainer, by what `use` names it as; the base of class-style plugins is none."""
    found: dict[str, type[Plugin]] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
        if module.name == CLASS_STYLE:
            continue
        for name, kind in vars(importlib.import_module(module.name)).items():
            is_plugin = isinstance(kind, type) and issubclass(kind, Plugin) and not name.startswith("_")
            if is_plugin and f"{kind.__module__}.".startswith(f"{module.name}."):
                found[f"{module.name}.{name}"] = kind
    return found


def _missing(module_name: str, error: ModuleNotFoundError) -> str:
    missing = error.name or module_name
    if missing != module_name and not module_name.startswith(missing + "."):
        return f"it needs the package {missing!r}, which is not installed"
    package, _, last = module_name.rpartition(".")
    known: list[str] = []
    if package and missing == module_name:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            known += [path.stem for path in Path(place).glob("*.py")]
    return f"there is no module {missing!r}{_hint(last, known)}"


def _hint(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; it has {', '.join(known)}" if 0 < len(known) <= 5 else ""


def _setting_problem(table: PluginTable, kind: type[Plugin], problem: Mapping[str, Any]) -> str:
    location = ".".join(str(part) for part in problem["loc"])
    text = describe_problem(tuple(problem["loc"]), problem, kind.Settings)
    text = text.replace("is not a key of this table", f"is not a setting of {table.use}")
    return f"plugins[{table.position}].{location}  {text}"
