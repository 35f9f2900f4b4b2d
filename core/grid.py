"""Pictures in rows and columns with a line of text under each, for previews."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

CELL_PIXELS = 128
LINE_PIXELS = 13
MARGIN_PIXELS = 6
INK, PAPER, MARK = "#222222", "#ffffff", "#b3261e"


def labelled_grid(
    cells: Sequence[tuple[Image.Image | None, str, bool]],
    columns: int,
    *,
    title: str = "",
    cell_pixels: int = CELL_PIXELS,
) -> Image.Image:
    """A page of cells (picture, label, marked), row by row; a marked label is red, a missing picture is left white.

    Small pictures are enlarged to the cell, large ones reduced; labels wrap to two lines.
    """
    rows = -(-len(cells) // columns)
    head = LINE_PIXELS + MARGIN_PIXELS if title else 0
    step_x, step_y = cell_pixels + MARGIN_PIXELS, cell_pixels + 2 * LINE_PIXELS + MARGIN_PIXELS
    page = Image.new("RGB", (columns * step_x + MARGIN_PIXELS, rows * step_y + MARGIN_PIXELS + head), PAPER)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=11)
    if title:
        draw.text((MARGIN_PIXELS, MARGIN_PIXELS // 2), title, fill=INK, font=font)
    for place, (picture, label, marked) in enumerate(cells):
        left = MARGIN_PIXELS + place % columns * step_x
        top = MARGIN_PIXELS + head + place // columns * step_y
        if picture is not None:
            shown = _scaled(picture, cell_pixels)
            page.paste(shown, (left + (cell_pixels - shown.width) // 2, top + (cell_pixels - shown.height) // 2))
        for number, line in enumerate(_wrapped(label, font, cell_pixels, draw)):
            draw.text((left, top + cell_pixels + number * LINE_PIXELS), line, fill=MARK if marked else INK, font=font)
    return page


def _scaled(picture: Image.Image, cell_pixels: int) -> Image.Image:
    scale = cell_pixels / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, draw: ImageDraw.ImageDraw
) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [line for line in lines if line][:2]
