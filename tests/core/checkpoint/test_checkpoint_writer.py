"""A checkpoint is written beside training: from a snapshot, one at a time, and no failure is lost."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.checkpoint import commit, writer
from core.checkpoint.contents import Contents
from core.checkpoint.folder import CheckpointFolder
from core.checkpoint.snapshot import Snapshot
from core.checkpoint.writer import Job, Patience, Writer, why_not_saved
from core.errors import NonFiniteError, ResourceError
from tests.small_runs import ROOT, Run, assert_same_state


def contents(number: float = 1.0) -> Contents:
    return Contents(tensors={"weights": {"a": torch.full((3,), number)}}, jsons={"state": {}}, texts={})


def job(step: int = 1, of: Contents | None = None, arrived: Callable[[], None] = lambda: None) -> Job:
    return Job(step=step, reason="test", contents=of or contents(), going=(), arrived=arrived)


def test_it_is_written_in_a_thread_once_the_copies_are_complete(tmp_path: Path) -> None:
    may_go, seen = threading.Event(), []
    one = Writer(CheckpointFolder(tmp_path, keep=1))

    def arrived() -> None:
        seen.append(threading.current_thread().name)
        may_go.wait(10)

    one.hand_over(job(arrived=arrived))
    assert one.outcome(wait=False) is None
    assert one.is_busy
    may_go.set()
    written = one.outcome(wait=True)
    assert written is not None
    assert written.path == tmp_path / "step-00000001"
    assert seen == ["signalbox-checkpoint"]
    assert (one.outcome(wait=True), one.is_busy) == (None, False)


def test_a_failure_in_the_thread_is_its_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Writer(CheckpointFolder(tmp_path, keep=1))
    monkeypatch.setattr(one, "_write", lambda job: 1 / 0)
    one.hand_over(job())
    written = one.outcome(wait=True)
    assert written is not None
    assert isinstance(written.error, ZeroDivisionError)


@pytest.mark.parametrize("group", ["weights", "plugins"])
def test_a_checkpoint_with_nan_is_never_written(tmp_path: Path, group: str) -> None:
    bad = Contents(tensors={group: {"a": torch.tensor([1.0, float("nan")])}}, jsons={}, texts={})
    with pytest.raises(NonFiniteError, match=f"a in {group} is not finite"):
        commit.write(tmp_path, 1, bad)
    assert list(tmp_path.iterdir()) == []


def test_infinity_is_allowed_outside_the_weights(tmp_path: Path) -> None:
    infinite = torch.tensor([float("inf")])
    commit.write(tmp_path, 1, Contents(tensors={"plugins": {"best": infinite}}, jsons={}, texts={}))
    with pytest.raises(NonFiniteError):
        commit.write(tmp_path, 2, Contents(tensors={"weights": {"w": infinite}}, jsons={}, texts={}))


def test_what_reads_back_otherwise_is_set_aside_and_counts_as_a_failing_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def corrupt(path: Path) -> None:
        if path.suffix == ".safetensors":
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(bytes(data))

    monkeypatch.setattr(commit, "flush", corrupt)
    with pytest.raises(OSError, match="reads back otherwise: a in weights") as caught:
        commit.write(tmp_path, 1, contents())
    assert caught.value.errno == errno.EIO
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.corrupt"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        commit.write(tmp_path, 1, contents())
    assert list(tmp_path.iterdir()) == []


WRITE_TOO_MUCH = """
import resource, signal, sys, torch
from core.checkpoint.commit import disk_errors
from safetensors.torch import save_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with disk_errors():
        save_file({"a": torch.zeros(10_000)}, sys.argv[1])
except OSError as error:
    sys.exit(error.errno)
"""


def test_what_the_disk_says_to_safetensors_is_an_error_of_the_disk(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_TOO_MUCH, str(tmp_path / "a.safetensors")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == errno.EFBIG


def test_the_message_names_what_is_needed_and_what_is_free(tmp_path: Path) -> None:
    big = Contents(tensors={"weights": {"a": torch.zeros(500_000)}}, jsons={}, texts={})
    said = why_not_saved(OSError(errno.ENOSPC, "No space left on device"), job(of=big), tmp_path / "not" / "there")
    assert said.startswith("checkpoint not saved: needs 2.0 MB, ")
    assert said.endswith(f"MB free in {tmp_path / 'not' / 'there'}")
    assert "Input/output error in" in why_not_saved(OSError(errno.EIO, "Input/output error"), job(), tmp_path)


def test_each_wait_is_twice_the_one_before_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LONGEST_WAIT_SECONDS", 15.0)
    patience = Patience()
    assert [patience.failed() for _ in range(4)] == [5.0, 10.0, 15.0, 15.0]
    assert patience.is_failing
    patience.succeeded()
    assert not patience.is_failing
    assert patience.failed() == 5.0


def test_a_snapshot_uses_its_memory_again_and_holds_copies() -> None:
    snapshot, weight = Snapshot(), torch.tensor([1.0, 2.0])
    places = []
    for number in range(2):
        snapshot.begin()
        copy = snapshot.take(weight)
        snapshot.end()
        snapshot.arrived()
        places.append(copy.data_ptr())
        weight += 1
        assert copy.tolist() == [1.0 + number, 2.0 + number]
    assert places[0] == places[1]


def test_a_snapshot_follows_tensors_that_come_otherwise() -> None:
    snapshot = Snapshot()
    snapshot.begin()
    snapshot.take(torch.zeros(2))
    snapshot.take(torch.zeros(3))
    snapshot.end()
    snapshot.begin()
    other = snapshot.take(torch.ones(4, dtype=torch.int64))
    snapshot.end()
    assert other.tolist() == [1, 1, 1, 1]
    assert len(snapshot._buffers) == 1


def fail_saves(monkeypatch: pytest.MonkeyPatch, *, times: int, number: int = errno.ENOSPC) -> list[int]:
    """Let the first saves fail; returns the steps that were tried."""
    save, tried = CheckpointFolder.save, []

    def fail(self: CheckpointFolder, step: int, *arguments: object) -> Path:
        tried.append(step)
        if len(tried) <= times:
            raise OSError(number, os.strerror(number))
        return save(self, step, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(CheckpointFolder, "save", fail)
    monkeypatch.setattr(writer, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("core.run.artefacts.LAST_WAIT_SECONDS", 0.0)
    return tried


def test_training_goes_on_and_tries_again_at_a_later_step(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train("run.name=whole")
    tried = fail_saves(monkeypatch, times=1)
    run = train()
    assert tried[0] == 2
    assert tried[1] in (3, 4)
    assert_same_state(run, whole)
    assert any("checkpoint not saved: needs" in record.getMessage() for record in caplog.records)


def test_the_last_checkpoint_is_tried_a_few_times_and_then_the_run_fails(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = fail_saves(monkeypatch, times=99)
    with pytest.raises(ResourceError, match="make room and run the same command") as caught:
        train("checkpoint.every_steps=0")
    assert tried == [7, 7, 7]
    assert caught.value.exit_code == 7


def test_stop_ends_the_run_at_the_first_failure(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    tried = fail_saves(monkeypatch, times=99)
    with pytest.raises(ResourceError):
        train("checkpoint.on_failure=stop")
    assert tried == [2]


def test_pause_waits_with_the_same_checkpoint(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("run.name=whole")
    tried = fail_saves(monkeypatch, times=3, number=errno.EIO)
    assert_same_state(train("checkpoint.on_failure=pause"), whole)
    assert tried == [2, 2, 2, 2, 4, 6, 7]
