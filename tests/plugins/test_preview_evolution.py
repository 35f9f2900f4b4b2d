"""PreviewEvolution keeps one page with a row for each preview step and a column for each prompt."""

from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from core.preview.grid import CELL_PIXELS, LINE_PIXELS, MARGIN_PIXELS, MARK
from events.payloads import Prompt
from events.testing import Harness, preview_end, prompt, run_info
from plugins.preview_evolution import PreviewEvolution, evenly

WHITE = (255, 255, 255)
RED, LIME, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
HEART, CIRCLE = prompt("red heart"), prompt("blue circle", note="held out")


def render(folder: Path, step: int, *pictures: tuple[Prompt, tuple[int, int, int]], rows: int = 8) -> Image.Image:
    """One preview round of these prompts in these colours, and the page after it."""
    paths = []
    for number, (one, colour) in enumerate(pictures):
        path = folder / "previews" / f"step-{step:06d}" / f"{number:02d}-{one.text.replace(' ', '-')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), colour).save(path)
        paths.append(path)
    event = preview_end(run=run_info(folder), step=step, prompts=tuple(one for one, _ in pictures), paths=tuple(paths))
    Harness(PreviewEvolution(PreviewEvolution.Settings(rows=rows))).emit("preview.end", event)
    return page_of(folder)


def page_of(folder: Path) -> Image.Image:
    with Image.open(folder / "previews" / "evolution.png") as page:
        return page.convert("RGB")


def corner(prompt: int, step: int) -> tuple[int, int]:
    """Where a cell begins, below the page's title."""
    top = LINE_PIXELS + 2 * MARGIN_PIXELS + step * (CELL_PIXELS + 2 * LINE_PIXELS + MARGIN_PIXELS)
    return MARGIN_PIXELS + prompt * (CELL_PIXELS + MARGIN_PIXELS), top


def colours(page: Image.Image, prompts: int, steps: int) -> list[list[tuple[int, ...]]]:
    half = CELL_PIXELS // 2
    places = [[corner(prompt, step) for step in range(steps)] for prompt in range(prompts)]
    return [[page.getpixel((left + half, top + half)) for left, top in row] for row in places]  # type: ignore[misc]


def label_colours(page: Image.Image, prompt: int, step: int) -> set[tuple[int, int, int]]:
    left, top = corner(prompt, step)
    strip = page.crop((left, top + CELL_PIXELS, left + CELL_PIXELS, top + CELL_PIXELS + 2 * LINE_PIXELS))
    return {colour for _, colour in strip.getcolors(1 << 16)}  # type: ignore[misc, union-attr]


def test_a_row_is_a_step_and_a_column_a_prompt(tmp_path: Path) -> None:
    render(tmp_path, 0, (HEART, WHITE), (CIRCLE, WHITE))
    render(tmp_path, 100, (HEART, LIME), (CIRCLE, RED))
    page = render(tmp_path, 200, (HEART, RED), (CIRCLE, BLUE))
    assert colours(page, 2, 3) == [[WHITE, LIME, RED], [WHITE, RED, BLUE]]


def test_it_shows_at_most_so_many_steps_the_first_and_the_last_among_them(tmp_path: Path) -> None:
    for step in range(0, 100, 10):
        page = render(tmp_path, step, (HEART, (step, 0, 0)), rows=4)
    assert [colour[0] for colour in colours(page, 1, 4)[0]] == [0, 30, 60, 90]


def test_steps_after_this_one_are_of_an_earlier_session_and_not_shown(tmp_path: Path) -> None:
    for step, colour in ((0, RED), (10, LIME), (20, BLUE)):
        render(tmp_path, step, (HEART, colour))
    page = render(tmp_path, 10, (HEART, BLUE))
    assert page.height == corner(0, 2)[1]
    assert colours(page, 1, 2) == [[RED, BLUE]]


def test_a_prompt_that_was_not_rendered_at_a_step_has_an_empty_place_there(tmp_path: Path) -> None:
    render(tmp_path, 0, (HEART, RED))
    page = render(tmp_path, 10, (CIRCLE, BLUE))
    assert colours(page, 1, 2) == [[WHITE, BLUE]]


def test_a_prompt_with_a_note_is_labelled_in_red(tmp_path: Path) -> None:
    page = render(tmp_path, 0, (HEART, RED), (CIRCLE, BLUE))
    red = tuple(bytes.fromhex(MARK[1:]))
    assert red in label_colours(page, 1, 0)
    assert red not in label_colours(page, 0, 0)


def test_each_picture_has_a_label(tmp_path: Path) -> None:
    render(tmp_path, 0, (HEART, RED))
    page = render(tmp_path, 10, (HEART, RED))
    assert all(len(label_colours(page, 0, step)) > 1 for step in (0, 1))


def test_a_round_that_failed_leaves_the_page_as_it_is(tmp_path: Path) -> None:
    before = render(tmp_path, 0, (HEART, RED))
    Harness(PreviewEvolution()).emit("preview.end", preview_end(run=run_info(tmp_path), step=10, prompts=(HEART,)))
    assert page_of(tmp_path).tobytes() == before.tobytes()


def test_a_round_that_failed_half_way_shows_the_prompts_that_were_rendered(tmp_path: Path) -> None:
    render(tmp_path, 0, (HEART, RED))
    path = tmp_path / "previews" / "step-000000" / "00-red-heart.png"
    event = preview_end(run=run_info(tmp_path), step=0, prompts=(HEART, CIRCLE), paths=(path,))
    Harness(PreviewEvolution()).emit("preview.end", event)
    assert colours(page_of(tmp_path), 1, 1) == [[RED]]


@pytest.mark.parametrize("count", range(2, 12))
@pytest.mark.parametrize("length", range(1, 30))
def test_steps_are_chosen_evenly(length: int, count: int) -> None:
    chosen = evenly(range(length), count)
    assert len(chosen) == min(length, count)
    assert (chosen[0], chosen[-1]) == (0, length - 1)
    gaps = {after - before for before, after in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1
