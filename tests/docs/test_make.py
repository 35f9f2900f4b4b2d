"""What README.md shows of the plan and of the demo is what the script makes of them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.page import block_in
from tests.small_runs import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def make() -> Iterator[ModuleType]:
    before = list(sys.path)
    sys.path.insert(0, str(ROOT / "docs"))
    import make

    yield make
    sys.path[:] = before


def test_the_chain_of_the_readme_is_what_the_command_prints(make: ModuleType) -> None:
    assert block_in(README, "plan").strip() == make.plan_block().strip(), "python docs/make.py plan"


def test_the_figures_of_the_demo_are_those_that_were_measured(make: ModuleType) -> None:
    assert block_in(README, "demo").strip() == make.demo_block(make.read_figures()).strip(), "python docs/make.py demo"


def test_a_run_that_is_not_finished_gives_no_figures(make: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "session.json").write_text('{"status": "stopped"}')
    with pytest.raises(FileNotFoundError, match="finish it first"):
        make.figures_of(tmp_path)
