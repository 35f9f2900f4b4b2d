"""ProgressBar shows a bar on a terminal and prints a line now and then elsewhere, and gets along with log lines."""

import io
import logging
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from events.testing import Harness, preview_end, progress, run_close, run_info
from plugins.progress_bar import LEAST_BAR, ProgressBar, row
from tests.small_runs import ROOT
from tests.terminals import terminal as real_terminal

RUN = run_info("runs/demo", name="demo")
TIME = r"\d\d:\d\d:\d\d"
CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def pipe(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """An error stream that is no terminal."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
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
    line = "demo  step 10/100  loss 0.2500  8.0 images/s  0:00:45 left  data-bound 2 %\n"
    assert re.fullmatch(f"{TIME}  {re.escape(line)}", stderr.getvalue())


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
    assert [line.split()[3] for line in stderr.getvalue().splitlines()] == ["1/100", "100/100"]


def test_a_run_that_is_stopped_leaves_its_last_step_as_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = pipe(monkeypatch)
    harness = every(3600)
    for step in (1, 2):
        show(harness, step)
    harness.emit("run.close", run_close(run=RUN))
    assert [line.split()[3] for line in stderr.getvalue().splitlines()] == ["1/100", "2/100"]


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
    left = stream.getvalue().rstrip("\n").rpartition("\x1b[2K")[2]
    assert re.match(f"{TIME}  demo  step 100/100", left)
    assert "\x1b" not in left
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


def test_the_last_preview_is_named_once_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = pipe(monkeypatch)
    harness = every(0)
    show(harness, 1)
    harness.emit("preview.end", preview_end(run=RUN, step=2, paths=(Path("a.png"),)))
    harness.emit("preview.end", preview_end(run=RUN, step=3))  # it failed
    for step in (2, 3):
        show(harness, step)
    lines = stderr.getvalue().splitlines()
    assert [line.endswith("preview runs/demo/previews/step-000002/grid.png") for line in lines] == [False, True, False]


def test_a_path_is_as_it_is_typed_in_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stderr = pipe(monkeypatch)
    monkeypatch.chdir(tmp_path)
    harness = every(0)
    for folder in (tmp_path / "here", Path("/elsewhere")):
        harness.emit("preview.end", preview_end(run=run_info(folder), step=2, paths=(Path("a.png"),)))
        show(harness, 1)
    first, second = stderr.getvalue().splitlines()
    assert first.endswith("preview here/previews/step-000002/grid.png")
    assert second.endswith("preview /elsewhere/previews/step-000002/grid.png")


GRID = Path("runs/demo/previews/step-000250/grid.png")
WORDS = ("preview", "images/s", "data-bound", "demo", "loss", "left", "step")
"""What goes first where room is short, while hardly any time is spent waiting."""


def line(columns: int, *, data_fraction: float = 0.02, preview: Path | None = GRID) -> str:
    event = progress(run=RUN, step=450, steps=1000, loss=0.1234, eta_seconds=250, data_fraction=data_fraction)
    return row(event, preview, columns, "utf-8").plain


@pytest.mark.parametrize("data_fraction", [0.0, 0.5])
@pytest.mark.parametrize("columns", [4, *range(13, 220, 3)])
def test_the_line_of_a_terminal_fits(columns: int, data_fraction: float) -> None:
    assert len(line(columns, data_fraction=data_fraction)) <= columns


def test_what_is_least_important_goes_first() -> None:
    shown = [{word for word in WORDS if word in line(columns)} for columns in range(220, 12, -1)]
    gone = [next(iter(before - after)) for before, after in pairwise(shown) if before != after]
    assert gone == ["preview", "data-bound", "images/s", "demo", "loss", "left"]


def test_eighty_columns_have_a_bar_the_loss_the_rate_and_the_time_left() -> None:
    shown = line(79)
    assert shown.count("━") >= LEAST_BAR
    for words in ("demo", "step 450/1000", "loss 0.1234", "8.0 images/s", "0:04:10 left"):
        assert words in shown


def test_waiting_for_data_is_kept_before_the_rate_and_coloured_where_it_is_much() -> None:
    assert "data-bound 50 %" in line(79, data_fraction=0.5)
    for share, colour in ((0.09, ""), (0.1, "yellow"), (0.3, "red")):
        text = row(progress(run=RUN, data_fraction=share), None, 150, "utf-8")
        start = text.plain.index("data-bound")
        assert [str(span.style) for span in text.spans if span.start == start] == [colour][: bool(colour)]


def test_a_terminal_without_these_letters_has_a_bar_of_hyphens() -> None:
    shown = row(progress(run=RUN, step=50), None, 100, "ascii").plain
    assert shown.isascii()
    assert "-----" in shown


SHOW = """
import sys, time
from pathlib import Path
from events.testing import Harness, preview_end, progress, run_close, run_info
from plugins.progress_bar import ProgressBar

run, harness = run_info("runs/demo", name="demo"), Harness(ProgressBar())
harness.emit("progress", progress(run=run, step=49, data_fraction=0.4))
harness.emit("preview.end", preview_end(run=run, step=40, paths=(Path("a.png"),)))
harness.emit("progress", progress(run=run, step=50, data_fraction=0.4))
print("shown", flush=True)
harness.emit("run.close", run_close(run=run))
"""


@pytest.fixture
def on_a_terminal() -> Callable[..., str]:
    """What a real one is sent, with these variables."""

    def show_it(**environment: str) -> str:
        environment = {"PYTHONPATH": str(ROOT), **environment}
        with real_terminal(sys.executable, "-c", SHOW, environment=environment, size=(24, 130)) as one:
            assert one.end() == 0
            return one.text

    return show_it


def test_a_real_terminal_has_colours_a_link_and_one_line(on_a_terminal: Callable[..., str]) -> None:
    text = on_a_terminal()
    assert "\x1b[31mdata-bound 40 %" in text
    assert f"file://{ROOT}/runs/demo/previews/step-000040/grid.png" in text
    last = text.rpartition("\x1b[2K")[2]
    assert re.search(rf"{TIME}  demo  step 50/100 .* preview runs/demo/previews/step-000040/grid\.png", plain_of(last))


def test_no_color_takes_the_colours_out(on_a_terminal: Callable[..., str]) -> None:
    text = on_a_terminal(NO_COLOR="1")
    assert "━" in text
    assert re.findall(r"\x1b\[[0-9;]*m", text) in ([], ["\x1b[1m", "\x1b[0m"] * text.count("\x1b[1m"))


def test_a_dumb_terminal_has_lines(on_a_terminal: Callable[..., str]) -> None:
    text = on_a_terminal(TERM="dumb")
    assert "\x1b" not in text
    assert [bool(re.match(f"{TIME}  demo  step", each)) for each in text.splitlines()] == [True, False, True]


def plain_of(text: str) -> str:
    return re.sub(r"\x1b\]8;[^\x1b]*\x1b\\\\", "", CONTROL_SEQUENCE.sub("", text))
