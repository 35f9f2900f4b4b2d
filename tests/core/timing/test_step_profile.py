"""A profile is a trace of some steps with a range for each signal and handler, and leaves every number as it was."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.timing.profile import compressed
from tests.small_runs import Run, assert_same_state

LOOKING_ON = '\n[[plugins]]\nuse = "tests.core.plugins_for_time.LookOn"\n'
EACH_STEP = (
    "steps", "forward", "backward", "Optimizer.step#AdamW.step", "batch.device", "LookOn: LookOn.move", "step.start",
    "LookOn: LookOn.start", "step.end", "LookOn: LookOn.end", "metrics.ready", "LookOn: LookOn.report",
)  # fmt: skip
NESTED = (
    ("LookOn: LookOn.end", "step.end"), ("step.end", "step 4"), ("steps", "step 4"), ("data", "step 4"),
    ("forward", "steps"), ("backward", "steps"), ("Optimizer.step#AdamW.step", "steps"),
)  # fmt: skip
"""(inner, outer) range."""
FAILING = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.FailAt"\nstep = 3\n'


def ranges(trace: Path) -> list[dict[str, Any]]:
    """Of the training thread, in order."""
    found = [each for each in json.loads(trace.read_text())["traceEvents"] if each.get("cat") == "user_annotation"]
    return sorted(found, key=lambda each: each["ts"])


def within(inner: dict[str, Any], outer: dict[str, Any]) -> bool:
    return bool(outer["ts"] <= inner["ts"] and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"])


def test_each_step_after_the_warm_up_is_recorded_and_no_number_changes(train: Callable[..., Run]) -> None:
    settings = ("train.steps=7", "log.every_steps=1")
    run = train(*settings, plugins=LOOKING_ON, profiled_steps=2)
    found = ranges(run.folder / "profile" / "step-4-5.json")
    counts, first = Counter(each["name"] for each in found), {each["name"]: each for each in reversed(found)}
    assert {name for name in counts if name.startswith("step ")} == {"step 4", "step 5"}
    assert {name: counts[name] for name in EACH_STEP} == dict.fromkeys(EACH_STEP, 2)
    for inner, outer in NESTED:
        assert within(first[inner], first[outer]), (inner, outer)
    assert not within(first["step.end"], first["steps"])
    assert " aten::convolution_backward\n" in (run.folder / "profile" / "step-4-5.txt").read_text()
    plain = train("run.name=plain", *settings, plugins=LOOKING_ON)
    assert_same_state(run, plain)
    assert not (plain.folder / "profile").exists()


def test_a_run_that_is_shorter_is_recorded_whole_with_all_that_it_does(train: Callable[..., Run]) -> None:
    run = train(
        "train.steps=2", "validation.fraction=0.3", "validation.every_steps=1", "preview.every_steps=1",
        "checkpoint.every_steps=1", "export.every_steps=1", profiled_steps=10,
    )  # fmt: skip
    assert [path.name for path in sorted((run.folder / "profile").iterdir())] == ["step-1-2.json", "step-1-2.txt"]
    names = {each["name"] for each in ranges(run.folder / "profile" / "step-1-2.json")}
    assert names >= {"step 1", "step 2", "validation", "previews", "checkpoints", "lanes blocked", "exports"}


def test_a_resumed_run_is_recorded_from_where_it_goes_on(train: Callable[..., Run]) -> None:
    train("train.steps=2")
    run = train("train.steps=5", profiled_steps=2)
    assert (run.folder / "profile" / "step-4-5.json").is_file()


def test_a_run_that_fails_leaves_what_was_recorded(train: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(Exception, match="FailAt"):
        train("train.steps=9", plugins=FAILING, profiled_steps=8)
    assert [path.name for path in (tmp_path / "runs" / "test" / "profile").glob("*.json")] == ["step-2-2.json"]


def test_a_disk_that_takes_no_profile_is_told_and_the_run_goes_on(
    train: Callable[..., Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "runs" / "test").mkdir(parents=True)
    (tmp_path / "runs" / "test" / "profile").write_text("in the way")
    run = train("train.steps=2", profiled_steps=1)
    assert run.exit_code == 0
    assert "the profile cannot be written" in caplog.text


def test_a_large_trace_is_compressed_in_its_place(tmp_path: Path) -> None:
    import gzip

    plain = tmp_path / "step-1-2.json"
    plain.write_text("{}" * 1000)
    packed = compressed(plain)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1-2.json.gz"]
    assert gzip.decompress(packed.read_bytes()) == b"{}" * 1000


def test_the_command_line_says_where_it_lies_and_where_the_time_went(run_command: Callable[..., Run]) -> None:
    run = run_command("train.steps=2", plugins=LOOKING_ON, arguments=("--profile-steps", "1"))
    assert run.exit_code == 0, run.output
    assert f"profile   {run.folder / 'profile' / 'step-2-2.json'}" in run.output
    assert "where the time went: " in run.output
    assert '"event": "where the time went: ' in (run.folder / "log.jsonl").read_text()
