"""A plugin is found by its dotted path, beside the config too, and whatever keeps it from being made is said by name.

All plugins of a config are tried, so that every problem is told at once.
"""

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import plugins
from core.config.tables import Config, PluginEntry
from events import Plugin
from events.errors import AttachError
from events.plugin import PluginTable
from plugins.captions import Affix, ShuffleTags
from plugins.loading import build_plugin, build_plugins, load_class, tables_of

GOOD = """
from events import Plugin, PluginSettings, on

class Settings(PluginSettings):
    strength: float = 1.0
    words: tuple[str, ...] = ()

class Painter(Plugin):
    Settings = Settings

class Bystander:
    pass
"""


@pytest.fixture(autouse=True)
def imports_as_before() -> Iterator[None]:
    """What loading adds to the import system is taken back, so that no test finds another's modules."""
    path, places, modules = list(sys.path), list(plugins.__path__), set(sys.modules)
    yield
    sys.path[:], plugins.__path__[:] = path, places
    for name in set(sys.modules) - modules:
        if not hasattr(sys.modules[name], "__file__") or "/site-packages/" not in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a module beside the config: `write("mine.py", "text")`; returns the config's folder."""

    def write_module(name: str, text: str = GOOD) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path

    return write_module


def table(use: str, **settings: Any) -> PluginTable:
    return PluginTable(use=use, name=use.rpartition(".")[2], position=3, settings=settings)


def problems(folder: Path, *tables: PluginTable) -> list[str]:
    with pytest.raises(AttachError) as caught:
        build_plugins(tables, folder)
    return list(caught.value.problems)


def test_the_short_form_is_a_table_with_defaults() -> None:
    (entry,) = tables_of([PluginEntry(use="plugins.captions.Affix")])
    assert entry == PluginTable(use="plugins.captions.Affix", name="Affix", position=0, settings={})


def test_a_table_carries_name_priority_and_settings() -> None:
    entry = {
        "use": "plugins.captions.Affix",
        "name": "mine",
        "priority": {"sample.caption": 7},
        "on_error": "warn",
        "prefix": "a ",
    }
    (made,) = tables_of([PluginEntry.model_validate(entry)])
    assert (made.name, made.priority, made.on_error) == ("mine", {"sample.caption": 7}, "warn")
    assert made.settings == {"prefix": "a "}


def test_a_plugin_that_is_switched_off_is_left_out() -> None:
    off = {"use": "no.such.Plugin", "enabled": False}
    config = Config.model_validate(
        {"model": {"path": "m"}, "data": {"root": "d"}, "plugins": [off, "plugins.captions.Affix"]}
    )
    assert [made.use for made in tables_of(config.plugins)] == ["plugins.captions.Affix"]


def test_plugins_are_made_in_the_order_of_the_config_with_name_and_settings(tmp_path: Path) -> None:
    tables = [table("plugins.captions.ShuffleTags", keep=2), table("plugins.captions.Affix", prefix="a ")]
    (shuffle, _), (affix, affix_table) = build_plugins(tables, tmp_path)
    assert isinstance(shuffle, ShuffleTags)
    assert isinstance(affix, Affix)
    assert (shuffle.settings.keep, affix.settings.prefix, affix.name) == (2, "a ", "Affix")
    assert affix_table is tables[1]


def test_plugins_that_are_made_anew_have_the_text_of_their_files_as_it_was_first_read(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("grey => gray")
    use, settings = "plugins.caption_words.ReplaceWords", {"file": str(path), "ignore_case": False}
    ((_, read),) = build_plugins([table(use, **settings)], tmp_path)
    path.write_text("grey => silver")
    for given in (read, pickle.loads(pickle.dumps(read))):
        ((plugin, _),) = build_plugins([given], tmp_path)
        assert plugin.settings.file.text == "grey => gray"
        assert plugin.settings.ignore_case is False
    ((plugin, _),) = build_plugins([table(use, **settings)], tmp_path)
    assert plugin.settings.file.text == "grey => silver"


def test_a_file_of_a_setting_that_cannot_be_read_is_told_with_the_others(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("grey gray")
    use = "plugins.caption_words.ReplaceWords"
    found = problems(
        tmp_path,
        table(use, file=str(tmp_path / "words.txt")),
        table(use, file="no.txt"),
        table("plugins.captions.Affi"),
    )
    assert "words.txt, line 1: 'grey gray' is not of the form old => new" in found[0]
    assert found[1].startswith("plugins[3].file  no.txt does not exist")
    assert len(found) == 3


def test_every_call_makes_new_instances(tmp_path: Path) -> None:
    tables = [table("plugins.captions.Affix")]
    assert build_plugins(tables, tmp_path)[0][0] is not build_plugins(tables, tmp_path)[0][0]


def test_a_module_beside_the_config_is_found(write: Callable[..., Path]) -> None:
    folder = write("beside_config.py")
    ((plugin, _),) = build_plugins([table("beside_config.Painter", strength=2.0)], folder)
    assert isinstance(plugin, Plugin)
    assert plugin.settings.strength == 2.0


def test_a_plugins_folder_beside_the_config_joins_ours(write: Callable[..., Path]) -> None:
    folder = write("plugins/my_painter.py")
    built = build_plugins([table("plugins.my_painter.Painter"), table("plugins.captions.Affix")], folder)
    assert [type(plugin).__name__ for plugin, _ in built] == ["Painter", "Affix"]


def test_a_folder_beside_the_config_never_hides_our_own(write: Callable[..., Path]) -> None:
    folder = write("plugins/captions.py", "class Affix: pass")
    ((plugin, _),) = build_plugins([table("plugins.captions.Affix")], folder)
    assert isinstance(plugin, Affix)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("plugins.caption.Affix", "there is no module 'plugins.caption'; did you mean 'captions'?"),
        ("nowhere.at.all.Painter", "there is no module 'nowhere'"),
        ("plugins.captions.Afix", "plugins.captions has no Afix; did you mean 'Affix'?"),
        ("broken_painter.Bystander", "Bystander is no subclass of events.Plugin or plugins.plugins.BasePlugin"),
        ("broken_painter.nobody", "broken_painter has no nobody"),
        ("raises_at_import.X", "importing raises_at_import failed: ZeroDivisionError: division by zero"),
        ("half_written.X", "importing half_written failed: SyntaxError"),
        ("needs_more.X", "it needs the package 'no_such_package', which is not installed"),
    ],
)
def test_a_class_that_cannot_be_loaded_is_named_with_the_reason(
    write: Callable[..., Path], use: str, said: str
) -> None:
    write("broken_painter.py")
    write("raises_at_import.py", "1 / 0")
    write("half_written.py", "class X(")
    folder = write("needs_more.py", "import no_such_package.part")
    (problem,) = problems(folder, table(use))
    assert problem.startswith(f"plugins[3].use  {use}: ")
    assert said in problem


def test_a_syntax_error_is_told_with_its_place(write: Callable[..., Path]) -> None:
    (problem,) = problems(write("half_written.py", "\n\nclass X(:\n"), table("half_written.X"))
    assert "half_written.py, line 3" in problem


def test_an_unknown_setting_is_named_with_a_hint() -> None:
    with pytest.raises(AttachError) as caught:
        build_plugin(table("plugins.captions.ShuffleTags", keeep=2))
    assert caught.value.problems == (
        "plugins[3].keeep  is not a setting of plugins.captions.ShuffleTags; did you mean 'keep'?",
    )


def test_a_setting_of_the_wrong_type_is_named_with_what_was_found(write: Callable[..., Path]) -> None:
    folder = write("typed_painter.py")
    told = problems(folder, table("typed_painter.Painter", strength="much", words=[1]))
    assert [line.split("  ")[0] for line in told] == ["plugins[3].strength", "plugins[3].words.0"]
    assert "'much': input should be a valid number" in told[0]


def test_settings_cannot_be_changed_afterwards() -> None:
    plugin = build_plugin(table("plugins.captions.Affix"))
    with pytest.raises(ValueError, match="frozen"):
        plugin.settings.prefix = "b"


def test_a_plugin_that_cannot_be_made_is_named(write: Callable[..., Path]) -> None:
    text = (
        GOOD
        + "\nclass Fragile(Plugin):\n    def __init__(self, settings=None, *, name=''):\n        raise OSError('no file')\n"
    )
    (problem,) = problems(write("fragile_painter.py", text), table("fragile_painter.Fragile"))
    assert problem == "plugins[3] fragile_painter.Fragile cannot be made: OSError('no file')"


def test_a_plugin_that_misses_a_package_says_so_in_words(write: Callable[..., Path]) -> None:
    says = "raise ModuleNotFoundError('paint is not installed; pip install paint')"
    text = GOOD + f"\nclass Dry(Plugin):\n    def __init__(self, settings=None, *, name=''):\n        {says}\n"
    (problem,) = problems(write("dry_painter.py", text), table("dry_painter.Dry"))
    assert problem == "plugins[3] dry_painter.Dry cannot be made: paint is not installed; pip install paint"


def test_every_problem_of_every_plugin_is_told_at_once(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        table("plugins.caption.Affix"),
        table("plugins.captions.Affix", sufix="x", prefx="y"),
        table("plugins.captions.ShuffleTags"),
        table("plugins.captions.Afix"),
    )
    assert len(told) == 4


def test_a_class_is_found_without_making_it() -> None:
    assert load_class(table("plugins.captions.Affix")) is Affix


def test_a_module_that_ends_the_program_when_imported_is_a_problem_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving_plugin.py").write_text("import sys\nsys.exit()\n")
    monkeypatch.syspath_prepend(tmp_path)
    table = PluginTable(use="leaving_plugin.Leaver", name="Leaver", position=0, settings={})
    with pytest.raises(AttachError, match=r"importing leaving_plugin failed: SystemExit"):
        load_class(table)


@pytest.mark.parametrize("place", ["linked.py", "package/linked.py", "plugins/linked.py"])
def test_a_link_out_of_the_configs_folder_is_refused_before_it_is_imported(
    write: Callable[..., Path], place: str
) -> None:
    folder = write("config/other.py")
    outside = write("outside.py", "1 / 0")
    link = folder / "config" / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside / "outside.py")
    use = f"{place.removesuffix('.py').replace('/', '.')}.Painter"
    (problem,) = problems(folder / "config", table(use))
    assert "linked.py is a link that leads out of" in problem


def test_a_link_within_the_configs_folder_is_followed(write: Callable[..., Path]) -> None:
    folder = write("kept_here.py")
    (folder / "linked_here.py").symlink_to(folder / "kept_here.py")
    ((plugin, _),) = build_plugins([table("linked_here.Painter")], folder)
    assert isinstance(plugin, Plugin)
