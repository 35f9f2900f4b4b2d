"""Plugins that ask the run for something on what they hear ask in several processes for what they ask for in one."""

from pathlib import Path
from typing import Any

from tests.core.ranks.conftest import NewRoom
from tests.core.ranks.launching import train_here, train_in_processes
from tests.core.ranks.plugins_for_control import noted

PLUGINS = """
[[plugins]]
use = "tests.core.ranks.plugins_for_control.Notes"
[[plugins]]
use = "plugins.early_stop.EarlyStop"
patience = 2
least = 0.9
[[plugins]]
use = "plugins.keep_best.KeepBest"
[[plugins]]
use = "plugins.accumulation_ramp.AccumulationRamp"
start = {start}
end = {end}
epochs = 2
[[plugins]]
use = "plugins.rolling_checkpoint.RollingCheckpoint"
keep = 2
[[plugins]]
use = "plugins.rhythm.Rhythm"
what = "evaluate"
epochs = 2
"""
OPTIONS = ("train.steps=60", "train.batch_size=2", "log.every_steps=1", "checkpoint.every_steps=0", "checkpoint.keep=1",
           "validation.fraction=0.2", "validation.every_steps=3")  # fmt: skip


def requests(folder: Path, rank: int) -> list[Any]:
    return [note for note in noted(folder, rank) if note[0] in ("applied", "evaluate", "save", "saved")]


def test_early_stop_keep_best_ramp_rolling_checkpoints_and_rhythm_do_as_in_one_process(
    new_room: NewRoom,
) -> None:
    one = train_here(new_room("asking", PLUGINS.format(start=2, end=4)), "train.accumulate=2", *OPTIONS)
    two = train_in_processes(new_room("asking", PLUGINS.format(start=1, end=2)), *OPTIONS)
    assert two.exit_code == 0, two.output
    first, second = (requests(two.folder, rank) for rank in (0, 1))
    assert first == second
    assert [note[1:] for note in first if note[0] == "applied"] == [
        note[1:] for note in requests(one.folder, 0) if note[0] == "applied"
    ], "each at the same step, since numbers are told at each"
    askers = {note[3] for note in first if note[0] == "applied"}
    assert askers == {"EarlyStop", "KeepBest", "AccumulationRamp", "RollingCheckpoint", "Rhythm"}
    kept = [sorted(path.name for path in (run.folder / "checkpoints").glob("step-*")) for run in (one, two)]
    assert kept[0] == kept[1]
    assert "the loss on held_out has not fallen since step" in two.output
