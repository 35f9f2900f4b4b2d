"""What each plugin changes of the data: measured on the items, the plan, and some samples of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from events.bus import Bus
from events.catalogue import (
    BATCH_HOST,
    DATA_ITEMS,
    EPOCH_PLAN,
    SAMPLE_CAPTION,
    SAMPLE_CROP,
    SAMPLE_IMAGE,
    SAMPLE_PIXELS,
    SAMPLE_SETTINGS,
)  # fmt: skip
from events.errors import PluginError
from events.payloads import Item, SampleKey
from events.signals import Handler

from ..attached.watch import differs, watch
from ..data.failures import LoadFailure
from ..data.samples import Loaded, SampleRoom
from ..pages.document import Block, Listing, Section, Table, counted, on_one_line
from .survey import Survey, spread

SAMPLES = 20
SHOWN_SIGNS = 300
"""Of a caption that stands as an example."""
BY_TRAINING = (DATA_ITEMS, EPOCH_PLAN)
BY_WORKERS = (SAMPLE_IMAGE, SAMPLE_CROP, SAMPLE_CAPTION, SAMPLE_PIXELS, SAMPLE_SETTINGS, BATCH_HOST)
SIGNALS = (DATA_ITEMS, *BY_WORKERS, EPOCH_PLAN)
THINGS = {
    "data.items": ("picture", "pictures"), "epoch.plan": ("plan", "plans"), "sample.image": ("picture", "pictures"),
    "sample.crop": ("crop", "crops"), "sample.caption": ("caption", "captions"), "sample.pixels": ("picture", "pictures"),
    "sample.settings": ("sample's settings", "samples' settings"), "batch.host": ("batch", "batches"),
}  # fmt: skip
Place = tuple[str, str, str]
"""Signal, plugin, method."""


@dataclass(slots=True)
class Effect:
    """Of one handler."""

    seen: int = 0
    changed: int = 0
    remark: str = ""
    example: tuple[str, str] | None = None
    """Before and after."""

    def said(self, signal: str) -> str:
        if not self.seen:
            return "not measured"
        one, many = THINGS[signal]
        count = f"{self.changed:,} of {self.seen:,} {one if self.seen == 1 else many}"
        return (
            f"changed {count}{self.remark}"
            if self.changed or self.remark
            else f"changed none of {counted(self.seen, one, many)}"
        )


@dataclass(slots=True)
class Effects:
    """Counts what handlers change while it watches them."""

    by_handler: dict[Place, Effect] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Files that turned out to be unreadable, with the reason."""
    failure: Exception | None = None
    """Why the measuring ended early."""
    _is_measuring: bool = False

    def watch_training(self, bus: Bus) -> None:
        """What happens to the items and the plan; before they are made."""
        for spec in BY_TRAINING:
            watch(bus[spec], self._note_items if spec is DATA_ITEMS else self._note_plan)

    def measure(self, survey: Survey) -> None:
        """Make some samples of the plan, spread over it, and count what the handlers of samples change."""
        bus = survey.maker.bus
        if not any(bus[spec].chain for spec in BY_WORKERS):
            return
        for spec in BY_WORKERS:
            watch(bus[spec], self._note)
        room = SampleRoom(survey.maker, survey.side.tokenize)
        self._is_measuring = True
        for keys in _some_batches(survey):
            loaded = room[keys]
            if isinstance(loaded, LoadFailure):
                self.failure = _raised(loaded)
                break
            if isinstance(loaded, Loaded):
                self.unreadable |= dict(loaded.unreadable)
        self._is_measuring = False

    def section(self, bus: Bus) -> Section:
        """Every handler of the data in order, with what it changed."""
        handlers = [handler for spec in SIGNALS for handler in bus[spec].handlers]
        if not handlers:
            return Section(title="Plugins", blocks=("No plugin changes the data.",))
        rows = tuple(
            (handler.signal, handler.plugin, handler.label, handler.priority, self._of(handler).said(handler.signal))
            for handler in handlers
        )
        columns = ("Signal", "Plugin", "Handler", "Priority", "What it does")
        blocks: list[Block] = [Table(columns=columns, rows=rows)]
        examples = tuple(
            (handler.plugin, *(on_one_line(text, SHOWN_SIGNS) or "(empty)" for text in effect.example))
            for handler in handlers
            if (effect := self._of(handler)).example
        )
        if examples:
            blocks.append(Table(title="The first change of each", columns=("Plugin", "Before", "After"), rows=examples))
        if self.failure is not None:
            blocks.append(Listing(title="A plugin failed", lines=tuple(str(self.failure).splitlines())))
        if self.unreadable:
            lines = tuple(f"{path}: {reason}" for path, reason in self.unreadable.items())
            blocks.append(Listing(title="Unreadable, so that other pictures stand in", lines=lines))
        return Section(title="Plugins", blocks=tuple(blocks))

    def _of(self, handler: Handler) -> Effect:
        return self.by_handler.setdefault((handler.signal, handler.plugin, handler.label), Effect())

    def _note(self, handler: Handler, before: Any, after: Any) -> None:
        if not self._is_measuring:
            return
        effect = self._of(handler)
        effect.seen += 1
        if differs(before, after):
            effect.changed += 1
            if isinstance(before, str) and effect.example is None:
                effect.example = before, after

    def _note_items(self, handler: Handler, before: tuple[Item, ...], after: tuple[Item, ...]) -> None:
        effect, held = self._of(handler), {item.id: item for item in before}
        left = {item.id: item for item in after}
        dropped, added = len(held.keys() - left.keys()), len(left.keys() - held.keys())
        effect.seen += len(before)
        effect.changed += sum(held[name] != item for name, item in left.items() if name in held)
        for count, what in ((dropped, "dropped"), (added, "added")):
            effect.remark += f", {what} {count:,}" if count else ""

    def _note_plan(
        self, handler: Handler, before: tuple[tuple[SampleKey, ...], ...], after: tuple[tuple[SampleKey, ...], ...]
    ) -> None:
        effect = self._of(handler)
        effect.seen += 1
        if before == after:
            return
        effect.changed += 1
        samples = [sum(map(len, plan)) for plan in (before, after)]
        effect.remark = f": {samples[0]:,} → {samples[1]:,} samples, {len(before):,} → {len(after):,} batches"


def _some_batches(survey: Survey) -> Iterator[Sequence[SampleKey]]:
    """Samples spread over the plan; in their own batches if a plugin handles batches."""
    plan = survey.plan
    if survey.maker.bus[BATCH_HOST].chain:
        most = -(-SAMPLES // survey.config.train.batch_size)
        yield from (plan[number] for number in spread(len(plan), most))
        return
    columns = (plan.epochs, plan.items, plan.repeats, plan.variants)
    for place in spread(len(plan.items), SAMPLES):
        yield (SampleKey(*(int(column[place]) for column in columns)),)


def _raised(failure: LoadFailure) -> Exception:
    if failure.kind == "plugin":
        return PluginError(failure.text, plugin=failure.plugin, signal=failure.signal)
    return RuntimeError(failure.text)
