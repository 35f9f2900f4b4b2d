"""Pictures that look as if their captions were not theirs, as a page."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from events.payloads import Item

from ..pages.document import Facts, Section, on_one_line
from ..pages.markup import Markup, element
from ..pages.page import picture, section_markup, write_page
from ..pages.thumbnails import thumbnail
from ..pictures.files import reason_of
from ..pictures.images import read_picture

SIDE = 136
"""Of a shown picture's longer side, in CSS pixels."""
SHARP = 2
"""Stored pixels of each, for dense displays."""
MOST_SIGNS = 300
"""Of a caption that are shown."""
SUSPECTS = "Look at these first: other captions explained them better than their own unusually often."
OTHERS = "Their numbers are within what is usual; the highest come first."
NONE = "No picture stands out from the others."
READING = (
    "“Lost” is the share of comparisons in which another picture's caption gave a lower loss on this one than its own."
    " “Loss” is by how many deviations its losses in training lie above those of all pictures at about the same"
    " timestep; it is high for hard pictures too. The score counts robust deviations above the median picture."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture and what is said of it."""

    item: Item
    numbers: str
    is_suspect: bool


def write_suspects(
    path: Path, run: str, facts: tuple[tuple[str, str], ...], shown: Sequence[Shown], *, transparent: str
) -> None:
    """Write the page; `transparent` is the colour behind transparent pictures. Raises ConfigError when it cannot be."""
    parts = _parts(facts, shown, transparent)
    write_page(path, f"Loss by image: {run}", "Which captions are probably not those of their pictures", parts)


def _parts(facts: tuple[tuple[str, str], ...], shown: Sequence[Shown], transparent: str) -> Iterator[Markup]:
    """The page's sections, one picture at a time."""
    suspects = [one for one in shown if one.is_suspect]
    others = [one for one in shown if not one.is_suspect]
    yield section_markup(Section(title="In short", blocks=(Facts(rows=facts), READING)))
    yield section_markup(Section(title="Suspects", blocks=(SUSPECTS if suspects else NONE,)))
    yield _figures(suspects, transparent)
    if others:
        yield section_markup(Section(title="The next", blocks=(OTHERS,)))
        yield _figures(others, transparent)


def _figures(shown: Iterable[Shown], transparent: str) -> Markup:
    return element("div", *(_figure(one, transparent) for one in shown), class_="figures")


def _figure(shown: Shown, transparent: str) -> Markup:
    caption = on_one_line(shown.item.caption, MOST_SIGNS)
    style = f"white-space:normal;width:{SIDE}px;overflow-wrap:anywhere;line-height:1.35"
    return element(
        "figure",
        _picture(shown.item, transparent),
        element("figcaption", element("b", caption), style=style, dir="auto"),
        element("div", shown.numbers, class_="quiet", style=f"width:{SIDE}px;font-size:0.82rem;line-height:1.35"),
    )


def _picture(item: Item, transparent: str) -> Markup:
    try:
        side = SIDE * SHARP
        image = read_picture(item.path, transparent=transparent, mask="", target=(side, side)).image
    except Exception as error:  # Pillow raises many kinds
        return element("p", f"The file {reason_of(error)}.", class_="error", style=f"width:{SIDE}px")
    factor = SIDE / max(image.size)
    width, height = (max(1, round(length * factor)) for length in image.size)
    return picture(thumbnail(image, item.id, side), width=width, height=height, sharp=True)
