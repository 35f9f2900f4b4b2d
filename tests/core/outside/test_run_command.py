"""A command is run as it is written, for a time, and nothing of it is left when it is ended."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from core.outside.run_command import LAST_LINES, run_command
from tests.small_runs import ROOT

NEVER = threading.Event()
LINGER = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "1000"])
with open(sys.argv[1] + ".part", "w") as file:
    print(os.getpid(), child.pid, file=file)
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(1000)
"""


def run(*command: str, timeout_seconds: float = 60.0, ended: threading.Event = NEVER) -> tuple[str, str]:
    done = run_command(command, timeout_seconds=timeout_seconds, ended=ended)
    return done.why, done.last_lines


def is_there(pid: str) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(*pids: str) -> None:
    until = time.monotonic() + 30
    while any(is_there(pid) for pid in pids):
        assert time.monotonic() < until, f"{pids} are still there"
        time.sleep(0.01)


def test_one_that_succeeds_has_no_why() -> None:
    assert run("echo", "hello") == ("", "hello")


def test_one_that_fails_says_its_code_and_its_last_words_on_either_stream() -> None:
    assert run(sys.executable, "-c", "import sys; print('out', flush=True); sys.exit('bad luck')") == (
        "exit code 1", "out\nbad luck"
    )  # fmt: skip


@pytest.mark.parametrize("command", ["no-such-program", "", "/", "a\0b"])
def test_one_that_cannot_be_started_says_so(command: str) -> None:
    assert run(command)[0].startswith("it cannot be started: ")


def test_words_are_words_and_no_shell_reads_them(tmp_path: Path) -> None:
    words = ("$HOME", "; touch here", "*", "`ls`", "a  b", "")
    assert run(sys.executable, "-c", "import sys; print(sys.argv[1:])", *words)[1] == str(list(words))


def test_of_much_output_the_end_is_kept() -> None:
    why, said = run(sys.executable, "-c", "for i in range(100000): print('line', i, end='\\r' if i % 2 else '\\n')")
    assert why == ""
    assert said.splitlines() == [f"line {number}" for number in range(100000 - LAST_LINES, 100000)]


def test_it_reads_nothing_of_ours() -> None:
    ask = (
        "import threading; from core.outside.run_command import run_command;"
        " print(run_command(['cat'], timeout_seconds=60, ended=threading.Event()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], input="ours", capture_output=True, text=True, check=True, cwd=ROOT
    )  # fmt: skip
    assert done.stdout.strip() == "Ended(why='', last_lines='')"


def test_one_that_takes_too_long_is_ended() -> None:
    assert run("sleep", "1000", timeout_seconds=0.1) == ("it took too long", "")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="it looks for processes in /proc")
@pytest.mark.parametrize("first", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "])
def test_it_is_ended_with_all_that_it_started_also_when_it_will_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setattr("core.outside.run_command.FAREWELL_SECONDS", 0.2)
    pids, ended = tmp_path / "pids", threading.Event()
    command = (sys.executable, "-c", f"{first}{LINGER}", str(pids))
    thread = threading.Thread(target=run, args=command, kwargs={"ended": ended})
    thread.start()
    until = time.monotonic() + 60
    while not pids.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    ended.set()
    thread.join()
    wait_until_gone(*pids.read_text().split())


def test_it_is_ended_when_the_run_is_over() -> None:
    ended = threading.Event()
    ended.set()
    assert run("sleep", "1000", ended=ended)[0] == "the run is over"
