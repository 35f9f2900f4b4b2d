"""A loss that is not finite on one rank is left out by all of them, and going back takes every rank to the same step."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.ranks.launching import train_in_processes
from tests.small_runs import Run
from tests.small_runs import assert_same as assert_same_parts

SPOIL = """
[[plugins]]
use = "tests.core.ranks.plugins_for_numbers.SpoilOnRank"
name = "Spoil"
rank = {rank}
how = "{how}"
places = {places}
[[plugins]]
use = "plugins.ema.Ema"
"""
APART, IN_A_ROW = [[1, 0], [2, 0]], [[1, 0], [1, 1]]
EVERY = ("log.every_steps=1", "train.steps=7")
REWIND = ("train.on_nonfinite=rewind", "train.max_skipped=2", *EVERY)


@pytest.mark.parametrize("how", [pytest.param("times nan", marks=pytest.mark.long), "plus infinity"])
def test_a_loss_that_is_not_finite_on_one_rank_moves_no_weight_on_any(
    write_config: Callable[..., Path], how: str
) -> None:
    """As where one process goes through the same batches, also where the gradients of that loss would have been finite."""
    one = train_in_processes(
        write_config(SPOIL.format(rank=-1, how=how, places=APART), name="one.toml"),
        "run.name=one",
        "train.accumulate=2",
        *EVERY,
        count=1,
    )
    two = train_in_processes(write_config(SPOIL.format(rank=1, how=how, places=APART)), "run.name=two", *EVERY)
    assert one.exit_code == two.exit_code == 0, two.output
    assert_same(one, two)
    assert two.output.count("was skipped") == 2


def test_all_ranks_go_back_and_end_with_the_bits_of_one_process(write_config: Callable[..., Path]) -> None:
    config = write_config(SPOIL.format(rank=-1, how="times nan", places=IN_A_ROW))
    one = train_in_processes(config, "run.name=one", "train.accumulate=2", *REWIND, count=1)
    two = train_in_processes(config, "run.name=two", *REWIND)
    assert one.exit_code == two.exit_code == 0, two.output
    assert two.output.count("went back to step 2") == 1
    assert_same(one, two)


def assert_same(one: Run, two: Run) -> None:
    """But for what is told a window later with several processes, and how many there are."""
    left, right = one.state(), two.state()
    for state in (left["state"], right["state"]):
        for key in ("metrics", "processes"):
            state.pop(key)  # type: ignore[attr-defined]  # a dict
        for key in ("epoch_loss_sum", "epoch_loss_steps"):
            state["position"].pop(key)  # type: ignore[index]  # likewise
    assert_same_parts(left, right)
