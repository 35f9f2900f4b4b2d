"""All pages: the index, one for each signal, and one of the types that signals share."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from events.catalogue import CATALOGUE
from events.plugin import Plugin

from ..errors import ConfigError
from .bundled import handlers_of
from .carried import payload_of
from .described import Described, described_types
from .markdown import page, paragraphs, table
from .run_map import SECTIONS, section_of
from .signal import MADE, SignalPage, members_table

INDEX, TYPES = "README.md", "types.md"
ABOUT_INDEX = """\
Every signal, in the order in which a run fires them, with a page for each: what a handler is given, what it returns,
when it is called, and which bundled plugins handle it. `python run.py events` prints them too,
[../write-a-plugin.md](../write-a-plugin.md) says what handlers are, and [types.md](types.md) what the types have in
them that signals share."""
ABOUT_TYPES = """\
What fields of events and contexts hold, and what transforms and build signals carry. Import them from
`events.payloads`, `Control` from `events.control` and `Streams` from `events.randomness`. Payloads cannot be changed;
`dataclasses.replace` makes another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What the pages are made of, beside the catalogue."""

    kinds: Mapping[str, type[Plugin]]
    """The bundled plugins by what `use` names them as."""
    hooks: Mapping[str, str]
    """Methods of class-style plugins, with their signals."""
    types: Mapping[str, Described] = field(default_factory=described_types)

    def texts(self) -> dict[str, str]:
        """Every page by its file's name."""
        found = {INDEX: page(_index()), TYPES: page(self._types())}
        for spec in CATALOGUE:
            hook = next((name for name, signal in self.hooks.items() if signal == spec.name), "")
            handled = handlers_of(self.kinds, self.hooks, spec.name)
            one = SignalPage(spec=spec, types=self.types, hook=hook, handled=handled, types_page=TYPES)
            found[f"{spec.name}.md"] = page(one.lines())
        return found

    def write(self, folder: Path) -> int:
        """Write the pages over those of their names; returns how many. Raises ConfigError where that cannot be."""
        texts = self.texts()
        try:
            folder.mkdir(exist_ok=True)
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError("events --write", [f"{folder}  cannot be written: {error.strerror}"]) from error
        return len(texts)

    def _types(self) -> Iterator[str]:
        yield from (MADE, "", "# Types that signals share", "", ABOUT_TYPES)
        for one in shared_types(self.types).values():
            yield from ("", f"## {one.name}", "", *paragraphs(one.meaning))
            if one.members:
                yield from ("", *members_table(one.members, shared_types(self.types), ""))


def shared_types(types: Mapping[str, Described]) -> dict[str, Described]:
    """Those that are no signal's own payload or context."""
    own = {payload_of(spec) for spec in CATALOGUE}
    return {name: one for name, one in types.items() if name not in own}


def _index() -> Iterator[str]:
    yield from (MADE, "", "# Signals", "", ABOUT_INDEX)
    for section in SECTIONS:
        rows = [
            (f"[`{spec.name}`]({spec.name}.md)", spec.kind, spec.where, "yes" if spec.allows_async else "no", spec.meaning)
            for spec in CATALOGUE
            if section_of(spec.name) == section
        ]  # fmt: skip
        yield from ("", f"## {section}", "", *table(("signal", "kind", "process", "async", "meaning"), rows))
