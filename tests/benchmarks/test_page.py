"""Figures that were written to a file stand on the page that they are for, and nothing else on it changes."""

import json
from pathlib import Path

import pytest

from benchmarks.figures import Figure, Point, Section
from benchmarks.output import Result, machine, write_json
from benchmarks.page import main

PAGE = "before\n\n<!-- made:begin -->\nolder\n<!-- made:end -->\n\nafter\n"
FIGURES = (
    Figure(name="ours / theirs", value=1.004, unit="ratio", low=0.99, high=1.02, at_most=1.02),
    Figure(name="one", value=12.0, unit="us", point=Point(line="emit", at=1, along="handlers")),
    Figure(name="twenty", value=74.3, unit="us", point=Point(line="emit", at=20, along="handlers")),
)


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    section = Section(name="made", question="What is it?", measure=lambda _: [])
    path = tmp_path / "benchmarks.json"
    write_json(path, machine(), [Result(section=section, seconds=1.0, figures=FIGURES)], rounds=3, is_quick=False)
    return path


def test_a_sections_figures_take_the_place_between_its_markers(tmp_path: Path, figures: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for _ in range(2):  # written again it is the same
        assert main([str(figures), str(page)]) == 0
        text = page.read_text()
        assert text.startswith("before\n\n<!-- made:begin -->\n")
        assert text.endswith("\n<!-- made:end -->\n\nafter\n")
        assert "older" not in text
    lines = text.splitlines()
    assert "| ours / theirs | 1.004 | 0.990 to 1.020 | ratio | <= 1.020 | met |" in lines
    assert "| us by number of handlers | 1 | 20 |" in lines
    assert "| emit | 12.0 | 74.3 |" in lines
    assert f"torch {json.loads(figures.read_text())['machine']['torch']}" in text
    assert (tmp_path / "images" / "performance.png").stat().st_size > 1000


@pytest.mark.parametrize("page", ["", "<!-- made:begin -->", "<!-- made:end --><!-- made:begin -->", PAGE + PAGE])
def test_a_page_without_a_place_for_them_is_left_as_it_is(tmp_path: Path, figures: Path, page: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(page)
    with pytest.raises(ValueError, match="<!-- made:begin -->"):
        main([str(figures), str(path)])
    assert path.read_text() == page
