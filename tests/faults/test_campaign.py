"""The fault campaign, in its shortest form: every row of the scorecard passes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_runs import ROOT

ROWS = (*(f"F{number:02d}" for number in range(1, 49)), *(f"S{number}" for number in range(1, 14)))


def campaign(*words: str, timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", *words], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """All rows as they went, by id."""
    path = tmp_path_factory.mktemp("campaign") / "results.json"
    done = campaign("--all", "--cut", "--json", str(path), timeout=1800)
    assert path.exists(), done.stdout + done.stderr
    return {str(result["id"]): result for result in json.loads(path.read_text())}


def test_the_scorecard_has_every_row_of_the_specification(results: dict[str, dict[str, object]]) -> None:
    assert tuple(results) == ROWS


@pytest.mark.parametrize("row", ROWS)
def test_a_fault_is_survived_as_specified(row: str, results: dict[str, dict[str, object]]) -> None:
    result = results[row]
    problems = "\n".join(str(problem)[-3000:] for problem in result["problems"])  # type: ignore[attr-defined]  # a list
    assert result["verdict"] == "pass", f"{result['title']}\n{problems}"


def test_bugs_that_are_put_into_the_product_are_noticed() -> None:
    done = campaign("--mutants", "--cut", timeout=600)
    assert done.stdout.splitlines()[-1] == "mutants 3/3 noticed", done.stdout + done.stderr
    assert done.returncode == 0


def test_a_row_that_nobody_knows_is_refused() -> None:
    done = campaign("F99", timeout=120)
    assert done.returncode == 2
    assert done.stdout.startswith("there is no row F99; rows: F01 F02")


def test_a_trial_that_fails_makes_its_row_fail(tmp_path: Path) -> None:
    """In lanes and without, by an assertion and by an exception."""
    from tests.faults.bench import Bench
    from tests.faults.rows import Row, run_row

    def fails(bench: Bench) -> None:
        with bench.trial("well"):
            pass
        with bench.trial("by words"):
            raise AssertionError("as it was said")
        bench.spread({"in a lane": raises, "well, in a lane": lambda lane: lane.notes.update(["seen"])})

    def raises(bench: Bench) -> None:
        raise KeyError("lost")

    result = run_row(Row("X01", "a row", {"cut": 1}, fails), "cut")
    assert result.line == "X01 fail 2/4"
    assert result.problems[0] == "by words: as it was said"
    assert "KeyError: 'lost'" in result.problems[1]
    assert dict(result.notes) == {"seen": 1}


def test_a_row_without_a_trial_does_not_pass() -> None:
    from tests.faults.rows import Row, run_row

    assert run_row(Row("X02", "a row", {"cut": 1}, lambda bench: None), "cut").line == "X02 fail 0/0"


def test_a_failing_row_ends_the_command_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.faults import __main__ as command
    from tests.faults.rows import Row

    def fails(bench: object) -> None:
        raise AssertionError("no")

    monkeypatch.setattr(command, "all_rows", lambda: {"X03": Row("X03", "a row", {"short": 1}, fails)})
    monkeypatch.setattr(command, "warm_up", lambda: None)
    monkeypatch.setattr(sys, "argv", ["tests.faults", "X03"])
    assert command.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "X03 fail 0/1"
