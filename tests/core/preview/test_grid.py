"""A page of pictures has a place for each, what belongs together side by side, and labels that stay within their room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from core.preview.grid import (
    GAP_PIXELS,
    LABEL_LINES,
    LINE_PIXELS,
    MARGIN_PIXELS,
    Block,
    labelled_grid,
    labelled_page,
    wrapped,
)

CELL = 40
FONT = ImageFont.load_default(size=LINE_PIXELS - 2)
RED, LIME, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WHITE = (255, 255, 255)


def plain(colour: str, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, colour)


def at(page: Image.Image, column: int, row: int, *, words: bool = False) -> object:
    """The colour in the middle of a cell of a page without a title."""
    step_y = CELL + (LABEL_LINES + words) * LINE_PIXELS + MARGIN_PIXELS
    half = MARGIN_PIXELS + CELL // 2
    return page.getpixel((half + column * (CELL + MARGIN_PIXELS), half + row * step_y))


def test_cells_fill_row_after_row_and_a_missing_picture_is_white() -> None:
    cells = [(plain("red"), "one", False), (None, "two", True), (plain("blue"), "three", False)]
    page = labelled_grid(cells, 2, cell_pixels=CELL)
    assert [at(page, 0, 0), at(page, 1, 0), at(page, 0, 1)] == [RED, WHITE, BLUE]
    assert page.size == (
        2 * (CELL + MARGIN_PIXELS) + MARGIN_PIXELS,
        2 * (CELL + LABEL_LINES * LINE_PIXELS + MARGIN_PIXELS) + MARGIN_PIXELS,
    )


def test_a_block_that_no_longer_fits_begins_a_row_and_the_page_is_no_wider_than_its_rows() -> None:
    pair = Block(pictures=(plain("red"), plain("lime")), words=("cfg 1", "cfg 3"), label="owl")
    page = labelled_page([pair, Block(pictures=(plain("blue"),), label="fox"), pair], 4, cell_pixels=CELL)
    assert [at(page, column, 0, words=True) for column in range(3)] == [RED, LIME, BLUE]
    assert [at(page, column, 1, words=True) for column in range(2)] == [RED, LIME]
    assert page.width == 3 * (CELL + MARGIN_PIXELS) + MARGIN_PIXELS


def test_a_block_that_is_wider_than_a_row_has_one_of_its_own() -> None:
    one, wide = Block(pictures=(plain("red"),), label="a"), Block(pictures=(plain("lime"),) * 3, label="b")
    page = labelled_page([one, wide, one], 2, cell_pixels=CELL)
    assert [at(page, 0, row) for row in range(3)] == [RED, LIME, RED]
    assert at(page, 2, 1) == LIME


def test_pictures_of_a_block_stand_closer_than_blocks() -> None:
    page = labelled_page([Block(pictures=(plain("red"), plain("lime")), label="")], 2, cell_pixels=CELL)
    row = [page.getpixel((x, MARGIN_PIXELS)) for x in range(page.width)]
    assert row.index(LIME) - (len(row) - 1 - row[::-1].index(RED)) == GAP_PIXELS + 1


@pytest.mark.parametrize(
    ("sizes", "cell"),
    [
        ([(8, 8)], (40, 40)),
        ([(16, 8)], (40, 20)),
        ([(8, 16)], (20, 40)),
        ([(16, 8), (8, 16)], (40, 40)),
        ([], (40, 40)),
    ],
)
def test_a_cell_has_the_shape_of_the_pictures(sizes: list[tuple[int, int]], cell: tuple[int, int]) -> None:
    pictures = tuple(plain("red", size) for size in sizes) or (None,)
    page = labelled_page([Block(pictures=pictures, label="")], 8, cell_pixels=CELL)
    assert page.width == len(pictures) * (cell[0] + MARGIN_PIXELS) + MARGIN_PIXELS
    assert page.height == cell[1] + LABEL_LINES * LINE_PIXELS + 2 * MARGIN_PIXELS


def test_a_marked_label_is_red_and_another_dark() -> None:
    def inks(*, marked: bool) -> set[object]:
        page = labelled_grid([(None, "owl", marked)], 1, cell_pixels=CELL)
        return {colour for _, colour in page.getcolors(1 << 16) or () if colour[0] > 2 * colour[1] > 0}  # type: ignore[index,operator]

    assert inks(marked=True)
    assert not inks(marked=False)


def test_a_label_that_fits_is_whole_and_a_longer_one_ends_in_an_ellipsis() -> None:
    assert wrapped("a red fox", FONT, 500, 2) == ["a red fox"]
    assert wrapped("a red fox", FONT, 40, 3) == ["a red", "fox"]
    assert wrapped("a red fox, asleep in the snow", FONT, 62, 2) == ["a red fox,", "asleep in\N{HORIZONTAL ELLIPSIS}"]
    assert wrapped("", FONT, 50, 2) == []


@given(text=st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=200), width=st.integers(20, 200))
def test_no_line_of_a_label_leaves_its_room(text: str, width: int) -> None:
    lines = wrapped(text, FONT, width, LABEL_LINES)
    assert len(lines) <= LABEL_LINES
    assert all(FONT.getlength(line) <= width for line in lines)
