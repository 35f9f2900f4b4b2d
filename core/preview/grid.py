"""Pictures in rows and columns with a line of text under each, for previews."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

CELL_PIXELS = 128
LINE_PIXELS = 15
MARGIN_PIXELS = 6
GAP_PIXELS = 2
"""Between the pictures of a block."""
LABEL_LINES = 2
INK, PALE, PAPER, MARK = "#222222", "#666666", "#ffffff", "#b3261e"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Cell = tuple[Image.Image | None, str, bool]
"""A picture, its label, and whether that is marked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Pictures side by side over one label."""

    pictures: tuple[Image.Image | None, ...]
    words: tuple[str, ...] = ()
    """One under each picture, such as `cfg 3`."""
    label: str
    marked: bool = False


def labelled_grid(
    cells: Sequence[Cell], columns: int, *, title: str = "", cell_pixels: int = CELL_PIXELS
) -> Image.Image:
    """A page of single pictures, row by row, as `labelled_page` makes it."""
    blocks = [Block(pictures=(picture,), label=label, marked=marked) for picture, label, marked in cells]
    return labelled_page(blocks, columns, title=title, cell_pixels=cell_pixels)


def labelled_page(
    blocks: Sequence[Block], columns: int, *, title: str = "", cell_pixels: int = CELL_PIXELS
) -> Image.Image:
    """A page of blocks, row by row; one that no longer fits into the `columns` of a row begins the next.

    Small pictures are enlarged to a cell whose longer side is `cell_pixels`, large ones reduced; a missing one is left
    white. Labels wrap to two lines and end in an ellipsis where they are longer; a marked label is red.
    """
    line = max(LINE_PIXELS, cell_pixels // 14)
    font = ImageFont.load_default(size=line - 2)
    cell = _cell_size([picture for block in blocks for picture in block.pictures], cell_pixels)
    words = line if any(block.words for block in blocks) else 0
    head = line + MARGIN_PIXELS if title else 0
    step_x, step_y = cell[0] + MARGIN_PIXELS, cell[1] + words + LABEL_LINES * line + MARGIN_PIXELS
    places = _places([len(block.pictures) for block in blocks], columns)
    across = max(column + len(block.pictures) for (_, column), block in zip(places, blocks, strict=True))
    size = (across * step_x + MARGIN_PIXELS, (places[-1][0] + 1) * step_y + MARGIN_PIXELS + head)
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    for text in wrapped(title, font, size[0] - 2 * MARGIN_PIXELS, 1):
        draw.text((MARGIN_PIXELS, MARGIN_PIXELS // 2), text, fill=INK, font=font)
    for (row, column), block in zip(places, blocks, strict=True):
        left, top = MARGIN_PIXELS + column * step_x, MARGIN_PIXELS + head + row * step_y
        _paste_pictures(page, block, font, cell, (left, top))
        label = wrapped(block.label, font, len(block.pictures) * step_x - MARGIN_PIXELS, LABEL_LINES)
        for number, text in enumerate(label):
            place = (left, top + cell[1] + words + number * line)
            draw.text(place, text, fill=MARK if block.marked else INK, font=font)
    return page


def wrapped(text: str, font: Font, width: int, most: int) -> list[str]:
    """At most `most` lines of at most `width` pixels; a text that is longer ends in an ellipsis."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    lines = [line for line in lines if line]
    if len(lines) > most:
        lines[most - 1] = lines[most - 1].rstrip(",;:") + "\N{HORIZONTAL ELLIPSIS}"
    return [_cut(line, font, width) for line in lines[:most]]


def _cut(line: str, font: Font, width: int) -> str:
    """The line, or as much of it as fits before an ellipsis."""
    if font.getlength(line) <= width:
        return line
    kept = line.rstrip("\N{HORIZONTAL ELLIPSIS}")
    while kept and font.getlength(kept + "\N{HORIZONTAL ELLIPSIS}") > width:
        kept = kept[:-1]
    return kept + "\N{HORIZONTAL ELLIPSIS}"


def _cell_size(pictures: Sequence[Image.Image | None], cell_pixels: int) -> tuple[int, int]:
    """Width and height of the smallest cell of the pictures' shapes whose longer side is `cell_pixels`."""
    scaled = [_scaled_size(picture.size, (cell_pixels, cell_pixels)) for picture in pictures if picture is not None]
    return max((one[0] for one in scaled), default=cell_pixels), max((one[1] for one in scaled), default=cell_pixels)


def _places(widths: Sequence[int], columns: int) -> list[tuple[int, int]]:
    """(row, column) of blocks that are so many cells wide; one that is wider than a row has a row of its own."""
    places, row, column = [], 0, 0
    for width in widths:
        if column and column + width > columns:
            row, column = row + 1, 0
        places.append((row, column))
        column += width
    return places


def _paste_pictures(
    page: Image.Image, block: Block, font: Font, cell: tuple[int, int], corner: tuple[int, int]
) -> None:
    """The pictures of a block, each in the middle of its cell, and their words below."""
    for number, picture in enumerate(block.pictures):
        left, top = corner[0] + number * (cell[0] + GAP_PIXELS), corner[1]
        if picture is not None:
            size = _scaled_size(picture.size, cell)
            shown = picture.convert("RGB").resize(size, _filter(picture.size, size))
            page.paste(shown, (left + (cell[0] - size[0]) // 2, top + (cell[1] - size[1]) // 2))
        if block.words:
            ImageDraw.Draw(page).text((left, top + cell[1]), block.words[number], fill=PALE, font=font)


def _scaled_size(size: tuple[int, int], cell: tuple[int, int]) -> tuple[int, int]:
    scale = min(cell[0] / size[0], cell[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _filter(size: tuple[int, int], target: tuple[int, int]) -> Image.Resampling:
    return Image.Resampling.BICUBIC if target > size else Image.Resampling.LANCZOS
