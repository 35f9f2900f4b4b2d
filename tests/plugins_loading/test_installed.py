"""A plugin that a package offers by an entry point is used when the config names it, and never imported otherwise.

The packages here are real wheels, installed by pip into a folder of their own.
"""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.config.tables import PluginEntry
from events.errors import AttachError
from events.plugin import PluginTable
from plugins.loading import build_plugins, load_plugin, plugin_problems, tables_of
from tests.small_runs import Run
from tests.warm import run_py

PLUGIN = """
import multiprocessing
from pathlib import Path

from events import Plugin, PluginSettings, transform
from events.payloads import SampleContext


class Sparkle(Plugin):
    class Settings(PluginSettings):
        folder: Path = Path()
        word: str = "sparkling"

    @transform("sample.caption")
    def add(self, caption: str, sample: SampleContext) -> str:
        place = "worker" if multiprocessing.parent_process() else "training"
        (self.settings.folder / place).touch()
        return f"{self.settings.word} {caption}"
"""
BROKEN = "raise AssertionError('imported without being named')"
Install = Callable[..., None]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that packages are installed into; what was imported from it is forgotten."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def install(site: Path, tmp_path: Path) -> Install:
    """Install a package with one module: `install("sparkle-one", "sparkle = sparkle_one:Sparkle")`."""

    def install_package(name: str, entry: str, text: str = PLUGIN) -> None:
        module, described = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
        wheel = tmp_path / f"{module}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as file:
            file.writestr(f"{module}.py", text)
            file.writestr(f"{described}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            file.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr(f"{described}/entry_points.txt", f"[signalbox.plugins]\n{entry}\n")
            file.writestr(f"{described}/RECORD", "")
        command = ("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(site), str(wheel))
        subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=120)

    return install_package


def problem(folder: Path, use: str) -> str:
    table = PluginTable(use=use, name=use, position=2, settings={})
    with pytest.raises(AttachError) as caught:
        build_plugins([table], folder)
    (said,) = caught.value.problems
    return said.removeprefix(f"plugins[2].use  {use}: ")


def test_it_is_made_by_its_name_with_settings(install: Install, tmp_path: Path) -> None:
    install("sparkle-one", "sparkle = sparkle_one:Sparkle")
    (table,) = tables_of([PluginEntry.model_validate({"use": "sparkle", "word": "shining"})])
    ((plugin, _),) = build_plugins([table], tmp_path)
    assert (type(plugin).__qualname__, plugin.name, plugin.settings.word) == ("Sparkle", "sparkle", "shining")
    assert load_plugin("sparkle", tmp_path, {"word": "grim"}).settings.word == "grim"


def test_what_the_config_does_not_name_is_never_imported(install: Install, tmp_path: Path) -> None:
    install("sparkle-one", "sparkle = sparkle_one:Sparkle", BROKEN)
    used = [PluginEntry(use="plugins.captions.Affix"), PluginEntry(use="sparkle", enabled=False)]
    assert plugin_problems(used, tmp_path) == ()
    assert "did you mean 'sparkle'?" in problem(tmp_path, "sparkel")
    assert "sparkle_one" not in sys.modules
    assert "imported without being named" in problem(tmp_path, "sparkle")


def test_a_name_that_nobody_offers_is_told_with_those_that_are_offered(install: Install, tmp_path: Path) -> None:
    assert problem(tmp_path, "sparkle").startswith("no installed package offers a plugin of this name; ")
    install("sparkle-one", "sparkle = sparkle_one:Sparkle\nglow = sparkle_one:Glow")
    assert problem(tmp_path, "sparkles").endswith("; did you mean 'sparkle'?")
    said = problem(tmp_path, "Affix")
    assert "; they offer glow, sparkle; a class is named with its module, as in package.module.Class" in said


def test_two_packages_that_offer_one_name_are_both_named_and_neither_is_imported(
    install: Install, tmp_path: Path
) -> None:
    install("sparkle-one", "sparkle = sparkle_one:Sparkle", BROKEN)
    install("sparkle-two", "sparkle = sparkle_two:Sparkle", BROKEN)
    assert problem(tmp_path, "sparkle") == (
        "several installed packages offer it: sparkle-one, sparkle-two; name the class that is meant:"
        " sparkle_one.Sparkle, sparkle_two.Sparkle"
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("sparkle = sparkle_one", "package sparkle-one offers 'sparkle_one'; an entry point is written module:Class"),
        ("sparkle = sparkle_one:Sparkel", "sparkle_one has no Sparkel; did you mean 'Sparkle'?"),
        ("sparkle = sparkle_on:Sparkle", "there is no module 'sparkle_on'"),
        ("sparkle = sparkle_one:Path", "Path is no subclass of events.Plugin"),
    ],
)
def test_an_entry_point_that_leads_to_no_plugin_is_told(
    install: Install, tmp_path: Path, entry: str, said: str
) -> None:
    install("sparkle-one", entry)
    assert said in problem(tmp_path, "sparkle")


def test_loader_workers_find_it(
    install: Install,
    site: Path,
    tmp_path: Path,
    run_command: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install("sparkle-one", "sparkle = sparkle_one:Sparkle")
    monkeypatch.setenv("PYTHONPATH", str(site))
    run = run_command(
        "train.steps=1", "data.workers=1", plugins=f'\n[[plugins]]\nuse = "sparkle"\nfolder = "{tmp_path}"\n'
    )
    assert run.exit_code == 0, run.output
    assert (tmp_path / "worker").exists()
    assert not (tmp_path / "training").exists()


def test_the_command_line_tells_of_it(install: Install, site: Path, tmp_path: Path) -> None:
    install("sparkle-one", "sparkle = sparkle_one:Sparkle")
    (tmp_path / "config.toml").write_text('plugins = ["sparkle"]\n[model]\npath = "."\n[data]\nroot = "."\n')
    done = run_py("plan", "config.toml", cwd=tmp_path, environment={"PYTHONPATH": str(site)})
    assert done.returncode == 0, done.stderr
    assert "sparkle" in done.stdout
    assert "Sparkle.add" in done.stdout
