"""A file that grows has whole lines, whatever the disk does, and is replaced at once."""

import errno
import os
import resource
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.log.growing_file import append, rewrite


@contextmanager
def room_for(size: int) -> Generator[None, None, None]:
    """No file grows beyond so many bytes, as on a full disk."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_each_line_comes_behind_the_last(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append(path, "one")
    append(path, "two, schön")
    assert path.read_text(encoding="utf-8") == "one\ntwo, schön\n"


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append(path, "one")
    with room_for(6), pytest.raises(OSError, match="File too large") as caught:
        append(path, "two and three")
    assert caught.value.errno == errno.EFBIG
    assert path.read_text() == "one\n"


def test_what_cannot_be_rewritten_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append(path, "one")
    with room_for(6), pytest.raises(OSError, match="File too large"):
        rewrite(path, "two and three\n")
    assert path.read_text() == "one\n"


def test_nobody_sees_a_part_of_what_is_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append(path, "one")
    with path.open() as reader:
        rewrite(path, "two\n")
        assert reader.read() == "one\n"
    assert path.read_text() == "two\n"
    assert os.listdir(tmp_path) == ["lines"]
