"""One value before and after a handler, in rows of words."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from PIL import Image
from torch import Tensor

from events.payloads import Batch, Crop, Item, SampleKey, SampleSettings

from ..attached.watch import differs
from ..config.changes import differences
from ..config.file import redactor_of
from ..config.tables import Config
from ..pages.document import counted, on_one_line
from ..report.wording import wording
from .values import caption_text, picture_change, picture_text, pixels_change, pixels_text

Rows = tuple[tuple[str, str], ...]
"""(what, said of it)."""
NAMED = 3
"""Items or words, of those that came or went."""
SHOWN = 80
"""Signs of a value."""


def rows_of(before: Any, after: Any) -> Rows:
    """What was handed on, what came of it, and what is another; in one row where nothing is."""
    if not differs(before, after):
        return (("example", f"{value_text(before)} stays as it is"),)
    return (("before", value_text(before)), ("after", value_text(after)), *_change(before, after))


def item_rows(before: tuple[Item, ...], after: tuple[Item, ...]) -> Rows:
    """Of `data.items`: how many there were and are, and which came, went and became others."""
    old, new = ({item.id: item for item in items} for items in (before, after))
    went, came = [name for name in old if name not in new], [name for name in new if name not in old]
    other = [
        f"{name} ({_fields_changed(old[name], new[name])})" for name in new if name in old and old[name] != new[name]
    ]
    rows = [("before", counted(len(before), "picture")), ("after", counted(len(after), "picture"))]
    rows += [(what, _some(names)) for what, names in (("went", went), ("came", came), ("changed", other)) if names]
    return tuple(rows) if len(rows) > 2 else (("example", f"{counted(len(before), 'picture')}, all as they were"),)


def plan_rows(
    before: Sequence[Sequence[SampleKey]], after: Sequence[Sequence[SampleKey]], items: Sequence[Item]
) -> Rows:
    """Of `epoch.plan`: how many samples there were and are, which came and went, and the first batch."""
    old, new = (Counter(key for batch in plan for key in batch) for plan in (before, after))
    rows = [(what, _plan_size(plan)) for what, plan in (("before", before), ("after", after))]
    for what, keys in (("went", (old - new).elements()), ("came", (new - old).elements())):
        names = [items[key.item].id for key in keys]
        rows += [(what, _some(names))] if names else []
    if before == after:
        return (("example", f"{_plan_size(before)}, all as they were"),)
    if old == new:
        rows.append(("changed", "the order, or how the samples are cut into batches"))
    rows += [
        (f"first {what}", _some([items[key.item].id for key in plan[0]]))
        for what, plan in (("before", before), ("after", after))
        if plan
    ]
    return tuple(rows)


def config_rows(before: Config, after: Config) -> Rows:
    """Of `run.configure`: each key with another value, without secrets."""
    old, new = (redactor_of(config).tree(config.model_dump(mode="json")) for config in (before, after))
    rows = [("changed", f"{key}: {was!r} became {now!r}") for key, was, now in differences(old, new)]
    return tuple(rows) or (("example", "the config stays as it is"),)


def value_text(value: Any) -> str:
    """A value of a sample's or a batch's signal."""
    if isinstance(value, str):
        return caption_text(value)
    if isinstance(value, Image.Image):
        return picture_text(value)
    if isinstance(value, Tensor):
        return pixels_text(value)
    if isinstance(value, SampleSettings):
        extras = ", ".join(f"{name} = {_short(one)}" for name, one in value.extras.items())
        return f"loss scale {value.loss_scale:g}, extras: {extras or 'none'}"
    if isinstance(value, Crop):
        turned = ", mirrored" * value.mirrored + ", upside down" * value.upside_down
        return f"from {value.left:.3f}, {value.top:.3f} to {value.right:.3f}, {value.bottom:.3f} of the sides{turned}"
    if isinstance(value, Batch):
        return _batch_text(value)
    return _short(value)


def _change(before: Any, after: Any) -> Rows:
    if isinstance(before, str):
        words = "; ".join(_words_changed(before, after)) if before and after else ""
        return (("changed", words),) if words else ()
    if isinstance(before, Image.Image):
        return (("changed", picture_change(before, after)),)
    if isinstance(before, Tensor):
        return (("changed", pixels_change(before, after)),)
    if isinstance(before, Batch):
        return (("changed", _fields_changed(before, after)),)
    return ()


def _words_changed(before: str, after: str) -> Iterator[str]:
    runs = wording(before, after)
    for kind, said in (("removed", "took out"), ("added", "put in"), ("moved", "moved")):
        texts = [
            f'"{on_one_line(run.text.strip(), SHOWN)}"' for run in runs if run.kind == kind and run.text.strip(" ,")
        ]
        if texts:
            yield f"{said} {', '.join(texts[:NAMED])}" + (
                f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
            )


def _fields_changed(before: Any, after: Any) -> str:
    names = [one.name for one in fields(before) if differs(getattr(before, one.name), getattr(after, one.name))]
    return ", ".join(names)


def _batch_text(batch: Batch) -> str:
    held = [f"{name} {tuple(value.shape)}" for name, value in _tensors_of(batch)]
    return f"{counted(len(batch.keys), 'sample')}: {', '.join(held)}"


def _tensors_of(batch: Batch) -> Iterator[tuple[str, Tensor]]:
    for one in fields(batch):
        value = getattr(batch, one.name)
        if isinstance(value, Tensor):
            yield one.name, value
        elif isinstance(value, Mapping):
            yield from ((f"{one.name}.{key}", member) for key, member in value.items() if isinstance(member, Tensor))


def _plan_size(plan: Sequence[Sequence[SampleKey]]) -> str:
    return f"{counted(sum(map(len, plan)), 'sample')} in {counted(len(plan), 'batch', 'batches')}"


def _some(names: Sequence[str]) -> str:
    """How many, and the first of them."""
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{len(names):,}, such as {', '.join(names[:NAMED])}"


def _short(value: object) -> str:
    return on_one_line(str(value), SHOWN)
