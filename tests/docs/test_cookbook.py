"""The recipes of the cookbook are short, and each makes of real values what its lines say."""

import ast
import importlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli

from core.config.file import validate
from events import Plugin
from plugins.loading import build_plugins, tables_of
from tests.docs.cookbook import Kitchen, listening, outcome
from tests.docs.pages import LEAST, blocks
from tests.small_runs import ROOT, Run

PAGE = ROOT / "docs" / "cookbook.md"
MOST_LINES = 29
"""Of code; empty lines and the one that names the file are none."""
ARROW = " -> "


@dataclass(frozen=True)
class Recipe:
    """A section with a plugin, its table and its lines."""

    title: str
    file: str
    code: str
    table: str
    lines: tuple[tuple[str, str], ...]

    def save(self, project: Path) -> list[Plugin]:
        """Written into a folder, and built as the table says."""
        (project / self.file).write_text(self.code, encoding="utf-8")
        importlib.invalidate_caches()
        config, problems = validate(LEAST | tomli.loads(self.table))
        assert config is not None, problems
        return [plugin for plugin, _ in build_plugins(tables_of(config.plugins), project)]


def recipes() -> list[Recipe]:
    titles = list(re.finditer(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    parts = [[block for block in blocks(PAGE) if block.language == language] for language in ("python", "toml", "text")]
    assert [len(part) for part in parts] == [len(titles)] * 3, "a recipe is a plugin, a table and lines"
    return [
        Recipe(title[1], code.file, code.text, table.text, tuple(_halves(line) for line in text.text.splitlines()))
        for title, code, table, text in zip(titles, *parts, strict=True)
    ]


def _halves(line: str) -> tuple[str, str]:
    before, arrow, after = line.partition(ARROW)
    assert arrow, line
    return before, after


RECIPES = recipes()
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)


@each_recipe
def test_a_recipe_is_shorter_than_30_lines(recipe: Recipe) -> None:
    assert sum(bool(line.strip()) for line in recipe.code.splitlines()[1:]) <= MOST_LINES


@each_recipe
def test_a_recipe_is_a_file_of_its_own_that_is_no_bundled_plugin(recipe: Recipe) -> None:
    assert not (ROOT / recipe.file).exists()
    assert [one.file for one in RECIPES].count(recipe.file) == 1


@each_recipe
def test_a_table_names_every_plugin_of_its_recipe(recipe: Recipe) -> None:
    defined = {node.name for node in ast.parse(recipe.code).body if isinstance(node, ast.ClassDef) and node.bases}
    used = {table["use"].rpartition(".")[2] for table in tomli.loads(recipe.table)["plugins"]}
    assert used == {name for name in defined if not name.endswith("Settings")}


@each_recipe
def test_a_recipe_makes_what_its_lines_say(recipe: Recipe, project: Path) -> None:
    plugins = recipe.save(project)
    assert recipe.lines
    made = []
    for number, (before, _) in enumerate(recipe.lines):
        folder = project / str(number)
        folder.mkdir()
        made.append((before, outcome(Kitchen(plugins, folder), before)))
    assert made == list(recipe.lines)


@each_recipe
def test_at_least_one_line_of_a_recipe_changes_something(recipe: Recipe) -> None:
    assert any(before != after for before, after in recipe.lines)


def test_a_run_trains_with_all_of_them_at_once(
    project: Path, train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = "\n".join(recipe.table for recipe in RECIPES).replace("side = 512", "side = 32").replace("500 =", "2 =")
    for recipe in RECIPES:
        (project / recipe.file).write_text(recipe.code, encoding="utf-8")
    importlib.invalidate_caches()
    with listening() as (address, heard):
        monkeypatch.setenv("CHAT_URL", address)
        run = train("train.steps=4", "preview.every_steps=2", plugins=f"\n{tables}")
    assert run.exit_code == 0
    assert [body["text"] for body in heard][-1] == "test: checkpoint at step 4"
    assert {path.name for path in run.folder.glob("sheet-*.png")} >= {"sheet-000002.png"}
    assert len(list((run.folder / "previews" / "step-000002").glob("0*.png"))) == 3  # two of the run, one of the recipe
    state: Any = json.loads((sorted((run.folder / "checkpoints").glob("step-*"))[-1] / "state.json").read_text())
    assert {"SmoothLoss", "BestEpoch"} <= set(state["plugins"])
