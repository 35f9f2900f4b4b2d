"""The tutorial is true: its files are written and its commands given in its order, and they print what it shows."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks
from tests.small_runs import ROOT

PAGE = ROOT / "docs" / "tutorial.md"
LEFT_OUT = "..."
COPIED = ("run.py", "pyproject.toml", "plugins", "examples/starter", "examples/emoji/pictures")
LINKED = ("core", "events")
PLUGIN = "[[plugins]]"


@dataclass
class Walk:
    """Someone who does as the tutorial says."""

    folder: Path
    """A checkout."""
    config: str = ""
    printed: dict[str, str] = field(default_factory=dict)
    """By block of commands."""

    def follow(self) -> None:
        """From the first block to the last; raises at a command that fails."""
        for block in blocks(PAGE):
            if block.language == "python":
                path = self.folder / block.file
                path.parent.mkdir(exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            elif block.language == "toml":
                self.config = with_tables(self.config, block.text)
                (self.folder / "tutorial.toml").write_text(self.config, encoding="utf-8")
            elif block.language == "sh":
                self.printed[str(block)] = "".join(self._give(line) for line in block.text.splitlines())

    def _give(self, command: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}  # set by `main`
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=environment, text=True, timeout=300, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout


def with_tables(config: str, text: str) -> str:
    """A whole config in the place of another, or plugin tables, which take the place of those of the same class."""
    if not text.startswith(PLUGIN):
        return text
    head, *tables = _tables(config)
    by_class = {_class_of(table): table.rstrip() for table in (*tables, *_tables(text)[1:])}
    return "\n\n".join([head.rstrip(), *by_class.values()]) + "\n"


def shows(expected: str, printed: str) -> bool:
    """Whether lines were printed, one after the other; `...` stands for any number of others, and times and losses may differ."""
    pattern = ""
    for line in expected.splitlines():
        pattern += r"(?:.*\n)*?" if line == LEFT_OUT else re.escape(_told(line)) + "\n"
    return re.fullmatch(pattern, "".join(f"{_told(line)}\n" for line in printed.splitlines())) is not None


def _told(line: str) -> str:
    return re.sub(r"\d+\.\d+|\b\d+ s\b", "#", line.rstrip())


def _tables(config: str) -> list[str]:
    """What is before the first plugin table, and each of these."""
    return re.split(rf"(?m)^(?={re.escape(PLUGIN)})", config)


def _class_of(table: str) -> str:
    return re.findall(r'^use = "(.+)"', table, re.MULTILINE)[0]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    folder = tmp_path_factory.mktemp("tutorial") / "checkout"
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    walk = Walk(folder)
    walk.follow()
    return walk


def shown() -> list[tuple[Block, Block]]:
    """Each block of commands with what it is said to print."""
    told = [block for block in blocks(PAGE) if block.language in ("sh", "text")]
    assert [block.language for block in told] == ["sh", "text"] * (len(told) // 2), "commands print something"
    return list(zip(told[::2], told[1::2], strict=True))


@pytest.mark.parametrize(("commands", "output"), shown(), ids=str)
def test_a_command_prints_what_the_tutorial_shows(commands: Block, output: Block, walk: Walk) -> None:
    printed = walk.printed[str(commands)]
    assert shows(output.text, printed), printed


def test_the_page_of_samples_has_their_captions_before_and_after_the_plugin(walk: Walk) -> None:
    text = re.sub(r"<[^>]+>", "", (walk.folder / "data-look.html").read_text(encoding="utf-8"))
    assert text.count("As the model sees it") == 4
    assert text.count("Describe") == 4
    assert re.findall(r"(?:photo|drawing) of a", text)


def test_the_last_run_has_taken_two_epochs(walk: Walk) -> None:
    checkpoints = sorted(path.name for path in (walk.folder / "runs" / "tutorial" / "checkpoints").glob("step-*"))
    assert checkpoints == ["step-00000010", "step-00000020"]


def test_a_table_takes_the_place_of_the_one_of_its_class() -> None:
    config = '[run]\nname = "a"\n\n[[plugins]]\nuse = "x.A"\n\n[[plugins]]\nuse = "x.B"\n'
    assert with_tables(config, '[[plugins]]\nuse = "x.A"\nb = 1\n').count("[[plugins]]") == 2
    assert with_tables(config, '[[plugins]]\nuse = "x.C"\n').endswith('use = "x.B"\n\n[[plugins]]\nuse = "x.C"\n')


@pytest.mark.parametrize(
    ("expected", "is_shown"),
    [
        ("a 20 b\nended after 3 s", True), ("a 30 b\nended after 3 s", False), ("ended after 3 s", False),
        ("...\nended after 3 s", True), ("a 20 b\n...", True), ("a 20 b\n...\nended after 3 s", True), ("a 20 b", False),
    ],
)  # fmt: skip
def test_other_lines_would_be_noticed(expected: str, is_shown: bool) -> None:
    assert shows(expected, "a 20 b\nended after 12 s\n") is is_shown
