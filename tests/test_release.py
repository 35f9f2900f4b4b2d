"""What is released has in it all that running needs, and its command leads to the command line."""

import importlib.metadata
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from shutil import copytree, ignore_patterns
from zipfile import ZipFile

import pytest
import tomli

from core.history.words import command_line
from core.invocation import words_of
from tests.small_runs import ROOT

PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("core", "events", "plugins")
BESIDE = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "run.py", "config.toml")
NO_FILES = ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
SCRIPTS = {
    "examples/make_starter.py",
    "examples/mislabelled.py",
    "examples/train_vae.py",
    "examples/emoji/make_pictures.py",
}
"""What the demo is made with, or experiments in a clone: in the sdist alone."""
BUILD = "import sys; from setuptools import build_meta as b; print(b.build_{0}(sys.argv[1]), file=sys.stderr)"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is released, since building writes beside it."""
    folder = tmp_path_factory.mktemp("release") / "source"
    for name in (*PACKAGES, "examples", "docs"):
        copytree(ROOT / name, folder / name, ignore=NO_FILES)
    for name in (*BESIDE, *(path.name for path in ROOT.glob("*.md")), "CITATION.cff", "constraints.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def built(kind: str, source: Path) -> Path:
    """The archive, made by the build backend of the environment, without a network."""
    out = source.parent / kind
    ended = subprocess.run(
        [sys.executable, "-c", BUILD.format(kind), out], cwd=source, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return next(out.iterdir())


@pytest.fixture(scope="module")
def in_wheel(source: Path) -> set[str]:
    """Paths, those of the demo as in a clone."""
    with ZipFile(built("wheel", source)) as wheel:
        return {re.sub(r"^.*\.data/data/share/signalbox/", "", name) for name in wheel.namelist()}


@pytest.fixture(scope="module")
def in_sdist(source: Path) -> set[str]:
    with tarfile.open(built("sdist", source)) as sdist:
        return {member.name.partition("/")[2] for member in sdist if member.isfile()}


def files_of(source: Path, *names: str) -> set[str]:
    paths = (path for name in names for path in (source / name).rglob("*"))
    return {path.relative_to(source).as_posix() for path in paths if path.is_file()}


def test_the_wheel_has_every_file_of_the_packages(in_wheel: set[str], source: Path) -> None:
    assert files_of(source, *PACKAGES) | {"run.py"} <= in_wheel


def test_the_wheel_has_the_demo_and_the_schema(in_wheel: set[str], source: Path) -> None:
    assert (files_of(source, "examples") - SCRIPTS) | {"config.toml", "docs/config.schema.json"} <= in_wheel


def test_the_wheel_has_no_other_code(in_wheel: set[str]) -> None:
    rooms = {name.partition("/")[0] for name in in_wheel if name.endswith(".py")}
    assert rooms == {*PACKAGES, "run.py"}


def test_the_sdist_has_everything(in_sdist: set[str], source: Path) -> None:
    there = {name for name in files_of(source, ".") if not re.search(r"egg-info|__pycache__|^build/", name)}
    assert there <= in_sdist


def test_the_command_leads_to_the_command_line(in_wheel: set[str]) -> None:
    (entry,) = (
        importlib.metadata.EntryPoint(name, value, "console_scripts") for name, value in PROJECT["scripts"].items()
    )
    import run

    assert entry.name == words_of(f"/bin/{entry.name}")[0] == "signalbox"
    assert entry.load() is run.main


@pytest.mark.parametrize(("program", "begin"), [("/x/bin/signalbox", "signalbox"), ("run.py", "python run.py")])
def test_messages_name_the_command_that_was_typed(program: str, begin: str) -> None:
    assert command_line([*words_of(program), "runs"]) == f"{begin} runs"


def test_the_version_is_the_same_wherever_it_is_said() -> None:
    version = PROJECT["version"]
    cited = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    told = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited == [version]
    assert told[0].rstrip(",") == version
