"""Whatever is asked of one rank of real processes is done by all of them, together, once, and told once."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.checkpoint import manifest
from core.ranks.one_machine import environment, open_store
from tests.core.ranks.conftest import NewRoom
from tests.core.ranks.launching import command, train_here, train_in_processes
from tests.core.ranks.plugins_for_control import noted
from tests.small_runs import Run

NOTES = '\n[[plugins]]\nuse = "tests.core.ranks.plugins_for_control.Notes"\n'
ASKS = '[[plugins]]\nuse = "tests.core.ranks.plugins_for_control.Asks"\nname = "{}"\nrank = {}\nwish = "{}"\n{}\n'
INTERRUPTED = '[[plugins]]\nuse = "tests.core.ranks.plugins_for_control.Interrupted"\nrank = {}\nstep = 3\n{}\n'
RARELY = ("log.every_steps=100", "checkpoint.every_steps=0", "data.workers=1")
"""No meeting before the last step but those that are called."""
STEPS = 12
MIDDLE = 7
"""The last step of the epoch before the setting holds, in which ranks add up gradients in another order than one process."""
WISHES = ("save", "preview", "evaluate", "export")
TIMEOUT_SECONDS = 300


def asking(rank: int, accumulate: int) -> str:
    """Everything that can be asked for but a stop, by handlers on that rank, by one on main and by a file."""
    at = "when = '{}'\nnumber = {}"
    return NOTES + "".join(
        (
            *(ASKS.format(f"wants_{wish}", rank, wish, at.format("step.end", 2)) for wish in WISHES),
            ASKS.format("again", rank, "save", at.format("step.end", MIDDLE)),
            ASKS.format("skips", rank, "skip_batch", at.format("step.start", 5)),
            ASKS.format("sets", 0, "set", f"{at.format('epoch.end', 3)}\nvalue = {accumulate}"),
            ASKS.format("by_file", 0, "preview", at.format("file", 9)),
            ASKS.format("late", rank, "export", at.format("step.end", STEPS)),
            '[[plugins]]\nuse = "plugins.interactive.Interactive"\nkeys = false\n',
        )
    )


@pytest.fixture(scope="module")
def both(new_room: NewRoom) -> dict[int, Run]:
    """A run of two processes in which rank 1 asks, and one of a process that asks itself, by how many they are."""
    options = (*RARELY, f"train.steps={STEPS}", "train.batch_size=2", "validation.fraction=0.2",
               "validation.every_steps=0", "validation.at_start=false")  # fmt: skip
    runs = {
        2: train_in_processes(new_room("two", asking(1, 2)), "run.name=two", *options),
        1: train_here(new_room("one", asking(0, 4)), "run.name=one", "train.accumulate=2", *options),
    }
    assert [run.exit_code for run in runs.values()] == [0, 0], runs[2].output
    return runs


def of_kind(notes: list[list[Any]], *kinds: str) -> list[list[Any]]:
    return [note for note in notes if note[0] in kinds]


def test_all_ranks_take_up_the_requests_of_one_at_the_same_steps_each_told_once_with_its_asker(
    both: dict[int, Run],
) -> None:
    first, second = (of_kind(noted(both[2].folder, rank), "applied", *WISHES, "saved") for rank in (0, 1))
    assert first == second
    applied = [(kind, asker) for _, _, kind, asker in of_kind(first, "applied")]
    assert applied == [
        *((wish, f"wants_{wish}") for wish in WISHES), ("skip_batch", "skips"), ("save", "again"), ("set", "sets"),
        ("preview", "Interactive"), ("export", "late"),
    ]  # fmt: skip
    assert both[2].output.count("save: asked by wants_save (asked by wants_save)") == 1


def test_what_is_asked_for_is_done_once_and_within_two_steps_of_being_heard(both: dict[int, Run]) -> None:
    notes = noted(both[2].folder, 0)
    steps = {kind: [note[1] for note in of_kind(notes, kind)] for kind in WISHES}
    met = of_kind(notes, "applied")[0][1]
    assert steps["evaluate"] == [met, STEPS], "and at the end"
    assert steps["save"] == [met, MIDDLE, STEPS]
    assert steps["preview"][0] == met
    assert len(steps["preview"]) == 2
    assert steps["export"] == [met, STEPS], "asked for at the last step"
    folder = both[2].folder
    exports = sorted(path.name for path in (folder / "exports").iterdir())
    assert exports == [f"two-step-{met:06d}", f"two-step-{STEPS:06d}"]


def test_a_step_that_one_rank_skips_and_a_setting_of_another_give_the_bits_of_one_process(both: dict[int, Run]) -> None:
    name = f"checkpoints/step-{MIDDLE:08d}/{{}}.safetensors"
    for part in ("weights", "optimizer"):
        one, two = (load_file(run.folder / name.format(part)) for run in (both[1], both[2]))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    positions = [(step, epoch) for _, step, epoch, _ in of_kind(noted(both[1].folder, 0), "step")]
    for rank in (0, 1):
        assert [(step, epoch) for _, step, epoch, _ in of_kind(noted(both[2].folder, rank), "step")] == positions
    rounds = {epoch: batches for _, _, epoch, batches in of_kind(noted(both[2].folder, 0), "step")}
    assert (rounds[3], rounds[4]) == (1, 2), "from the next epoch on"


def test_all_ranks_come_to_the_same_occasions_in_the_same_order(both: dict[int, Run]) -> None:
    """As their logs tell, by which one finds two ranks that wait for each other."""
    first, second = (occasions(both[2].folder / name) for name in ("log.jsonl", "log-rank-1.jsonl"))
    assert first == second
    numbers = [int(line.split()[1].rstrip(":")) for line in first]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), (
        "but for those before the run's folder was known"
    )
    assert any(line.endswith(": checkpoint") for line in first)


def test_a_stop_from_a_lane_of_one_rank_stops_all_at_the_same_step(new_room: NewRoom) -> None:
    plugins = NOTES + ASKS.format("lane", 0, "stop", "when = 'metrics.ready'\nnumber = 2")
    run = train_in_processes(
        new_room("lane", plugins), "run.name=lane", "log.every_steps=2", "checkpoint.every_steps=0", "train.steps=60"
    )
    assert run.exit_code == 0, run.output
    assert_stopped_together(run, "asked by lane")


@pytest.mark.parametrize(
    ("rank", "number", "whom", "code"),
    [
        (1, signal.SIGTERM, "rank", 143),
        (1, signal.SIGINT, "launcher", 130),
    ],
)
def test_a_signal_to_one_rank_or_to_the_launcher_stops_all_at_the_same_step_with_one_checkpoint(
    new_room: NewRoom, rank: int, number: signal.Signals, whom: str, code: int
) -> None:
    plugins = NOTES + INTERRUPTED.format(rank, f"number = {int(number)}\nwhom = '{whom}'")
    run = train_in_processes(
        new_room("signal", plugins), f"run.name={number.name}", *RARELY, "train.steps=60"
    )  # fmt: skip
    assert run.exit_code == code, run.output
    assert_stopped_together(run, f"interrupted by {number.name}")


@pytest.mark.long
def test_every_process_has_the_exit_code_of_the_one_that_was_interrupted(
    new_room: NewRoom,
) -> None:
    """As a cluster sees it, which starts the processes itself."""
    plugins = NOTES + INTERRUPTED.format(1, f"number = {int(signal.SIGTERM)}")
    config, store = new_room("alone", plugins), open_store()
    processes = [
        subprocess.Popen(
            command(config, "run.name=alone", *RARELY, "train.steps=60", count=1),
            env=os.environ | environment(rank, 2, store.port) | {"OMP_NUM_THREADS": "1"}, cwd=config.parent,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=TIMEOUT_SECONDS)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], outputs
    assert outputs[1] == "", "rank 1 has nothing to say that rank 0 does not"


def test_a_second_signal_ends_all_at_once_and_the_checkpoint_before_stands(
    new_room: NewRoom,
) -> None:
    plugins = INTERRUPTED.format(1, f"number = {int(signal.SIGINT)}\nwhom = 'launcher'\ntimes = 2")
    run = train_in_processes(new_room("twice", plugins), "run.name=twice", "train.steps=60")
    assert run.exit_code == 130, run.output
    assert run.output.count("ended at once; the newest checkpoint stands") == 1
    assert "Traceback" not in run.output
    (checkpoint,) = (run.folder / "checkpoints").glob("step-*")
    assert checkpoint.name == "step-00000002"
    assert manifest.problem_with(checkpoint) is None


@pytest.mark.long
def test_without_their_launcher_all_ranks_end_soon_and_save_what_was_trained(new_room: NewRoom) -> None:
    """The output comes to its end only when the last process has."""
    plugins = INTERRUPTED.format(1, f"number = {int(signal.SIGKILL)}\nwhom = 'launcher'")
    room = new_room("orphans", plugins)
    run = train_in_processes(room, "run.name=orphans", *RARELY, "train.steps=100000", cold=True)
    assert run.exit_code == -signal.SIGKILL
    assert run.output.count("has lost the launcher") == 1, run.output
    assert "Traceback" not in run.output
    (checkpoint,) = (run.folder / "checkpoints").glob("step-*")
    assert manifest.step_of(checkpoint) >= 3
    assert manifest.problem_with(checkpoint) is None


def test_a_stop_on_one_rank_while_caches_are_filled_stops_all_before_the_first_step(
    new_room: NewRoom,
) -> None:
    plugins = NOTES + ASKS.format("caching", 1, "stop", "when = 'cache.start'")
    run = train_in_processes(
        new_room("caching", plugins), "run.name=caching", "cache.latents=true", "model.train=['unet']"
    )
    assert run.exit_code == 0, run.output
    for rank in (0, 1):
        assert of_kind(noted(run.folder, rank), "applied", "step", "save") == [
            ["applied", 0, "stop", "caching"], ["save", 0, "asked by caching"]
        ]  # fmt: skip
    assert "asked by caching at step 0" in run.output


def occasions(log: Path) -> list[str]:
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    return [event for event in events if event.startswith("occasion ")]


def assert_stopped_together(run: Run, reason: str) -> None:
    """Before the end, at one step, with one checkpoint, and said once."""
    first, second = (of_kind(noted(run.folder, rank), "applied", "step") for rank in (0, 1))
    assert [note[:3] for note in first] == [note[:3] for note in second]
    step = first[-1][1]
    assert step < 60, "the run came to its end"
    assert [note[2] for note in of_kind(first, "applied")] == ["stop"]
    checkpoints = [path.name for path in (run.folder / "checkpoints").glob("step-*")]
    assert checkpoints == [f"step-{step:08d}"]
    assert manifest.problem_with(run.folder / "checkpoints" / checkpoints[0]) is None
    assert load_file(run.folder / "checkpoints" / checkpoints[0] / "weights.safetensors")
    assert run.output.count(f"{reason} at step {step} after") == 1, run.output
    assert run.output.count("go on with: python run.py") == 1
