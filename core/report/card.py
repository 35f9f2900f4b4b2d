"""One sample of the contact sheet as HTML."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from PIL import Image

from events.payloads import SampleSettings

from ..pages.document import counted, on_one_line
from ..pages.markup import Markup, element, joined
from ..pages.page import picture
from ..pages.thumbnails import picture_of, thumbnail
from ..pictures.images import Box
from .sheet import Change, Seen, Shown, Words, overlay
from .wording import wording

SIDE = 168
"""Of the longer side of a shown picture, in CSS pixels."""
SHARP = 2
"""Stored pixels of each, for dense displays."""
MOST_SIGNS = 4000
"""Of a caption that are shown."""
TAGS = {"added": "ins", "removed": "del", "moved": "mark"}


def card(number: int, shown: Shown, accumulate: int) -> Markup:
    """A sample with its pictures and captions in the order in which plugins have them."""
    place = _place(shown, accumulate)
    parts = [element("h2", f"{number} · {shown.item.id}"), element("p", place, class_="place")]
    if shown.picture is None:
        parts.append(
            element("p", f"The file {shown.problem}; another picture stands in for it.", class_="error", dir="auto")
        )
    else:
        parts.append(element("div", *_figures(shown, shown.picture), class_="figures"))
    parts.append(element("div", *_words(shown.words, shown.item.caption_from), *_settings(shown), class_="words"))
    return element("article", *parts)


def _place(shown: Shown, accumulate: int) -> str:
    batch = f", batch {shown.batch % accumulate + 1} of {accumulate}" if accumulate > 1 else ""
    repeat = f", shown before {counted(shown.key.repeat, 'time')}" if shown.key.repeat else ""
    where = f"Epoch {shown.key.epoch}, step {shown.batch // accumulate + 1} of the epoch{batch}{repeat}"
    return where if shown.picture is None else f"{where}  ·  {_cut(shown, shown.picture)}"


def _cut(shown: Shown, seen: Seen) -> str:
    """Size, scale, place of the crop, and how it was turned over, in words."""
    height, width, top, left = seen.made.geometry[:4]
    left_edge, top_edge, right_edge, bottom_edge = seen.made.box
    parts = width * (right_edge - left_edge), height * (bottom_edge - top_edge)
    scale = min(side / part for side, part in zip(shown.target, parts, strict=True))
    cut = [f"{pixels} from the {side}" for pixels, side in ((left, "left"), (top, "top")) if pixels]
    crop = f", cut {' and '.join(cut)}" if cut else ""
    turned = ", mirrored" * seen.made.mirrored + ", upside down" * seen.made.upside_down
    return f"scaled by {scale:.2g} to {shown.target[0]} × {shown.target[1]}{turned}{crop}"


def _figures(shown: Shown, seen: Seen) -> Iterator[Markup]:
    crop_here = seen.before_crop.size == seen.original.size
    size = f"{shown.item.width} × {shown.item.height}"
    yield _figure("Original", _framed(seen.original, seen.made.box if crop_here else None), size)
    last = len(seen.changes) - 1
    for place, change in enumerate(seen.changes):
        box = seen.made.box if place == last and not crop_here else None
        yield _changed(change, change.after, box)
    note = f"{shown.target[0]} × {shown.target[1]}"
    if seen.pixel_changes:
        yield _figure("Cut out", _framed(picture_of(seen.cropped), pixels=True))
        final = seen.pixel_changes[-1]
        note += f", after {final.plugin}" if final.changed else f", unchanged by {final.plugin}"
    for change in seen.pixel_changes[:-1]:
        yield _changed(change, picture_of(change.after), None, pixels=True)
    yield _figure("As the model sees it", _framed(picture_of(seen.made.pixels), pixels=True), note)
    if seen.made.mask is not None:
        share = f"{100 * float(seen.made.mask.mean()):.0f} % counts"
        yield _figure("Mask", _framed(overlay(seen.made.pixels, seen.made.mask), pixels=True), share)


def _changed(change: Change, image: Image.Image, box: Box | None, *, pixels: bool = False) -> Markup:
    if change.changed or box is not None:
        note = "" if change.changed else "unchanged"
        return _figure(change.plugin, _framed(image, box, pixels=pixels), note, kind="name")
    width, height = _fitted(image)
    same = element("div", "unchanged", class_="same", style=f"width:{width}px;height:{height}px")
    return _figure(change.plugin, same, kind="name")


def _figure(caption: str, content: Markup, note: str = "", *, kind: str = "label") -> Markup:
    notes = [element("small", note)] if note else []
    return element("figure", element("figcaption", caption, class_=kind), content, *notes)


def _framed(image: Image.Image, box: Box | None = None, *, pixels: bool = False) -> Markup:
    """A picture, with what is cropped away darkened where a box is given."""
    width, height = _fitted(image)
    small = thumbnail(image, "", SIDE * SHARP)
    shown = picture(small, width=width, height=height, sharp=pixels)
    parts = [shown]
    if box is not None and (box.right - box.left < 0.999 or box.bottom - box.top < 0.999):
        place = (
            f"left:{box.left:.2%};top:{box.top:.2%};width:{box.right - box.left:.2%};height:{box.bottom - box.top:.2%}"
        )
        parts.append(element("div", class_="crop", style=place))
    return element("div", *parts, class_="frame", style=f"width:{width}px;height:{height}px")


def _fitted(image: Image.Image) -> tuple[int, int]:
    factor = SIDE / max(image.size)
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def _words(words: Words, given_by: str) -> Iterator[Markup]:
    yield from _row(f"Found in {given_by}" if given_by else "Found", _caption(words.found))
    for names, change in _steps(words.changes):
        content = _difference(change.before, change.after) if change.changed else _quiet("unchanged")
        yield from _row(names, content, kind="name")
    tokens = joined(f"{words.tokens} of {words.limit}")
    if words.cut:
        tokens = joined(tokens, _quiet(", not read: "), element("del", _shortened(words.cut.strip(" ,\n"))))
    yield from _row("Tokens", tokens)


def _steps(changes: Sequence[Change]) -> Iterator[tuple[str, Change]]:
    """Each handler that changed something with its plugin's name; plugins that changed nothing together."""
    active = {change.plugin for change in changes if change.changed}
    shown = [change for change in changes if change.changed or change.plugin not in active]
    for changed, some in groupby(shown, key=lambda change: change.changed):
        if changed:
            yield from ((change.plugin, change) for change in some)
        else:
            alike = list(some)
            yield ", ".join(dict.fromkeys(change.plugin for change in alike)), alike[0]


def _settings(shown: Shown) -> Iterator[Markup]:
    if shown.settings.loss_scale != 1:
        yield from _row("Loss scale", f"{shown.settings.loss_scale:g}")
    for change in shown.settings_changes:
        if change.changed:
            yield from _row(change.plugin, _settings_text(change.before, change.after), kind="name")


def _settings_text(before: SampleSettings, after: SampleSettings) -> str:
    parts = []
    if before.loss_scale != after.loss_scale:
        parts.append(f"loss scale {before.loss_scale:g} → {after.loss_scale:g}")
    names = [
        name for name, value in after.extras.items() if name not in before.extras or before.extras[name] is not value
    ]
    names += [name for name in before.extras if name not in after.extras]
    parts += [f"extras: {', '.join(names)}"] if names else []
    return on_one_line("; ".join(parts), MOST_SIGNS)


def _row(label: str, content: str, *, kind: str = "label") -> tuple[Markup, Markup]:
    return element("div", label, class_=kind), element("div", content, class_="caption", dir="auto")


def _caption(text: str) -> str:
    return _shortened(text) if text else _quiet("empty")


def _quiet(text: str) -> Markup:
    return element("span", text, class_="quiet")


def _difference(before: str, after: str) -> Markup:
    if not after:
        return _quiet("made empty")
    runs = wording(_shortened(before), _shortened(after))
    return joined(*(element(TAGS[run.kind], run.text) if run.kind in TAGS else run.text for run in runs))


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_SIGNS else f"{text[:MOST_SIGNS]} … and {len(text) - MOST_SIGNS:,} more signs"
