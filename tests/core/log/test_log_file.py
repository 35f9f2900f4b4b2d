"""The log's file takes whole lines, and a disk that does not take them neither ends the run nor fills the terminal."""

import errno
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.log.file import LogFile


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[logging.Logger]:
    handler, logger = LogFile(tmp_path / "log.jsonl"), logging.getLogger("signalbox.test_log_file")
    handler.setFormatter(logging.Formatter('{"event": "%(message)s"}'))
    root = logging.getLogger()
    root.addHandler(handler)
    yield logger
    root.removeHandler(handler)
    handler.close()


def full_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> list[int]:
    """A disk that takes so many writes, then three bytes of one, then nothing until room is made by `append(0)`."""
    real, room = os.write, [writes]

    def write(descriptor: int, data: Any) -> int:
        room[0] -= 1
        if room[0] >= 0 or len(room) > 1:
            return real(descriptor, data)
        if room[0] == -1:
            return real(descriptor, bytes(data)[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    return room


def test_each_record_is_a_line(logger: logging.Logger, tmp_path: Path) -> None:
    logger.warning("one")
    logger.warning("\udc80")
    assert (tmp_path / "log.jsonl").read_text() == '{"event": "one"}\n{"event": "\\udc80"}\n'


def test_what_does_not_fit_leaves_no_half_line_and_is_told_once(
    logger: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, capsys: Any
) -> None:
    room = full_after(monkeypatch, 1)
    for word in ("one", "two", "three", "four"):
        logger.warning(word)
    room.append(0)
    logger.warning("five")
    assert [json.loads(line)["event"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == ["one", "five"]
    told = [record.getMessage() for record in caplog.records if record.name == "signalbox.log"]
    assert told == ["log.jsonl cannot be written: No space left on device; training goes on"]
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    handler = LogFile(tmp_path / "later" / "log.jsonl")
    handler.emit(logging.makeLogRecord({"msg": "lost"}))
    (tmp_path / "later").mkdir()
    handler.emit(logging.makeLogRecord({"msg": "kept"}))
    handler.close()
    assert (tmp_path / "later" / "log.jsonl").read_text() == "kept\n"
