"""AccumulationRamp sets how many batches a step has, from the first epoch on, and a resumed run has the same."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from events import Plugin, PluginSettings, on
from events.control import Control
from events.payloads import StepEnd
from events.testing import Harness, checkpoint_loaded, epoch_end, run_start
from plugins.accumulation_ramp import AccumulationRamp, accumulated
from tests.small_runs import Run, assert_same_state

RAMP = """
[[plugins]]
use = "plugins.accumulation_ramp.AccumulationRamp"
start = 1
end = 5
epochs = 3
course = "{}"
[[plugins]]
use = "tests.plugins.test_accumulation_ramp.Rounds"
"""
FIVE_BATCHES = ("train.batch_size=2", "train.accumulate=4", "checkpoint.every_steps=1", "checkpoint.keep=99")
"""Ten pictures; what the config says of accumulation is of no account."""


class Rounds(Plugin):
    """Notes how many batches each step had, and how many steps the trainer says the epoch has."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.seen: list[list[int]] = []

    @on("step.end")
    def note(self, event: StepEnd) -> None:
        self.seen.append([event.epoch, len(event.batches), event.steps_in_epoch])

    def state_dict(self) -> Mapping[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = [list(each) for each in state["seen"]]


def seen(run: Run) -> list[list[int]]:
    """Of each step, the resumed ones included: epoch, batches, and steps of the epoch."""
    return run.bus.plugins["Rounds"].seen  # type: ignore[union-attr,no-any-return]  # every run here has one


def asked(control: Control) -> list[int | None]:
    return [request.value for request in control.take("set") if request.key == "train.accumulate"]


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        ("linear", [(0, 1)] * 5 + [(1, 3), (1, 2)] + [(2, 5)] + [(3, 5)]),
        ("log", [(0, 1)] * 5 + [(1, 2), (1, 2), (1, 1)] + [(2, 5)]),
    ],
)
def test_a_real_run_accumulates_as_it_says_from_its_first_epoch_on(
    train: Callable[..., Run], course: str, expected: list[tuple[int, int]]
) -> None:
    run = train(*FIVE_BATCHES, "train.steps=9", plugins=RAMP.format(course))
    assert [(epoch, batches) for epoch, batches, _ in seen(run)] == expected
    steps = [epoch for epoch, _ in expected]
    assert [count for _, _, count in seen(run)] == [steps.count(epoch) for epoch in steps]


@pytest.mark.parametrize("stop", [1, 5, 6, 7])
def test_resumed_within_the_ramp_or_between_its_epochs_it_ends_as_the_unbroken_run(
    train: Callable[..., Run], stop: int
) -> None:
    plugins = RAMP.format("linear")
    whole = train("run.name=whole", *FIVE_BATCHES, "train.steps=8", plugins=plugins)
    train(*FIVE_BATCHES, f"train.steps={stop}", plugins=plugins)
    resumed = train(*FIVE_BATCHES, "train.steps=8", plugins=plugins)
    assert seen(resumed) == seen(whole)
    assert_same_state(resumed, whole)


def test_another_end_counts_from_the_next_epoch_on_also_once_the_ramp_is_over(train: Callable[..., Run]) -> None:
    plugins = RAMP.format("linear")
    train(*FIVE_BATCHES, "train.steps=8", plugins=plugins)
    run = train(*FIVE_BATCHES, "train.steps=11", plugins=plugins.replace("end = 5", "end = 2"))
    assert [(epoch, batches) for epoch, batches, _ in seen(run)][8:] == [(3, 5), (4, 2), (4, 2)]


def test_only_a_change_is_asked_for() -> None:
    harness, control = Harness(AccumulationRamp(AccumulationRamp.Settings(end=2, epochs=3))), Control()
    harness.emit("run.start", run_start(control=control))
    for epoch in range(5):
        harness.emit("epoch.end", epoch_end(epoch=epoch, control=control))
    assert asked(control) == [1, 2]


def test_a_run_that_goes_on_is_left_as_its_checkpoint_has_it_until_the_next_epoch() -> None:
    harness, control = Harness(AccumulationRamp(AccumulationRamp.Settings(end=3, epochs=3))), Control()
    harness.emit("run.start", run_start(resumed_step=9, control=control))
    assert asked(control) == []
    harness.emit("epoch.end", epoch_end(epoch=1, control=control))
    assert asked(control) == [3]


def test_a_run_that_goes_back_while_it_trains_has_the_number_set_again() -> None:
    harness, control = Harness(AccumulationRamp(AccumulationRamp.Settings(end=3, epochs=2))), Control()
    harness.emit("run.start", run_start(control=control))
    harness.emit("epoch.end", epoch_end(epoch=0, control=control))
    harness.emit("checkpoint.loaded", checkpoint_loaded(step=4))
    harness.emit("epoch.end", epoch_end(epoch=0, control=control))
    assert asked(control) == [1, 3, 3]


def test_the_logarithmic_course_multiplies_and_the_linear_one_adds() -> None:
    assert [accumulated(epoch, 2, 32, 5, "log") for epoch in range(7)] == [2, 4, 8, 16, 32, 32, 32]
    assert [accumulated(epoch, 2, 32, 4, "linear") for epoch in range(6)] == [2, 12, 22, 32, 32, 32]


def test_what_lies_between_is_rounded_and_halves_up() -> None:
    assert [accumulated(epoch, 1, 4, 3, "linear") for epoch in range(3)] == [1, 3, 4]
    assert [accumulated(epoch, 1, 3, 4, "linear") for epoch in range(4)] == [1, 2, 2, 3]


def test_a_ramp_may_fall() -> None:
    assert [accumulated(epoch, 8, 1, 4, "log") for epoch in range(5)] == [8, 4, 2, 1, 1]
