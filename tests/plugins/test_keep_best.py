"""KeepBest keeps the checkpoint of the lowest validation loss, and EarlyStop ends a run whose loss has stopped falling."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from events.errors import PluginError
from events.testing import (
    Harness,
    checkpoint_loaded,
    checkpoint_saved,
    retention_context,
    run_start,
    validation_end,
)
from plugins.early_stop import EarlyStop, measurements_without_a_fall
from plugins.keep_best import KeepBest
from tests.core.plugins_for_validation import Spoiled
from tests.small_runs import Run

BOTH = (
    '[[plugins]]\nuse = "tests.core.plugins_for_validation.Spoiled"\npriority = 1\n'
    '[[plugins]]\nuse = "plugins.keep_best.KeepBest"\n[[plugins]]\nuse = "plugins.early_stop.EarlyStop"\npatience = {}\n'
)
VALIDATED = (
    "train.warmup_steps=0",
    "validation.fraction=0.3",
    "validation.every_steps=1",
    "checkpoint.every_steps=1",
    "checkpoint.keep=1",
)


def measured(harness: Harness, losses: Sequence[float]) -> list[str]:
    """Kinds of what was asked for after the last of these losses, at steps 0, 1, ..."""
    history, begun = {"held_out": tuple(enumerate(losses))}, run_start()
    harness.emit("run.start", begun)
    event = validation_end(step=len(losses) - 1, losses={"held_out": losses[-1]}, history=history)
    harness.emit("validation.end", event)
    return [request.kind for request in begun.control.take("save", "stop")]


def test_a_new_best_is_saved_and_others_are_not() -> None:
    harness = Harness(KeepBest())
    assert measured(harness, [3.0]) == []  # nothing has been trained yet
    assert measured(harness, [3.0, 2.0]) == ["save"]
    assert measured(harness, [3.0, 2.0, 2.5]) == []
    assert measured(harness, [3.0, 2.0, 2.5, 1.0]) == ["save"]


def test_the_best_is_let_stay_until_a_better_one_is_there() -> None:
    harness = Harness(KeepBest())
    measured(harness, [3.0, 2.0])
    harness.emit("checkpoint.saved", checkpoint_saved(step=1))
    assert harness.apply("checkpoint.retention", (2, 1), retention_context(step=3)) == (2,)
    measured(harness, [3.0, 2.0, 2.5, 1.0])
    assert harness.apply("checkpoint.retention", (2, 1), retention_context(step=3)) == (2, 1)


def test_a_best_counts_also_when_the_next_is_measured_before_its_checkpoint_is_whole() -> None:
    harness = Harness(KeepBest())
    measured(harness, [3.0, 2.0])
    measured(harness, [3.0, 2.0, 1.0])
    harness.emit("checkpoint.saved", checkpoint_saved(step=1))
    assert harness.apply("checkpoint.retention", (1,), retention_context(step=3)) == ()
    assert harness.apply("checkpoint.retention", (1,), retention_context(step=2)) == (1,)


def test_the_best_is_remembered_over_a_resume() -> None:
    first, second = KeepBest(), KeepBest()
    harness = Harness(first)
    measured(harness, [3.0, 2.0])
    harness.emit("checkpoint.saved", checkpoint_saved(step=1))
    second.load_state_dict(first.state_dict())
    assert Harness(second).apply("checkpoint.retention", (1,), retention_context(step=3)) == ()


def test_the_best_stays_when_the_run_ended_before_it_was_told_of() -> None:
    """Its own checkpoint cannot hold that it was saved; that it is loaded says so."""
    first, second = KeepBest(), KeepBest()
    measured(Harness(first), [3.0, 2.0])
    second.load_state_dict(first.state_dict())
    harness = Harness(second)
    harness.emit("checkpoint.loaded", checkpoint_loaded(step=1))
    assert harness.apply("checkpoint.retention", (1,), retention_context(step=3)) == ()


@pytest.mark.parametrize("plugin", [KeepBest, EarlyStop])
def test_a_set_that_is_not_measured_is_refused(plugin: type) -> None:
    with pytest.raises(PluginError, match="there is no validation set 'other'; measured are held_out"):
        measured(Harness(plugin(plugin.Settings(set="other"))), [1.0])  # type: ignore[attr-defined]  # every plugin has it


def test_a_run_stops_after_its_patience() -> None:
    harness = Harness(EarlyStop(EarlyStop.Settings(patience=2)))
    assert measured(harness, [3.0, 2.0, 2.5]) == []
    assert measured(harness, [3.0, 2.0, 2.5, 2.0]) == ["stop"]


def test_a_fall_has_to_be_large_enough_to_count() -> None:
    assert measurements_without_a_fall([2.0, 1.95, 1.9, 1.8], 0.05) == 0
    assert measurements_without_a_fall([2.0, 1.95, 1.92, 1.91], 0.05) == 3


def test_a_real_run_keeps_its_best_checkpoint_and_stops(train: Callable[..., Run]) -> None:
    """The measured loss is made to rise from step 3 on."""
    Spoiled.least_at = 3
    run = train(*VALIDATED, "train.steps=20", "checkpoint.keep=1", plugins=BOTH.format(4))
    kept = sorted(int(path.name.removeprefix("step-")) for path in (run.folder / "checkpoints").glob("step-*"))
    assert kept == [3, 7]


def test_what_is_saved_is_what_was_measured(train: Callable[..., Run]) -> None:
    """Also where no checkpoint would be due."""
    Spoiled.least_at = 3
    run = train(*VALIDATED[:2], "validation.every_steps=3", "checkpoint.every_steps=0", "checkpoint.keep=1",
                "train.steps=5", plugins=BOTH.format(9))  # fmt: skip
    kept = sorted(path.name for path in (run.folder / "checkpoints").glob("step-*"))
    assert kept == ["step-00000003", "step-00000005"]


def test_a_resumed_run_goes_on_with_the_history_of_its_losses(train: Callable[..., Run], tmp_path: Path) -> None:
    Spoiled.least_at = 1
    train(*VALIDATED, "train.steps=4", plugins=BOTH.format(5))
    run = train(*VALIDATED, "train.steps=20", plugins=BOTH.format(5))
    kept = sorted(int(path.name.removeprefix("step-")) for path in (run.folder / "checkpoints").glob("step-*"))
    assert kept == [1, 6]
