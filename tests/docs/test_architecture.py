"""The map of the rooms names every room, in the order that the imports are held to."""

import re
import tomllib

from tests.small_runs import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROOMS = {path.parent.name for path in (ROOT / "core").glob("*/__init__.py")}


def test_its_layers_are_those_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one["name"].startswith("what a run is built from"))
    block = PAGE.partition("```text\nrun.py")[2].partition("```")[0]
    shown = [re.findall(r"core/(\w+)", line) for line in block.splitlines()[1:]]
    assert shown == [re.findall(r"core\.(\w+)", layer) for layer in layers]


def test_every_room_is_on_it() -> None:
    named = set(re.findall(r"core/(\w+)", PAGE))
    assert set() == ROOMS - named


def test_every_room_is_in_the_tree_of_the_readme() -> None:
    tree = (ROOT / "README.md").read_text().partition("\ncore/ ")[2].partition("\nplugins/ ")[0]
    assert set(re.findall(r"^  (\w+)/", tree, re.M)) == ROOMS
