"""What one look at every item tells: sources, captions, masks and settings."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from events.bus import Bus
from events.payloads import Item, ItemSettings

from ..config.tables import Config
from ..pages.document import Block, Section, Table, counted, on_one_line
from ..sources.find import names_of

NAMED = 10
"""Items that are named where there are more."""
DEFAULTS = ItemSettings()
BY_TRAINER = frozenset({"multiply", "loss_scale", "flip_p", "batch_id", "no_upscale"})
"""Settings that need no plugin."""


@dataclass(slots=True)
class Source:
    """Of the items whose ids begin with one data set's name."""

    pictures: int = 0
    shows: float = 0.0
    uncaptioned: int = 0


@dataclass(slots=True)
class Use:
    """Of one setting, by the items that have it."""

    items: int = 0
    example: str = ""
    values: Counter[Any] = field(default_factory=Counter)
    """How many have which; of names and weights only that they have some."""


@dataclass(slots=True)
class ItemFacts:
    """Sums over the items."""

    sources: dict[str, Source] = field(default_factory=dict)
    given_by: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Item] = field(default_factory=dict)
    """By what gave the caption."""
    empty: list[str] = field(default_factory=list)
    """The first ids without a caption."""
    several_lines: int = 0
    masks: int = 0
    uses: dict[str, Use] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)

    @staticmethod
    def of(items: Iterable[Item]) -> "ItemFacts":
        """One pass, so that a table is streamed."""
        facts = ItemFacts()
        for item in items:
            facts.add(item)
        return facts

    def add(self, item: Item) -> None:
        source = self.sources.setdefault(item.id.partition("/")[0], Source())
        source.pictures += 1
        source.shows += item.settings.multiply
        self.given_by[item.caption_from] += 1
        self.several_lines += "\n" in item.caption
        self.masks += bool(item.mask)
        if not item.caption:
            source.uncaptioned += 1
            if len(self.empty) < NAMED:
                self.empty.append(item.id)
        elif item.caption_from not in self.examples:
            self.examples[item.caption_from] = item
        if item.settings != DEFAULTS:
            self._add_settings(item)

    def _add_settings(self, item: Item) -> None:
        for name in SETTINGS:
            value = getattr(item.settings, name)
            if value == getattr(DEFAULTS, name):
                continue
            use = self.uses.setdefault(name, Use(example=item.id))
            use.items += 1
            if name == "batch_id":
                self.groups.add(value)
            elif name != "tag_weights":
                use.values[value] += 1


SETTINGS = tuple(field.name for field in fields(ItemSettings))


def source_section(facts: ItemFacts, config: Config) -> Section:
    """Pictures by root."""
    roots = dict(zip(names_of(config.data.roots), config.data.roots, strict=True))
    rows = tuple(
        (str(roots.get(name, "added by a plugin")), name, source.pictures, source.shows, source.uncaptioned)
        for name, source in facts.sources.items()
    )
    absent = [str(root) for name, root in roots.items() if name not in facts.sources]
    blocks: list[Block] = [Table(columns=("Source", "Name", "Pictures", "Shows an epoch", "No caption"), rows=rows)]
    if absent:
        blocks.append(f"Nothing is trained on of {', '.join(absent)}.")
    return Section(title="Sources", blocks=tuple(blocks))


def caption_blocks(facts: ItemFacts) -> list[Block]:
    """Where captions came from, and which are empty."""
    rows = []
    for source, count in facts.given_by.most_common():
        item = facts.examples.get(source)
        example = on_one_line(item.caption, 60) if item else ""
        rows.append((source or "a plugin", count, item.id if item else "", example))
    blocks: list[Block] = [Table(columns=("Given by", "Pictures", "Such as", "Its caption"), rows=tuple(rows))]
    empty = sum(source.uncaptioned for source in facts.sources.values())
    if empty:
        more = f" and {empty - len(facts.empty):,} more" if empty > len(facts.empty) else ""
        blocks.append(f"{counted(empty, 'caption is', 'captions are')} empty: {', '.join(facts.empty)}{more}.")
    else:
        blocks.append("No caption is empty.")
    if facts.several_lines:
        blocks.append(f"{counted(facts.several_lines, 'caption has', 'captions have')} several lines to choose from.")
    return blocks


def masks_in_use(facts: ItemFacts, config: Config) -> str:
    """Whether masks are active, and for how many pictures."""
    if config.data.masks == "none":
        return "off"
    total = sum(source.pictures for source in facts.sources.values())
    return f"{config.data.masks}, {facts.masks:,} of {total:,}"


def setting_section(facts: ItemFacts, bus: Bus) -> Section:
    """The settings of single items that are in force."""
    if not facts.uses:
        return Section(title="Settings of single pictures", blocks=("No picture has settings of its own.",))
    rows = tuple(
        (name, use.items, _values(name, use, facts), _acted_on_by(name, bus), use.example)
        for name in SETTINGS
        if (use := facts.uses.get(name))
    )
    columns = ("Setting", "Pictures", "Values", "Acted on by", "Such as")
    return Section(title="Settings of single pictures", blocks=(Table(columns=columns, rows=rows),))


def _values(name: str, use: Use, facts: ItemFacts) -> str:
    if name == "batch_id":
        return counted(len(facts.groups), "group")
    if name == "tag_weights":
        return "weights of tags"
    if len(use.values) > 4:
        return f"{min(use.values):g} to {max(use.values):g}, {len(use.values):,} different ones"
    shown = sorted(use.values.items())
    return ", ".join(f"{_plain(value)} ({count:,})" if len(shown) > 1 else _plain(value) for value, count in shown)


def _plain(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:g}"


def _acted_on_by(name: str, bus: Bus) -> str:
    readers = [plugin for plugin, built in bus.plugins.items() if name in built.reads]
    return ", ".join(["the trainer"] * (name in BY_TRAINER) + readers) or "nothing"
