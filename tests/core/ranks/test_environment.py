"""A process reads its place from what a launcher says, and refuses what contradicts itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.errors import ConfigError
from core.ranks.environment import Place, read_place
from tests.small_runs import ROOT

SAID = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.7",
    "MASTER_PORT": "29500",
}  # fmt: skip


def test_a_launchers_variables_say_which_process_this_is() -> None:
    place = Place(rank=3, count=4, local_rank=1, local_count=2, host="10.0.0.7", port=29500, is_launched=True)
    assert read_place(SAID) == place


def test_without_them_a_process_is_alone() -> None:
    alone = read_place({"WORLD_SIZE": "4", "MASTER_PORT": "29500"})
    assert alone == Place()
    assert alone.is_main
    assert not alone.are_several


def test_one_machine_is_what_they_say_where_they_name_no_other() -> None:
    said = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}
    place = Place(rank=1, count=2, local_rank=1, local_count=2, host="127.0.0.1", port=29500, is_launched=True)
    assert read_place(said) == place


def test_a_launcher_may_have_started_one_process() -> None:
    assert read_place({"RANK": "0", "WORLD_SIZE": "1"}) == Place(is_launched=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"RANK": "one"}, r"no numbers: .*'one'"),
        ({"RANK": "4"}, r"RANK=4 is none of WORLD_SIZE=4"),
        ({"RANK": "-1"}, r"RANK=-1 is none of WORLD_SIZE=4"),
        ({"WORLD_SIZE": "0"}, r"RANK=3 is none of WORLD_SIZE=0"),
        ({"LOCAL_RANK": "2"}, r"LOCAL_RANK=2 is none of LOCAL_WORLD_SIZE=2"),
        ({"LOCAL_WORLD_SIZE": "5"}, r"LOCAL_RANK=1 is none of LOCAL_WORLD_SIZE=5, which is at most WORLD_SIZE=4"),
        ({"MASTER_PORT": "0"}, r"MASTER_PORT is missing"),
    ],
)
def test_what_contradicts_itself_is_refused_by_the_names_of_the_variables(change: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_place(SAID | change)


@pytest.mark.parametrize("engine", ["deepspeed", "fsdp"])
def test_an_engine_that_the_launcher_was_told_and_the_config_was_not_is_refused(engine: str) -> None:
    with pytest.raises(ConfigError, match=rf"distributed\.strategy = '{engine}'"):
        read_place(SAID | {f"ACCELERATE_USE_{engine.upper()}": "true"})
    assert read_place(SAID | {f"ACCELERATE_USE_{engine.upper()}": "false"}).count == 4


def test_a_rank_writes_its_own_files_beside_those_of_the_main_one() -> None:
    path = Path("traces/events.jsonl")
    assert Place(rank=2, count=3).own_file(path) == Path("traces/events-rank-2.jsonl")
    assert Place(rank=0, count=3).own_file(path) == path
    assert Place(rank=2, count=3).own_file(None) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="accelerate starts as many as it was told where it sees a GPU")
def test_the_lonely_process_that_accelerate_starts_where_it_sees_no_gpu_is_refused_with_what_to_do(
    write_config: Callable[..., Path],
) -> None:
    """It would train alone, with a fraction of the batches that were meant."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", str(ROOT / "run.py")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [*command, str(write_config())], capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT
    )
    assert done.returncode != 0
    assert "started one" in done.stderr
    assert "--multi_gpu" in done.stderr
    assert "run.py --processes N" in done.stderr


def test_accelerate_may_start_one_process_that_was_asked_for() -> None:
    """Its traces alone are no reason to refuse."""
    assert read_place({"ACCELERATE_MIXED_PRECISION": "no"}) == Place()
