"""The documentation is true: its plugins run, its excerpts are in the code, and whatever it names is there."""

import ast
import importlib.util
import re
import shlex
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli
import typer
from pydantic import TypeAdapter

import core.errors
import run
from core.config.file import override, validate
from core.config.tables import Config
from core.preview.prompts import PromptEntry
from events import Plugin
from events.bus import Bus
from events.catalogue import CATALOGUE
from events.plugin import PluginTable
from plugins.loading import build_plugins
from plugins.plugins import HOOKS
from tests.docs.pages import (
    LEAST,
    PAGES,
    Block,
    all_blocks,
    blocks,
    name_of,
    named,
    plugin_tables,
    prose,
    table_rows,
    write_project,
    written_files,
)
from tests.small_runs import ROOT

FOLDERS = ("core", "events", "plugins", "examples", "tests", "docs", "benchmarks", ".ci")
FILE_SUFFIXES = (".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".csv", ".png", ".safetensors")
SIGNALS = {spec.name: spec for spec in CATALOGUE}
KEYS = {
    f"{table}.{key}"
    for table, field in Config.model_fields.items()
    if table != "plugins"
    for key in field.annotation.model_fields  # type: ignore[union-attr]  # every other field is a table
}


PAGES_WITH_FILES = [page for page in PAGES if written_files(page)]
USERS_FILES = {block.file for page in PAGES for block in written_files(page)}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# what a page asks to write


@pytest.mark.parametrize("block", all_blocks("python"), ids=str)
def test_every_python_block_says_which_file_it_is(block: Block) -> None:
    assert block.file, "the first line is the file's path as a comment"


@pytest.mark.parametrize("page", PAGES_WITH_FILES, ids=name_of)
def test_the_plugins_of_a_page_attach_with_the_settings_it_gives_them(page: Path, project: Path) -> None:
    paths = write_project(page, project)
    tables = plugin_tables(page)
    for path in paths:
        if path.parent.name == "plugins":
            module = importlib.import_module(f"plugins.{path.stem}")
            defined = [name for name, kind in vars(module).items() if _is_plugin_of(module, kind)]
            assert defined, f"{path.name} defines no plugin"
            used = {table.use for table in tables}
            rest = [f"plugins.{path.stem}.{name}" for name in defined if f"plugins.{path.stem}.{name}" not in used]
            tables += [PluginTable(use=use, name=use, position=len(tables), settings={}) for use in rest]
    bus = Bus()
    bus.attach(build_plugins(tables, project), where=("training", "worker"))
    bus.seal()
    subscribed = {handler.plugin for signal in bus.signals for handler in signal.handlers}
    assert subscribed == {table.name for table in tables}
    bus.close()


@pytest.mark.parametrize("page", PAGES_WITH_FILES, ids=name_of)
def test_the_tests_of_a_page_pass(page: Path, project: Path) -> None:
    for path in write_project(page, project):
        if path.parent.name == "tests":
            functions = {name: value for name, value in vars(load(path)).items() if name.startswith("test_")}
            assert functions
            for function in functions.values():
                function()


def _is_plugin_of(module: ModuleType, kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Plugin) and kind.__module__ == module.__name__


# what a page quotes


@pytest.mark.parametrize("block", [block for block in all_blocks("python") if block.is_excerpt], ids=str)
def test_an_excerpt_is_in_the_code(block: Block) -> None:
    quoted = [line.strip() for line in block.text.strip().splitlines()[1:]]
    code = [line.strip() for line in (ROOT / block.file).read_text(encoding="utf-8").splitlines()]
    assert any(code[place : place + len(quoted)] == quoted for place in range(len(code)))


@pytest.mark.parametrize("block", all_blocks("toml"), ids=str)
def test_a_toml_block_is_a_valid_part_of_a_config_or_of_a_prompts_file(block: Block) -> None:
    tree = tomli.loads(block.text)
    if "prompts" in tree:
        TypeAdapter(tuple[PromptEntry, ...]).validate_python(tree["prompts"])
        return
    merged = {table: LEAST.get(table, {}) | values for table, values in tree.items() if isinstance(values, dict)}
    assert validate(LEAST | tree | merged)[1] == []


def commands() -> list[tuple[str, str]]:
    """Every line with run.py of the pages, in blocks and in sentences."""
    lines = [(str(block), line) for block in all_blocks("sh") for line in block.text.splitlines()]
    lines += [(name_of(page), text) for page in PAGES for text in named(page)]
    return [(place, line.partition("#")[0]) for place, line in lines if line.startswith("python run.py")]


@pytest.mark.parametrize(("place", "line"), commands())
def test_a_command_exists_with_its_options_and_the_keys_it_sets(place: str, line: str) -> None:
    words = shlex.split(line)[2:]
    name = words[0] if words and words[0] in run.COMMANDS else "train"
    options = {option for one in typer.main.get_command(run.app).commands[name].params for option in one.opts}  # type: ignore[attr-defined]
    assert {word for word in words if word.startswith("--")} <= options
    overrides = [value for word, value in pairwise(words) if word == "--set"]
    tree: dict[str, Any] = {table: dict(values) for table, values in LEAST.items()}
    assert list(override(tree, overrides)) + validate(tree)[1] == []


# what a page names


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(page))
    lost = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_tests_that_it_names_exist(page: Path) -> None:
    for name in named(page):
        path, _, test = name.partition("::")
        if not re.fullmatch(r"[\w./-]+", path) or path in USERS_FILES:
            continue
        if path.partition("/")[0] in FOLDERS and "/" in path:
            assert (ROOT / path).exists(), name
        if test:
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_signals_and_keys_that_it_names_exist(page: Path) -> None:
    rooms = {name.partition(".")[0] for name in (*SIGNALS, *KEYS)}
    for name in named(page):
        is_file = name.endswith(FILE_SUFFIXES)
        if re.fullmatch(r"[a-z_]+\.[a-z_]+", name) and not is_file and name.partition(".")[0] in rooms:
            assert name in SIGNALS or name in KEYS, name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_decorators_in_sentences_fit_their_signals(page: Path) -> None:
    kinds = {"on": "notification", "transform": "transform", "build": "build"}
    for decorator, name in re.findall(r"@(on|transform|build)\(\"([\w.]+)\"", prose(page)):
        signal = SIGNALS[f"build.{name}" if decorator == "build" else name]
        assert signal.kind == kinds[decorator], name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_classes_and_modules_that_it_names_exist(page: Path) -> None:
    for name in named(page):
        if not re.fullmatch(r"(core|events|plugins)(\.\w+)+", name) or name.endswith(FILE_SUFFIXES):
            continue
        parts = name.split(".")
        if _module_file(parts) is None:
            module = _module_file(parts[:-1])
            assert module is not None, name
            assert parts[-1] in _defined_in(module), name


def _module_file(parts: list[str]) -> Path | None:
    place = ROOT.joinpath(*parts)
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _defined_in(path: Path) -> set[str]:
    """Classes and functions, and in a package what it takes from its modules."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    taken = (alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names)
    return {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)} | set(taken)


# tables and trees


def tree_of_the_readme() -> list[str]:
    """Paths of the README's tree."""
    block = next(block for block in blocks(ROOT / "README.md", "text") if block.text.startswith("run.py"))
    paths, folder = [], ""
    for line in block.text.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name if name.endswith("/") else ""
        paths.append(folder + name if line.startswith(" ") else name)
    return paths


def test_the_tree_names_what_is_there() -> None:
    assert [path for path in tree_of_the_readme() if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("package", ["core", "events", "plugins"])
def test_the_tree_names_all_of_a_package(package: str) -> None:
    inside = [path for path in (ROOT / package).iterdir() if path.suffix in (".py", ".pyi") or path.is_dir()]
    there = {f"{package}/{path.name}{'/' * path.is_dir()}" for path in inside if not path.name.startswith("__")}
    assert there == {path for path in tree_of_the_readme() if path.startswith(f"{package}/") and path != f"{package}/"}


@pytest.mark.parametrize("mark", ["run", "test"])
def test_the_two_commands_are_one_line_each(mark: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^<!-- {mark} -->\n```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [block.count("\n") for block in found] == [1]


def test_the_table_of_signals_is_the_catalogue() -> None:
    rows = [row for row in table_rows(ROOT / "docs" / "design.md", 5) if row[0].strip("`") in SIGNALS]
    allowed = {True: "yes", False: "no"}
    assert rows == [
        [f"`{spec.name}`", spec.kind, spec.where, spec.carries, allowed[spec.allows_async]] for spec in CATALOGUE
    ]


def test_the_tables_of_class_style_methods_are_its_hooks() -> None:
    rows = [row for row in table_rows(ROOT / "docs" / "class-style-plugins.md", 3) if row[0].strip("`") in HOOKS]
    told = {row[0].strip("`"): (row[1].strip("`"), tuple(re.findall(r"`(\w+)`", row[2]))) for row in rows}
    assert told == {
        name: (hook.signal, tuple(name for names in hook.given for name in names)) for name, hook in HOOKS.items()
    }


def test_the_scorecard_has_every_row_of_the_campaign() -> None:
    from tests.faults.rows import all_rows

    told = [row for row in table_rows(ROOT / "docs" / "reliability.md", 2) if re.fullmatch(r"[FS]\d+", row[0])]
    assert told == [[row.id, row.title + ("" if row.trials else " (not yet)")] for row in all_rows().values()]


def test_the_exit_codes_are_those_of_the_errors_that_are_raised() -> None:
    explained = {int(row[0]) for row in table_rows(ROOT / "docs" / "training.md", 2) if row[0].isdigit()}
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "core").rglob("*.py"))
    kinds = [kind for kind in vars(core.errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")]
    raised = {kind.exit_code for kind in kinds if f"raise {kind.__name__}(" in code}
    assert explained == raised | {core.errors.PLUGIN_EXIT_CODE} | {0, 1, 130, 143}
