"""The page of the bundled plugins is as its script writes it, and each plugin that changes pictures has one there."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from core.config.file import validate
from events import Plugin
from plugins.loading import build_plugins, bundled_classes, tables_of
from tests.small_runs import ROOT

PAGE = ROOT / "docs" / "plugins.md"
TEXT = PAGE.read_text(encoding="utf-8")
OF_PICTURES = {"sample.image", "sample.crop", "sample.pixels"}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "docs" / "make_plugin_pictures.py"
    spec = importlib.util.spec_from_file_location("make_plugin_pictures", path)
    assert spec is not None
    assert spec.loader is not None
    before = list(sys.path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def signals_of(kind: type[Plugin]) -> set[str]:
    marks = [getattr(value, "__signalbox_marks__", ()) for value in vars(kind).values()]
    return {mark.signal for some in marks for mark in some}


KINDS = bundled_classes()
CHANGES_PICTURES = [use for use, kind in KINDS.items() if signals_of(kind) & OF_PICTURES]
CHANGES_CAPTIONS = [use for use in KINDS if use.startswith("plugins.caption")]


def test_its_tables_are_those_of_the_plugins(script: ModuleType) -> None:
    assert script.with_tables(TEXT) == TEXT, "python docs/make_plugin_pictures.py writes them anew"


def test_every_mark_names_a_plugin_and_has_an_end() -> None:
    marks = [line for line in TEXT.splitlines() if line.startswith("<!-- ")]
    assert all(one.startswith("<!-- settings ") for one in marks[::2])
    assert set(marks[1::2]) == {"<!-- end -->"}
    assert {one.split()[2] for one in marks[::2]} == set(KINDS), "every bundled plugin has a section"


@pytest.mark.parametrize("use", CHANGES_PICTURES + CHANGES_CAPTIONS)
def test_a_plugin_of_captions_or_pictures_has_its_section(use: str) -> None:
    assert f"\n### {use.rpartition('.')[2]}\n" in TEXT
    assert f"<!-- settings {use} -->" in TEXT
    assert f'use = "{use}"' in TEXT


@pytest.mark.parametrize("use", CHANGES_PICTURES)
def test_a_plugin_of_pictures_is_shown_as_it_was_and_with_three_settings(script: ModuleType, use: str) -> None:
    name = use.rpartition(".")[2]
    assert f"![{name}](images/plugins/{name}.png)" in TEXT
    assert len(script.SHOWN[use]) == 3
    with Image.open(ROOT / "docs" / "images" / "plugins" / f"{name}.png") as picture:
        assert picture.width > 4 * script.SIZE
        picture.verify()


def test_each_shown_setting_changes_the_picture(script: ModuleType) -> None:
    for use, shown in script.SHOWN.items():
        plugins = [KINDS[use](KINDS[use].Settings(**settings)) for _, settings in shown]
        seen = [script.made(plugin, script.scene(), epoch) for epoch, plugin in enumerate(plugins)]
        assert len({picture.tobytes() for picture in [script.scene(), *seen]}) == 4, use


def test_its_examples_are_plugins_that_can_be_made(tmp_path: Path) -> None:
    import tomli

    examples = [block.partition("```")[0] for block in TEXT.split("```toml\n")[1:]]
    assert len(examples) >= len(CHANGES_PICTURES + CHANGES_CAPTIONS)
    for example in examples:
        config, problems = validate({"model": {"path": "m"}, "data": {"root": "d"}} | tomli.loads(example))
        assert problems == []
        assert config is not None
        assert build_plugins(tables_of(config.plugins), tmp_path)


def test_a_table_says_what_a_setting_may_be(script: ModuleType) -> None:
    table = script.table_of(KINDS["plugins.image_crop.CropJitter"])
    assert "| `scale` | number or [low, high], 0.01 to 1 | `[0.8, 1.0]` | share of the area |\n" in table
    assert "| `place` | `random`, `same` |" in table
    assert "| `file` | path | it is needed |" in script.table_of(KINDS["plugins.image_lut.Lut"])
    assert "| `keep` | whole number, from 0 | `1` |" in script.table_of(KINDS["plugins.captions.DropTags"])
    assert script.table_of(KINDS["plugins.captions.Wildcards"]) == "It has no settings.\n"
    assert "a \\| b &lt;c> `<d>`" in script.escaped("a | b <c> `<d>`")
