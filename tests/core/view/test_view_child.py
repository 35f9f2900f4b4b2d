"""The server of a live view comes and goes with the process that trains, and its end is nobody else's."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from queue import Queue

import pytest

from core.view.address import Address
from core.view.child import ViewProcess
from tests.core.view.folders import make_run
from tests.core.view.serving import SECONDS, TOKEN
from tests.small_runs import ROOT


@pytest.fixture
def told() -> "Queue[Address]":
    return Queue()


@pytest.fixture
def view(tmp_path: Path, told: "Queue[Address]") -> Iterator[ViewProcess]:
    view = ViewProcess(make_run(tmp_path / "run"), host="127.0.0.1", port=0, token=TOKEN, tell=told.put)
    view.start()
    yield view
    view.close()


def answers(address: Address) -> bool:
    port = int(address.url.rstrip("/").rpartition(":")[2])
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/api/state")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


def ends(address: Address) -> bool:
    until = time.monotonic() + SECONDS
    while answers(address) and time.monotonic() < until:
        time.sleep(0.05)
    return not answers(address)


def test_it_serves_until_it_is_closed(view: ViewProcess, told: "Queue[Address]") -> None:
    address = told.get(timeout=SECONDS)
    assert address.token == TOKEN
    assert answers(address)
    view.close()
    assert not answers(address)


def test_one_that_is_closed_at_once_leaves_nothing(view: ViewProcess) -> None:
    view.close()
    view.close()
    if view.pid is not None:
        with pytest.raises(ProcessLookupError):
            os.kill(view.pid, 0)


def test_one_that_dies_is_started_once_more_at_the_same_place(
    view: ViewProcess, told: "Queue[Address]", caplog: pytest.LogCaptureFixture
) -> None:
    first = told.get(timeout=SECONDS)
    assert view.pid is not None
    os.kill(view.pid, signal.SIGKILL)
    second = told.get(timeout=SECONDS)
    assert second == first
    assert answers(second)
    with caplog.at_level(logging.WARNING):
        os.kill(view.pid, signal.SIGKILL)
        until = time.monotonic() + SECONDS
        while "not started again" not in caplog.text and time.monotonic() < until:
            time.sleep(0.02)
    assert "not started again" in caplog.text
    assert told.empty()
    assert not answers(second)


PARENT = """
import sys, time
from pathlib import Path
from core.view.child import ViewProcess
folder = Path(sys.argv[1])
view = ViewProcess(folder, host="127.0.0.1", port=0, token="a token", tell=lambda address: print(address.url, flush=True))
view.start()
time.sleep(600)
"""


def test_one_whose_run_is_killed_ends_too(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    command = [sys.executable, "-c", PARENT, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        address = Address(parent.stdout.readline().strip(), "")
        assert answers(address)
        parent.kill()
    assert ends(address)


def test_an_address_that_cannot_be_had_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    view = ViewProcess(make_run(tmp_path), host="192.0.2.1", port=80, token=TOKEN, tell=print)
    with caplog.at_level(logging.WARNING):
        view.start()
        until = time.monotonic() + SECONDS
        while "not started again" not in caplog.text and time.monotonic() < until:
            time.sleep(0.02)
    assert "192.0.2.1:80" in caplog.text
    view.close()
