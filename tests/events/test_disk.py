"""A disk that is full or fails is no fault of a plugin that looks on: the run goes on, and says so once a minute."""

import errno
from typing import Any

import pytest

from events import Plugin, on, transform
from events.catalogue import CHECKPOINT_START, EPOCH_END, METRICS_READY, SAMPLE_CAPTION
from events.disk import OncePerMinute, is_disk_trouble
from events.errors import PluginError
from events.testing import checkpoint_start, epoch_end, metrics_ready, sample_context
from tests.events.conftest import Attach

FULL = OSError(errno.ENOSPC, "No space left on device")


class Writer(Plugin):
    """Cannot write, whatever it is told."""

    calls = 0

    @on("epoch.end")
    @on("checkpoint.start")
    def write(self, event: Any) -> None:
        self.calls += 1
        raise FULL

    @on("metrics.ready")
    async def write_beside(self, event: Any) -> None:
        self.calls += 1
        raise FULL


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_full_failing_or_read_only_disk_is_the_disks_fault(number: int) -> None:
    assert is_disk_trouble(OSError(number, "said"))


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "said"), ValueError(errno.ENOSPC), OSError("no number")]
)
def test_anything_else_is_not(error: Exception) -> None:
    assert not is_disk_trouble(error)


def test_a_handler_that_looks_on_does_without_and_is_told_of_once(attach: Attach, caplog: Any) -> None:
    plugin = Writer()
    bus = attach(plugin)
    for _ in range(5):
        bus[EPOCH_END].emit(epoch_end())
    assert plugin.calls == 5
    said = (
        "plugin Writer cannot write in Writer.write at epoch.end: [Errno 28] No space left on device; training goes on"
    )
    assert [record.getMessage() for record in caplog.records] == [said]


def test_an_async_handler_is_not_taken_out_for_it(attach: Attach, caplog: Any) -> None:
    plugin = Writer()
    bus = attach(plugin)
    for _ in range(5):
        bus[METRICS_READY].emit(metrics_ready())
        bus.lanes.drain()
        bus.surface_async_failures()
    assert plugin.calls == 5
    assert len([record for record in caplog.records if "cannot write" in record.getMessage()]) == 1


def test_what_must_be_done_before_a_checkpoint_is_still_raised(attach: Attach) -> None:
    with pytest.raises(PluginError, match="No space left"):
        attach(Writer())[CHECKPOINT_START].emit(checkpoint_start())


def test_a_transform_is_still_raised(attach: Attach) -> None:
    class Caption(Plugin):
        @transform("sample.caption")
        def write(self, caption: str, sample: Any) -> str:
            raise FULL

    with pytest.raises(PluginError, match="No space left"):
        attach(Caption())[SAMPLE_CAPTION].apply("a cat", sample_context())


def test_it_is_spoken_of_again_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("events.disk.monotonic", lambda: now[0])
    told, due = OncePerMinute(), []
    for now[0] in (0.0, 30.0, 59.0, 60.0, 61.0):
        due.append(told.is_due())
    assert due == [True, False, False, True, False]
    assert told.times() == " (5 times so far)"
    assert told.is_due("another")
    assert told.times("another") == ""
