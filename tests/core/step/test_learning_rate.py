"""The learning rate is a pure function of the step: it rises linearly, stays, and falls by the formula of its schedule."""

import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.config.tables import TrainTable
from core.step.learning_rate import learning_rate_factor, rate_lines
from events.payloads import ParameterGroup
from tests.small_runs import Run

SCHEDULES = ("constant", "linear", "cosine", "polynomial")
tables = st.builds(
    TrainTable,
    steps=st.integers(1, 400),
    schedule=st.sampled_from(SCHEDULES),
    cycles=st.integers(1, 7),
    power=st.floats(0.1, 8),
    warmup_steps=st.integers(0, 500),
    decay_from=st.floats(0, 0.99),
    final_factor=st.floats(0, 1),
)


def test_warm_up_rises_linearly_and_the_first_step_is_not_lost() -> None:
    factor = learning_rate_factor(TrainTable(steps=100, warmup_steps=10))
    assert [factor(step) for step in range(12)] == pytest.approx([*(n / 10 for n in range(1, 11)), 1.0, 1.0])


def test_the_fall_begins_at_decay_from_and_ends_with_the_last_step_at_the_final_factor() -> None:
    for schedule in ("linear", "cosine", "polynomial"):
        table = TrainTable(steps=100, schedule=schedule, decay_from=0.5, final_factor=0.1)  # type: ignore[arg-type]
        factor = learning_rate_factor(table)
        assert factor(50) == 1.0
        assert 0.1 < factor(51) < 1.0
        assert factor(99) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        ("linear", lambda x: 1 - x),
        ("cosine", lambda x: 0.5 * (1 + math.cos(math.pi * x))),
        ("polynomial", lambda x: (1 - x) ** 2.5),
    ],
)
def test_between_the_two_it_follows_the_formula(schedule: Any, formula: Callable[[float], float]) -> None:
    factor = learning_rate_factor(TrainTable(steps=41, schedule=schedule, power=2.5, final_factor=0.25))
    for step in range(41):
        assert factor(step) == pytest.approx(0.25 + 0.75 * formula(step / 40))


def test_each_cycle_of_the_cosine_begins_at_the_peak_and_the_last_ends_at_the_final_factor() -> None:
    """Ninety steps from first to last and three cycles: peaks at 0, 30 and 60, and the lowest rate just before."""
    factor = learning_rate_factor(TrainTable(steps=91, schedule="cosine", cycles=3))
    assert [factor(0), factor(30), factor(60)] == [1.0, 1.0, 1.0]
    assert factor(45) == pytest.approx(0.5)
    assert factor(29) == factor(59) == factor(89) < 0.01
    assert factor(90) == 0.0


@pytest.mark.parametrize("cycles", [1, 2, 3, 5])
@pytest.mark.parametrize("warmup", [0, 8])
def test_after_warm_up_it_is_what_transformers_has_for_the_same_schedule(cycles: int, warmup: int) -> None:
    """transformers counts to one step past the last, where ours is at the last; so it is given a step less."""
    from transformers import optimization as theirs

    steps, power, final = 60, 1.7, 0.2
    count: dict[str, int] = {"num_warmup_steps": warmup, "num_training_steps": steps - 1}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    pairs: list[tuple[dict[str, Any], Any]] = [
        ({"schedule": "linear"}, theirs.get_linear_schedule_with_warmup(optimizer, **count)),
        ({"schedule": "cosine", "cycles": cycles},
         theirs.get_cosine_with_hard_restarts_schedule_with_warmup(optimizer, **count, num_cycles=cycles)),
        ({"schedule": "polynomial", "power": power, "final_factor": final},
         theirs.get_polynomial_decay_schedule_with_warmup(optimizer, **count, lr_end=final, power=power)),
    ]  # fmt: skip
    for settings, schedule in pairs:
        factor = learning_rate_factor(TrainTable(steps=steps, warmup_steps=warmup, **settings))
        expected = [schedule.lr_lambdas[0](step) for step in range(warmup, steps)]
        got = [factor(step) for step in range(warmup, steps)]
        differing = [
            step for step, (one, other) in enumerate(zip(got, expected, strict=True)) if abs(one - other) > 1e-9
        ]
        assert all(step * cycles % (steps - 1 - warmup) == 0 for step in differing), settings  # theirs rounds a restart


@given(table=tables, seed=st.integers(0, 9))
def test_it_is_between_0_and_1_and_the_same_whatever_was_asked_before(table: TrainTable, seed: int) -> None:
    steps = list(range(table.steps))
    in_order = [learning_rate_factor(table)(step) for step in steps]
    assert all(0 <= one <= 1 for one in in_order)
    factor, shuffled = learning_rate_factor(table), steps.copy()
    random.Random(seed).shuffle(shuffled)
    assert {step: factor(step) for step in shuffled} == dict(zip(steps, in_order, strict=True))


def test_a_run_uses_it_step_by_step_and_not_round_by_round(train: Callable[..., Run]) -> None:
    run = train(
        "train.steps=3", "train.batch_size=2", "train.accumulate=2", "train.warmup_steps=0",
        "train.schedule=polynomial", "train.power=2", "checkpoint.every_steps=1", "checkpoint.keep=9",
    )  # fmt: skip
    rates = [group["lr"] for group in run.state()["state"]["optimizer"]["groups"]]  # type: ignore[index]
    assert rates == [0.0, 0.0]

    second = json.loads((run.folder / "checkpoints" / "step-00000002" / "state.json").read_text())
    assert [group["lr"] for group in second["optimizer"]["groups"]] == pytest.approx([1e-3 / 4, 1e-3 / 4])


def test_what_ranks_compare_names_groups_and_rates_over_the_run() -> None:
    weights = {"unet.a": torch.nn.Parameter(torch.zeros(3, 2)), "unet.b": torch.nn.Parameter(torch.zeros(4))}
    group = ParameterGroup(name="unet", parameters=weights, learning_rate=1e-3, weight_decay=0.01)
    assert list(rate_lines([group], lambda taken: 1 / (1 + taken), 100)) == [
        "group unet: 2 weights of 10 numbers, learning rate 0.001, weight decay 0.01",
        "factor of the learning rate after 0 steps: 1.0",
        "factor of the learning rate after 1 steps: 0.5",
        f"factor of the learning rate after 50 steps: {1 / 51!r}",
        "factor of the learning rate after 99 steps: 0.01",
    ]
