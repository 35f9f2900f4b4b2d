"""ProgressBar shows a bar on a terminal and prints a line now and then elsewhere, and gets along with log lines."""

import io
import logging
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from events.testing import Harness, progress, run_close, run_info
from plugins.progress_bar import ProgressBar

RUN = run_info(name="demo")
CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def pipe(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """An error stream that is no terminal."""
    for name in ("FORCE_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    return stream


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """One that rich takes for a terminal of 120 columns."""
    stream = pipe(monkeypatch)
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    return stream


@contextmanager
def logging_to(stream: io.StringIO) -> Generator[logging.StreamHandler[io.StringIO], None, None]:
    """A log handler that was made, as the command line's is, before the bar."""
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def show(harness: Harness, step: int, **facts: float) -> None:
    harness.emit("progress", progress(run=RUN, step=step, **facts))  # type: ignore[arg-type]


def plain(stream: io.StringIO) -> str:
    """The text without what moves the cursor and colours it."""
    return CONTROL_SEQUENCE.sub("", stream.getvalue())


def every(seconds: float) -> Harness:
    return Harness(ProgressBar(ProgressBar.Settings(seconds=seconds)))


def test_a_line_says_how_far_the_run_is_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = pipe(monkeypatch)
    show(every(10), 10, loss=0.25, images_per_second=8.0, eta_seconds=45, data_fraction=0.02)
    assert stderr.getvalue() == "demo  step 10/100  loss 0.2500  8.0 images/s  0:00:45 left  data-bound 2 %\n"


def test_before_the_first_loss_there_is_none_in_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = pipe(monkeypatch)
    Harness(ProgressBar()).emit("progress", progress(run=RUN, loss=None))
    assert "loss" not in stderr.getvalue()


def test_lines_are_no_closer_than_they_are_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = pipe(monkeypatch)
    harness = every(3600)
    for step in range(1, 50):
        show(harness, step)
    assert stderr.getvalue().count("\n") == 1


def test_with_no_time_between_them_every_report_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = pipe(monkeypatch)
    harness = every(0)
    for step in range(1, 50):
        show(harness, step)
    assert stderr.getvalue().count("\n") == 49


def test_the_last_step_always_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = pipe(monkeypatch)
    harness = every(3600)
    for step in (1, 2, 100):
        show(harness, step)
    harness.emit("run.close", run_close(run=RUN))
    assert [line.split()[2] for line in stderr.getvalue().splitlines()] == ["1/100", "100/100"]


def test_a_run_that_is_stopped_leaves_its_last_step_as_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = pipe(monkeypatch)
    harness = every(3600)
    for step in (1, 2):
        show(harness, step)
    harness.emit("run.close", run_close(run=RUN))
    assert [line.split()[2] for line in stderr.getvalue().splitlines()] == ["1/100", "2/100"]


def test_a_run_that_never_stepped_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = pipe(monkeypatch)
    every(0).emit("run.close", run_close(run=RUN))
    assert stderr.getvalue() == ""


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    harness = Harness(ProgressBar())
    show(harness, 50)
    shown = plain(stream)
    assert "━" in shown
    assert "step 50/100" in shown
    harness.emit("run.close", run_close(run=RUN))


def test_the_bar_is_cleared_at_the_end_and_leaves_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    harness = Harness(ProgressBar())
    show(harness, 50)
    show(harness, 100)
    assert stream.getvalue().rstrip("\n").rpartition("\x1b[2K")[2].startswith("demo  step 100/100")
    assert stream.getvalue().endswith("%\n")
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")  # the cursor is back


def test_a_run_that_fails_clears_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    harness = Harness(ProgressBar())
    show(harness, 50)
    harness.emit("run.close", run_close(run=RUN))
    assert sys.stderr is stream
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_log_lines_appear_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, harness = terminal(monkeypatch), Harness(ProgressBar())
    with logging_to(stream):
        show(harness, 50)
        before = len(stream.getvalue())
        logging.getLogger("signalbox").error("checkpoint saved")
    written = stream.getvalue()[before:]
    assert written.startswith("\r\x1b[2K")  # the bar is taken away,
    assert re.search(r"checkpoint saved\s*\n.*step 50/100", CONTROL_SEQUENCE.sub("", written), re.DOTALL)  # and redrawn
    harness.emit("run.close", run_close(run=RUN))


def test_log_handlers_write_where_they_did_once_the_bar_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, harness = terminal(monkeypatch), Harness(ProgressBar())
    with logging_to(stream) as handler:
        show(harness, 50)
        assert handler.stream is not stream
        harness.emit("run.close", run_close(run=RUN))
        assert handler.stream is stream


def test_log_handlers_that_write_elsewhere_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    harness = Harness(ProgressBar())
    with logging_to(elsewhere := io.StringIO()) as other:
        show(harness, 50)
        assert other.stream is elsewhere
    harness.emit("run.close", run_close(run=RUN))


def test_what_is_printed_to_a_file_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    monkeypatch.setattr(sys, "stdout", printed := io.StringIO())
    harness = Harness(ProgressBar())
    show(harness, 50)
    print("hello world")
    harness.emit("run.close", run_close(run=RUN))
    assert printed.getvalue() == "hello world\n"
