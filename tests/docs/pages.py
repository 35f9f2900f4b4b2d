"""What the pages of the documentation have in them: blocks of code, prose, tables, and the files they ask to write."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from core.config.file import validate
from events.plugin import PluginTable
from plugins.loading import tables_of
from tests.small_runs import ROOT

PAGES = (
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "SECURITY", "CONTRIBUTING", "examples/README")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
LEAST: dict[str, Any] = {"model": {"path": "m"}, "data": {"root": "d"}}
"""What a config cannot leave out."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str:
        """The file that the first line names."""
        named = re.match(r"# (\S+\.py)\n", self.text)
        return named[1] if named else ""

    @property
    def is_excerpt(self) -> bool:
        return (ROOT / self.file).is_file()

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def blocks(page: Path, language: str = "") -> list[Block]:
    found, text = [], page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        found.append(Block(page, text[: match.start()].count("\n") + 1, match[1], match[2]))
    return [block for block in found if language in ("", block.language)]


def all_blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page, language)]


def prose(page: Path) -> str:
    """A page without its fenced blocks and comments."""
    text = re.sub(r"^```\w*\n.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def named(page: Path) -> Iterator[str]:
    """What a page names in backticks."""
    yield from re.findall(r"`([^`\n]+)`", prose(page))


def table_rows(page: Path, columns: int) -> list[list[str]]:
    rows = [line.strip("|\n ").split(" | ") for line in prose(page).splitlines() if line.startswith("| ")]
    return [row for row in rows if len(row) == columns]


def written_files(page: Path) -> list[Block]:
    """The files that a reader is asked to write."""
    return [block for block in blocks(page, "python") if not block.is_excerpt]


def write_project(page: Path, folder: Path) -> list[Path]:
    paths = []
    for block in written_files(page):
        paths.append(folder / block.file)
        paths[-1].parent.mkdir(exist_ok=True)
        paths[-1].write_text(block.text, encoding="utf-8")
    return paths


def plugin_tables(page: Path) -> list[PluginTable]:
    """Every plugin table of a page, under a name of its own."""
    tables = []
    for block in blocks(page, "toml"):
        config, _ = validate(LEAST | tomli.loads(block.text))
        assert config is not None, block
        tables += list(tables_of(config.plugins))
    return [
        PluginTable(
            use=table.use, name=f"{table.name}_{number}", position=number, settings=table.settings,
            priority=table.priority, on_error=table.on_error,
        )
        for number, table in enumerate(tables)
    ]  # fmt: skip
