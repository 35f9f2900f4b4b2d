"""A keyboard hands on single keys while its process has the terminal, and leaves the terminal as it was, however it ends."""

import os
import shutil
import signal
import sys
import termios
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.outside.keyboard import Keyboard, terminal_of_input
from tests.small_runs import ROOT
from tests.terminals import Terminal, terminal

LISTEN = """
import signal, sys, time
from core.outside.keyboard import Keyboard, terminal_of_input

def pressed(key):
    print(f"<{key}>", flush=True)
    if key == "x":
        waits.append(key)

waits = []
keyboard = Keyboard(terminal_of_input(), pressed)
keyboard.start()
print("ready", flush=True)
while not waits:
    time.sleep(0.01)
END
print("over", flush=True)
"""


@contextmanager
def listening(end: str = "keyboard.close()") -> Generator[Terminal, None, None]:
    """A program that listens until x is pressed, and then ends so."""
    with terminal(sys.executable, "-c", LISTEN.replace("END", end)) as one:
        one.wait_for("ready")
        one.wait_for_mode(is_ours=True)
        yield one


def test_a_key_is_heard_without_enter_and_not_shown() -> None:
    with listening() as one:
        one.type("a")
        one.wait_for("<a>")
        one.type("x")
        assert one.end() == 0
        assert one.text.replace("\r", "").replace("\n", "") == "ready<a><x>over"


@pytest.mark.parametrize("pasted", ["\x1b[A", "\x1bOS", "x marks the spot\n", "qqqq"])
def test_arrows_and_what_is_pasted_are_no_keys(pasted: str) -> None:
    with listening() as one:
        one.type(pasted)
        one.type_until("b", "<b>")
        assert set(one.text.split()) == {"ready", "<b>"}


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("keyboard.close()", 0),
        ("keyboard.close(); keyboard.close()", 0),
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('a bug')", 1),
        ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_the_terminal_is_as_it_was_however_the_program_ends(end: str, code: int) -> None:
    with listening(end) as one:
        one.type("x")
        assert one.end() == code
        assert one.is_cooked


def test_ctrl_c_still_interrupts() -> None:
    with listening() as one:
        one.type("\x03")
        assert one.end() == -signal.SIGINT
        assert one.is_cooked


@pytest.mark.skipif(shutil.which("bash") is None, reason="it takes a shell with jobs")
def test_a_program_that_is_stopped_leaves_the_terminal_to_the_shell_and_takes_it_back(tmp_path: Path) -> None:
    (tmp_path / "listen.py").write_text(LISTEN.replace("END", "keyboard.close()"))
    environment = {"PS1": "at-your-service ", "PYTHONPATH": str(ROOT)}
    with terminal(str(shutil.which("bash")), "--norc", "--noprofile", "-i", environment=environment) as one:
        one.wait_for("at-your-service")
        one.type(f"{sys.executable} {tmp_path}/listen.py\n")
        one.wait_for("ready")
        one.wait_for_mode(is_ours=True)
        one.type("\x1a")
        one.wait_for("at-your-service")
        one.type("echo this was $((40 + 2))\n")
        one.wait_for("this was 42")
        one.wait_for("at-your-service")
        one.type("bg\n")
        one.wait_for("&")
        one.wait_for("at-your-service")
        one.type("echo this was $((40 + 3))\n")
        one.wait_for("this was 43")
        assert "<" not in one.text
        one.wait_for("at-your-service")
        one.type("fg\n")
        one.wait_for("listen.py")
        one.wait_for_mode(is_ours=True)
        one.type("x")
        one.wait_for("over")
        one.wait_for("at-your-service")
        one.type("exit\n")
        one.end()


def test_without_a_terminal_there_is_no_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert terminal_of_input() is None
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert terminal_of_input() is None


def test_a_terminal_that_belongs_to_another_session_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.outside.keyboard.LOOK_SECONDS", 0.01)
    ours, theirs = os.openpty()
    heard: list[str] = []
    keyboard = Keyboard(theirs, heard.append)
    keyboard.start()
    for _ in range(20):
        assert termios.tcgetattr(theirs)[3] & termios.ICANON
        time.sleep(0.01)
    os.write(ours, b"a\n")
    keyboard.close()
    assert os.read(theirs, 10) == b"a\n"
    assert heard == []
    os.close(ours)
    os.close(theirs)
