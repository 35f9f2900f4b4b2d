"""A peer and Signalbox are measured alike, as whole processes with all that they start, and compared round by round."""

from pathlib import Path

import pytest

from benchmarks.figures import Figure, Options
from benchmarks.peers import AGAIN, COLUMNS, THEIRS, Column, Work, compare, measure, race, write_pictures
from benchmarks.watched import Taken
from tests.tiny_models import tiny_pipeline

SLEEP, END_SLEEP, BURN, BALLAST = 0.2, 0.4, 0.6, 200_000_000
"""Seconds a step of the peer waits, it waits at the end, and its child computes; bytes that the child holds."""
PEER = f'''
import argparse, os, pathlib, subprocess, sys, time
import torch
from safetensors.torch import load_file

CHILD = """
import sys, time
ballast = b"x" * {BALLAST}
while time.process_time() < {BURN}:
    pass
sys.stdin.read()  # until the parent is gone
"""
parser = argparse.ArgumentParser()
parser.add_argument("--pretrained_model_name_or_path", type=pathlib.Path)
parser.add_argument("--max_train_steps", type=int)
parser.add_argument("--learning_rate", type=float)
parser.add_argument("--output_dir", type=pathlib.Path)
options, _ = parser.parse_known_args()
child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE)
tensors = load_file(options.pretrained_model_name_or_path / "unet" / "diffusion_pytorch_model.safetensors")
weights = [torch.nn.Parameter(tensor) for tensor in tensors.values()]
optimizer = torch.optim.AdamW(weights, lr=options.learning_rate)
for _ in range(options.max_train_steps):
    time.sleep({SLEEP})
    sum(weight.square().sum() for weight in weights).backward()
    optimizer.step()
    optimizer.zero_grad()
time.sleep({END_SLEEP})
options.output_dir.mkdir()
(options.output_dir / "seconds.txt").write_text(str(time.process_time()))
os._exit(0)  # tidying up would use CPU that is not in that file
'''


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Three steps of a tiny model on eight pictures."""
    place = tmp_path_factory.mktemp("peers")
    tiny_pipeline().save_pretrained(place / "model")
    write_pictures(place / "data", 8)
    return Work(place=place, steps=3, side=64)


def write(folder: Path, text: str) -> Path:
    path = folder / "peer.py"
    path.write_text(text)
    return path


def test_a_peer_is_measured_from_its_start_to_its_end_with_the_processes_that_it_leaves_behind(
    work: Work, tmp_path: Path
) -> None:
    taken = work.theirs(write(tmp_path, PEER), is_lora=False)
    own_seconds = float((work.place / "run" / "out" / "seconds.txt").read_text())
    assert len(taken.steps) == 3
    assert 0 < taken.first_step_seconds < taken.wall_seconds
    assert taken.step_ms >= 1e3 * SLEEP
    assert 0 < taken.step_cpu_ms < taken.step_ms, "it slept"
    assert 0 < taken.steps_per_second <= 1 / SLEEP
    assert taken.ending_seconds >= END_SLEEP
    assert taken.cpu_seconds >= own_seconds + 0.7 * BURN, "the child, which nobody waited for, is counted"
    own_mb = taken.alone_mb / 2  # of the libraries' pages only a share counts, and others may be using them too
    assert taken.together_mb >= own_mb + 0.8 * BALLAST / 1e6, "what the child holds is counted"


def test_seconds_are_told_from_the_times_of_the_steps() -> None:
    steps = (5.0, 9.0, 11.0, 12.0, 13.5)
    run = Taken(
        steps=steps, step_cpu=(1.0, 9.0, 10.0, 10.5, 11.5), wall_seconds=20.0, cpu_seconds=1.0, alone_mb=1.0, together_mb=1.0
    )  # fmt: skip
    assert run.first_step_seconds == 5.0
    assert run.step_ms == 1250.0, "the first two intervals are not steady"
    assert run.step_cpu_ms == 750.0
    assert run.steps_per_second == 4 / 8.5
    assert run.ending_seconds == 6.5


@pytest.mark.long
def test_signalbox_is_measured_with_its_loader_processes(work: Work) -> None:
    taken = work.ours(is_cached=False, is_lora=False)
    assert len(taken.steps) == 3
    assert 0 < taken.first_step_seconds < taken.steps[-1] < taken.wall_seconds
    assert taken.cpu_seconds > 0
    assert taken.together_mb > taken.alone_mb / 2 > 0


def test_a_script_that_fails_is_an_error_with_its_last_words(work: Work, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        work.theirs(write(tmp_path, "raise SystemExit('no such thing')"), is_lora=False)


def test_a_script_that_takes_other_steps_is_no_peer(work: Work, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="took 0 steps and not 3"):
        work.theirs(write(tmp_path, "print('done')"), is_lora=False)


def test_rounds_take_turns_forwards_and_backwards_with_the_peer_at_both_ends() -> None:
    called: list[str] = []

    def noted(name: str) -> Taken:
        called.append(name)
        return taken(float(len(called)))

    runs = race({name: lambda name=name: noted(name) for name in (THEIRS, "uncached", "cached")}, rounds=2)  # type: ignore[misc]  # a default binds each name
    assert called == [THEIRS, "uncached", "cached", THEIRS, THEIRS, "cached", "uncached", THEIRS]
    assert [one.cpu_seconds for one in runs[THEIRS]] == [1.0, 8.0]
    assert [one.cpu_seconds for one in runs[AGAIN]] == [4.0, 5.0]


def test_each_column_has_the_ratio_to_both_runs_of_the_peer_and_of_those_to_each_other() -> None:
    runs = {THEIRS: [taken(1.0)], AGAIN: [taken(3.0)], "uncached": [taken(1.0)], "cached": [taken(4.0)]}
    figures = {one.name: one for one in compare("it", runs)}
    assert len(figures) == 6 * len(COLUMNS)
    assert figures["it, CPU: itself / itself"].value == 3.0
    assert figures["it, CPU: Signalbox uncached / it"].value == 0.5
    assert figures["it, CPU: Signalbox cached / it"].value == 2.0
    assert figures["it, CPU: it"].value == 2.0


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_who_takes_less_meets_the_goal_and_who_takes_more_does_not(column: Column) -> None:
    runs = {THEIRS: [taken(2.0)], AGAIN: [taken(2.0)], "uncached": [taken(1.0)], "cached": [taken(3.0)]}
    is_met = {one.name: one.is_met for one in compare("it", runs)}
    assert is_met[f"it, {column.name}: Signalbox uncached / it"] is True
    assert is_met[f"it, {column.name}: Signalbox cached / it"] is False
    assert is_met[f"it, {column.name}: itself / itself"] is None


def test_without_a_peer_the_section_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none: list[Figure] = measure(Options(rounds=1, is_quick=True, folder=tmp_path, peers={}))
    assert none == []
    assert "--peer" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def taken(factor: float) -> Taken:
    """A run that took `factor` times as much of everything."""
    return Taken(
        steps=(factor, 2 * factor, 3 * factor), step_cpu=(factor, 2 * factor, 3 * factor), wall_seconds=5 * factor, cpu_seconds=factor, alone_mb=10 * factor,
        together_mb=20 * factor,
    )  # fmt: skip
