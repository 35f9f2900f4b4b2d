"""A checkpoint of which every process writes a part is there as a whole or not at all, and any number of processes read it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.small_runs import ROOT

KILLED_BETWEEN = pytest.mark.parametrize("victim", [pytest.param("kill-0", marks=pytest.mark.long), "kill-1"])
LIMIT_SECONDS = 900


def scenario(name: str, folder: Path) -> list[dict[str, Any]]:
    """What `saving_together` says of it."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.ranks.saving_together", name, str(folder)],
        capture_output=True, text=True, cwd=ROOT, timeout=LIMIT_SECONDS, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@KILLED_BETWEEN
def test_a_process_killed_in_any_call_of_a_save_leaves_it_absent_or_complete(victim: str, tmp_path: Path) -> None:
    found = [one for one in scenario(victim, tmp_path) if "number" in one]
    *killed, last = found
    assert all(one["killed"] for one in killed)
    assert len(killed) >= 4
    assert not last["killed"]
    for one in found:
        assert one["newest"] in (1, 2), one
        assert one["same"], one
        assert one["other"] in (0, 3), "the other process ends, and says so"
        assert one["again"] == [0, 0], "the next save is whole"
        assert not one["left"], "and tidies up"
    assert (last["newest"], last["other"]) == (2, 0)


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return scenario("sizes", tmp_path_factory.mktemp("sizes"))


def test_what_so_many_processes_wrote_others_and_one_alone_read_bit_for_bit(sizes: list[dict[str, Any]]) -> None:
    """Also weights of fewer rows than there are processes, of which some have none."""
    for one in sizes:
        assert not any(one["written"])
        assert one["same"]
        assert not any(code for codes in one["read"].values() for code in codes), one


def test_its_shapes_are_those_of_the_whole(sizes: list[dict[str, Any]]) -> None:
    for one in sizes:
        assert one["shapes"]["weights"] == {
            "buffer": [4], "many": [14, 3], "few": [2, 2, 3, 3], "vector": [7], "half": [5, 2], "one": [1, 2]
        }  # fmt: skip


def test_it_holds_a_file_of_each_process_and_no_pickle(sizes: list[dict[str, Any]]) -> None:
    for one, count in zip(sizes, (2, 3, 5), strict=True):
        shards = [name for name in one["files"] if name.startswith("shard-")]
        assert len(shards) == count
        assert {Path(name).suffix for name in one["files"]} == {".safetensors", ".json", ".toml"}


def test_what_goes_wrong_on_one_process_is_told_on_all_and_leaves_nothing_behind(tmp_path: Path) -> None:
    found = scenario("trouble", tmp_path)
    first, spoilt, full, same, last = (one for one in found if "codes" in one)
    errors = {(one["error"], one["said"].partition(" The last")[0]) for one in found if "error" in one}
    assert errors == {
        ("NonFiniteError", "no checkpoint was written: many in weights is not finite."),
        ("OSError", "[Errno 28] No space left on device (process 1)"),
    }
    assert first["codes"] == same["codes"] == last["codes"] == [0, 0]
    assert spoilt["codes"] == full["codes"] == [3, 3]
    assert all(one["left"] == ["step-00000001"] for one in (first, spoilt, full, same))
    assert last["left"] == ["step-00000001", "step-00000004"]
