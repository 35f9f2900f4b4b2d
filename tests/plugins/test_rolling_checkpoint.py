"""RollingCheckpoint saves by epochs or parts of them and lets the newest few stay, beside what checkpoint.* keeps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from events.testing import (
    Harness,
    checkpoint_loaded,
    checkpoint_saved,
    checkpoint_start,
    control_applied,
    retention_context,
    step_end,
)
from plugins.rolling_checkpoint import RollingCheckpoint
from tests.small_runs import Run, assert_same_state

ROLLING = '[[plugins]]\nuse = "plugins.rolling_checkpoint.RollingCheckpoint"\n'
FIVE_STEPS = ("train.batch_size=2", "checkpoint.every_steps=0", "checkpoint.keep=1")
"""An epoch of ten pictures."""


def rolling(**settings: object) -> RollingCheckpoint:
    return RollingCheckpoint(RollingCheckpoint.Settings.model_validate(settings))


def kept(folder: Path) -> list[int]:
    """Steps of the checkpoints; what was set aside as damaged has another name."""
    names = (path.name.removeprefix("step-") for path in (folder / "checkpoints").iterdir())
    return sorted(int(name) for name in names if name.isdigit())


def due(plugin: RollingCheckpoint, epochs: int, steps_in_epoch: int, *, skipped: tuple[int, ...] = ()) -> list[int]:
    """Steps after which a checkpoint is asked for; `skipped` are places, counted from 0 over all epochs."""
    harness, found, step = Harness(plugin), [], 0
    for place in range(epochs * steps_in_epoch):
        if place in skipped:
            continue
        epoch, step_in_epoch = divmod(place, steps_in_epoch)
        step += 1
        event = step_end(step=step, epoch=epoch, step_in_epoch=step_in_epoch, steps_in_epoch=steps_in_epoch)
        harness.emit("step.end", event)
        found += [step] * len(event.control.take("save"))
    return found


def take_step(harness: Harness, step: int, *, epoch: int, step_in_epoch: int = 0, steps_in_epoch: int = 1) -> None:
    """As the trainer does it: where a save is asked for, take the request up and begin one."""
    event = step_end(step=step, epoch=epoch, step_in_epoch=step_in_epoch, steps_in_epoch=steps_in_epoch)
    harness.emit("step.end", event)
    for request in event.control.take("save"):
        harness.emit("control.applied", control_applied(step=step, kind="save", asker=request.asker))
        harness.emit("checkpoint.start", checkpoint_start(step=step))


def let_go(harness: Harness, step: int) -> tuple[int, ...]:
    """Whether the checkpoint of step 1 may go once there is one of this step: (1,) or nothing."""
    going: tuple[int, ...] = (1,)
    return harness.apply("checkpoint.retention", going, retention_context(step=step))


def save(harness: Harness, step: int, going: tuple[int, ...]) -> tuple[int, ...]:
    """As the trainer does it: ask which may go, write, tell. Returns those that went."""
    gone = harness.apply("checkpoint.retention", going, retention_context(step=step))
    harness.emit("checkpoint.saved", checkpoint_saved(step=step))
    return gone


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (1.0, [10, 20, 30]),
        (2.0, [20]),
        (0.5, [5, 10, 15, 20, 25, 30]),
        (0.25, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30]),
        (1.5, [15, 30]),
        (0.1, list(range(1, 31))),
        (1 / 3, [4, 7, 10, 14, 17, 20, 24, 27, 30]),
        (0.001, list(range(1, 31))),
    ],
)
def test_it_saves_at_the_first_step_by_which_the_share_of_the_epochs_has_been_taken(
    every: float, expected: list[int]
) -> None:
    assert due(rolling(every_epochs=every), 3, 10) == expected


def test_where_the_step_that_it_was_due_at_is_skipped_it_saves_after_the_next() -> None:
    assert due(rolling(every_epochs=0.5), 2, 4, skipped=(1, 3)) == [2, 3, 4, 6]


def test_in_the_middle_of_a_run_it_begins_with_what_is_due_next() -> None:
    harness, event = Harness(rolling()), step_end(step=25, epoch=2, step_in_epoch=4, steps_in_epoch=10)
    harness.emit("step.end", event)
    assert event.control.take("save") == []


def test_only_the_newest_of_its_own_are_held_back(tmp_path: Path) -> None:
    harness = Harness(rolling(every_epochs=0.5, keep=2))
    gone: dict[int, tuple[int, ...]] = {}
    for step in range(1, 9):
        take_step(harness, step, epoch=(step - 1) // 4, step_in_epoch=(step - 1) % 4, steps_in_epoch=4)
        gone[step] = save(harness, step, tuple(range(step - 1, 0, -1)))  # with every step saved and none kept
    assert gone[4] == (3, 1)  # 2 is its own, and so is the new one
    assert gone[5] == (3, 1)
    assert gone[6] == (5, 3, 2, 1)
    assert gone[8] == (7, 5, 4, 3, 2, 1)


def test_one_that_could_not_be_written_counts_for_nothing() -> None:
    harness = Harness(rolling(keep=1))
    for step, epoch in ((1, 0), (2, 1)):
        take_step(harness, step, epoch=epoch)
        if step == 1:
            save(harness, step, ())
    assert let_go(harness, 3) == ()


def test_one_that_is_still_being_written_when_the_next_is_asked_for_counts_too() -> None:
    harness = Harness(rolling(keep=2))
    for step in (1, 2):
        take_step(harness, step, epoch=step - 1)
    harness.emit("checkpoint.saved", checkpoint_saved(step=1))
    assert let_go(harness, 2) == ()
    harness.emit("checkpoint.saved", checkpoint_saved(step=2))
    both: tuple[int, ...] = (2, 1)
    assert harness.apply("checkpoint.retention", both, retention_context(step=3)) == ()


def test_with_several_processes_its_own_is_the_one_that_is_begun_once_its_wish_is_taken_up() -> None:
    """Which may be steps after it was asked for, behind one that the run saves by itself."""
    harness = Harness(rolling(keep=1))
    harness.emit("step.end", step_end(step=1, epoch=0, step_in_epoch=0, steps_in_epoch=1))
    harness.emit("checkpoint.start", checkpoint_start(step=1))
    harness.emit("control.applied", control_applied(step=3, kind="save", asker="somebody"))
    harness.emit("checkpoint.start", checkpoint_start(step=3))
    harness.emit("control.applied", control_applied(step=4, kind="save", asker="RollingCheckpoint"))
    harness.emit("checkpoint.start", checkpoint_start(step=4))
    for step in (1, 3, 4):
        harness.emit("checkpoint.saved", checkpoint_saved(step=step))
    going: tuple[int, ...] = (4, 3, 1)
    assert harness.apply("checkpoint.retention", going, retention_context(step=5)) == (3, 1)


def test_a_wish_that_a_stop_has_cut_off_is_made_again() -> None:
    first, second = rolling(), rolling()
    Harness(first).emit("step.end", step_end(step=1, epoch=0, step_in_epoch=0, steps_in_epoch=1))
    second.load_state_dict(first.state_dict())
    harness, found = Harness(second), []
    for step in (2, 3):
        event = step_end(step=step, epoch=1, step_in_epoch=step - 2, steps_in_epoch=9)
        harness.emit("step.end", event)
        found.append(len(event.control.take("save")))
    assert found == [1, 0]


def test_one_that_was_loaded_had_been_saved_though_the_run_ended_before_it_was_told_of() -> None:
    first, second = rolling(), rolling()
    take_step(Harness(first), 1, epoch=0)
    second.load_state_dict(first.state_dict())
    harness = Harness(second)
    assert let_go(harness, 2) == (1,)
    harness.emit("checkpoint.loaded", checkpoint_loaded(step=1))
    assert let_go(harness, 2) == ()


def test_a_real_run_keeps_the_newest_few_and_its_last(train: Callable[..., Run]) -> None:
    """Five steps an epoch: it is due after 3, 5, 8, 10, 13, ..."""
    run = train(*FIVE_STEPS, "train.steps=14", plugins=ROLLING + "every_epochs = 0.5\nkeep = 2\n")
    assert kept(run.folder) == [10, 13, 14]


def test_what_the_run_itself_keeps_stays_beside_them(train: Callable[..., Run]) -> None:
    own = ("checkpoint.every_steps=2", "checkpoint.keep=2", "checkpoint.keep_every_steps=4")
    run = train(FIVE_STEPS[0], *own, "train.steps=13", plugins=ROLLING + "keep = 1\n")
    assert kept(run.folder) == [4, 8, 10, 12, 13]


def test_resumed_it_keeps_what_the_unbroken_run_keeps(train: Callable[..., Run]) -> None:
    plugins = ROLLING + "every_epochs = 0.5\nkeep = 2\n"
    whole = train("run.name=whole", *FIVE_STEPS, "train.steps=9", plugins=plugins)
    for steps in (4, 5, 9):  # stopped between two of them, and at one
        resumed = train(*FIVE_STEPS, f"train.steps={steps}", plugins=plugins)
    assert kept(resumed.folder) == kept(whole.folder) == [5, 8, 9]
    assert_same_state(resumed, whole)


def test_the_newest_whole_checkpoint_stays_when_newer_ones_are_damaged(train: Callable[..., Run]) -> None:
    plugins = ROLLING + "keep = 1\n"
    run = train(*FIVE_STEPS, "train.steps=7", plugins=plugins)
    assert kept(run.folder) == [5, 7]
    (run.folder / "checkpoints" / "step-00000007" / "weights.safetensors").write_bytes(b"")
    assert kept(train(*FIVE_STEPS, "train.steps=8", plugins=plugins).folder) == [5, 8]
