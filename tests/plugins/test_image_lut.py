"""The look of a .cube file is applied as it says, and a file that says something else is refused with its line."""

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image
from pydantic import ValidationError

from events import TextFile
from events.testing import Harness, sample_context
from plugins.image_lut import Lut, read_cube
from tests.plugins.pictures_for_tests import COLOURS, draws_nothing, in_validation
from tests.small_runs import ROOT

Colour = tuple[float, float, float]
Write = Callable[..., Path]


def cube(change: Callable[[Colour], Colour], size: int = 2, head: str = "") -> str:
    steps = [step / (size - 1) for step in range(size)]
    rows = [change((red, green, blue)) for blue, green, red in product(steps, steps, steps)]
    return f"{head}LUT_3D_SIZE {size}\n" + "".join(f"{red} {green} {blue}\n" for red, green, blue in rows)


def negative(colour: Colour) -> Colour:
    return 1 - colour[0], 1 - colour[1], 1 - colour[2]


def turned(colour: Colour) -> Colour:
    """Red becomes green, green blue, and blue red."""
    return colour[2], colour[0], colour[1]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        (tmp_path / "look.cube").write_text(text)
        return tmp_path / "look.cube"

    return write


def looked(picture: Image.Image, path: Path, *, epoch: int = 0, **settings: Any) -> Any:
    plugin = Lut(Lut.Settings(file=path, **settings))
    return Harness(plugin).apply("sample.image", picture, sample_context(epoch=epoch))


@pytest.mark.parametrize("size", [2, 5, 17])
def test_a_table_of_every_colour_itself_changes_nothing(write: Write, size: int) -> None:
    assert looked(COLOURS, write(cube(lambda colour: colour, size))).tobytes() == COLOURS.tobytes()


def test_each_colour_becomes_what_the_table_says(write: Write) -> None:
    assert numpy.array_equal(looked(COLOURS, write(cube(negative))), 255 - numpy.asarray(COLOURS))
    assert numpy.array_equal(looked(COLOURS, write(cube(turned, 3))), numpy.asarray(COLOURS)[..., [2, 0, 1]])


def test_a_strength_blends_with_what_was(write: Write) -> None:
    path = write(cube(negative))
    white = Image.new("RGB", (1, 1), "white")
    assert looked(white, path, strength=0.2).getpixel((0, 0)) == (204, 204, 204)
    assert looked(COLOURS, path, strength=0) is COLOURS


def test_titles_comments_and_a_plain_domain_are_read_over(write: Write) -> None:
    head = '# by hand\nTITLE "a look"\nDOMAIN_MIN 0 0 0.0\nDOMAIN_MAX 1 1.0 1\n\n'
    assert numpy.array_equal(looked(COLOURS, write(cube(negative, head=head))), 255 - numpy.asarray(COLOURS))


def test_the_example_is_a_whole_table() -> None:
    table = read_cube(TextFile.read(ROOT / "examples" / "looks" / "faded.cube"))
    assert (table.size, len(table.colours)) == (9, 3 * 9**3)


def test_a_random_strength_lies_in_its_range_and_repeats_at_its_place(write: Write) -> None:
    path, white = write(cube(negative)), Image.new("RGB", (1, 1), "white")
    found = [looked(white, path, strength=[0.2, 0.6], epoch=epoch).getpixel((0, 0))[0] for epoch in range(60)]
    assert 102 <= min(found) < 115
    assert 190 < max(found) <= 204
    assert found == [looked(white, path, strength=[0.2, 0.6], epoch=epoch).getpixel((0, 0))[0] for epoch in range(60)]


def test_fixed_it_is_for_validation_and_draws_nothing_and_random_it_is_not(write: Write) -> None:
    fixed, drawn = (Lut(Lut.Settings(file=write(cube(negative)), strength=one)) for one in (1, (0, 1)))  # type: ignore[arg-type]  # a path is read
    assert in_validation(fixed, "sample.image", COLOURS) != COLOURS
    assert draws_nothing(fixed, "sample.image", COLOURS)
    assert in_validation(drawn, "sample.image", COLOURS) is COLOURS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grey => gray\n", "line 1: 'grey => gray' is no colour of three numbers"),
        ("LUT_3D_SIZE 2\n0 0 0\n0 nan 0\n", "line 3: '0 nan 0' is no colour of three numbers"),
        ("# x\nLUT_3D_SIZE 99\n", "line 2: LUT_3D_SIZE 99 is not a whole number from 2 to 65"),
        ("LUT_3D_SIZE two\n", "line 1: LUT_3D_SIZE two is not a whole number"),
        ("LUT_1D_SIZE 16\n", "line 1: a table of one dimension; plugins.image_curves.Curves has its like"),
        ("DOMAIN_MAX 2 2 2\n", "line 1: 'DOMAIN_MAX 2 2 2'; a table from 0 to 1 is read"),
        ("LUT_3D_SIZE 2\n0 0 0\n1 1 1\n", "look.cube: LUT_3D_SIZE 2 takes 8 colours, and there are 2"),
        ("0 0 0\n", "look.cube: no line says LUT_3D_SIZE; is it a .cube file?"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused_with_its_line(write: Write, text: str, said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)) as caught:
        Lut.Settings.model_validate({"file": write(text)})
    assert "look.cube" in str(caught.value)
