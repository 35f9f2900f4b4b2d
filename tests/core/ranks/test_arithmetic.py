"""What a process keeps and sends, by strategy, for a model of 1,000 weights with two moments each."""

from typing import Any

import pytest

from core.config.tables import DistributedTable
from core.ranks.arithmetic import Kept, Sizes, kept, sent

SIZES = Sizes(trained=1000, frozen=0, frozen_bytes=0, state_bytes=8000)
ADAPTER = Sizes(trained=10, frozen=1000, frozen_bytes=2000, state_bytes=80)


def of(strategy: Any = "ddp", count: int = 4, rounds: int = 1, *, is_half: bool = False, **settings: Any) -> Kept:
    table = DistributedTable(strategy=strategy, **settings)
    return kept(SIZES, table, count, rounds, is_half=is_half)


def sends(sizes: Sizes = SIZES, count: int = 4, rounds: int = 1, *, is_half: bool = False, **settings: Any) -> float:
    return sent(sizes, DistributedTable(**settings), count, rounds, is_half=is_half)


def test_ddp_keeps_everything_whole() -> None:
    whole = of("ddp")
    assert (whole.weights, whole.gradients, whole.state, whole.total) == (4000, 4000, 8000, 16000)
    assert whole.is_divided == (False, False, False)


def test_fsdp_divides_all_three() -> None:
    assert of("fsdp", 4) == Kept(weights=1000, gradients=1000, state=2000, is_divided=(True, True, True))


def test_deepspeed_divides_the_optimizers_state_with_its_own_copy_of_the_weights_and_from_stage_2_gradients() -> None:
    first, second = of("deepspeed", 4, zero_stage=1), of("deepspeed", 4, zero_stage=2)
    assert (first.weights, first.gradients, first.state) == (4000, 4000, 3000)
    assert (second.weights, second.gradients, second.state) == (4000, 1000, 3000)
    assert second.is_divided == (False, True, True)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "deepspeed"])
def test_one_process_keeps_everything_and_sends_nothing(strategy: str) -> None:
    assert of(strategy, 1).total == 16000
    assert sends(count=1, strategy=strategy) == 0


def test_weights_in_half_precision_come_and_go_beside_whole_ones() -> None:
    assert of("ddp", is_half=True).passing == of("deepspeed", is_half=True).passing == 2000
    assert of("ddp").passing == of("fsdp", is_half=True).passing == 0


def test_layers_that_stay_gathered_are_whole_for_as_long_as_a_step_takes() -> None:
    gathered = of("fsdp", reshard_after_forward=False, rounds=2, is_half=True)
    assert (gathered.weights, gathered.gradients, gathered.state, gathered.passing) == (1000, 4000, 2000, 2000)
    assert gathered.is_divided == (True, False, True)
    assert of("fsdp", reshard_after_forward=False).gradients == 1000


def test_frozen_weights_are_divided_too_and_have_neither_gradient_nor_moments() -> None:
    whole = kept(ADAPTER, DistributedTable(), 4, 1, is_half=True)
    assert (whole.weights, whole.gradients, whole.state, whole.passing) == (2040, 40, 80, 20)
    assert kept(ADAPTER, DistributedTable(strategy="fsdp"), 4, 1, is_half=True).weights == 510


def test_a_ring_sends_gradients_twice_round_but_for_ones_own_part() -> None:
    assert sends(count=4) == 2 * 3 / 4 * 4000
    assert sends(count=4, rounds=8) == sends(count=4)  # they stay at home until the last round
    assert sends(ADAPTER, count=4) == 2 * 3 / 4 * 40


def test_fsdp_gathers_weights_for_each_pass_and_shares_gradients_out() -> None:
    assert sends(strategy="fsdp") == 3 / 4 * (2 * 4000 + 4000)
    assert sends(strategy="fsdp", is_half=True) == 3 / 4 * (2 * 2000 + 4000)
    assert sends(strategy="fsdp", rounds=3) == 3 * sends(strategy="fsdp")
    assert sends(ADAPTER, strategy="fsdp", is_half=True) == 3 / 4 * (2 * 2020 + 40)


def test_layers_that_stay_gathered_are_gathered_once_a_round_and_gradients_shared_out_once() -> None:
    assert sends(strategy="fsdp", rounds=3, reshard_after_forward=False) == 3 / 4 * (3 * 4000 + 4000)


def test_deepspeed_adds_gradients_up_in_each_round_and_gathers_weights_once() -> None:
    assert sends(strategy="deepspeed", rounds=3) == 3 / 4 * (3 * 4000 + 4000)
