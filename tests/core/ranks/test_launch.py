"""`run.py --processes N` starts N ranks that know of each other, tells once why they end, and leaves nothing behind."""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.errors import ConfigError, ResourceError
from core.ranks import launch as launching
from core.ranks.board import SAVING, WELL, Board
from core.ranks.environment import Place
from core.ranks.launch import launch
from core.ranks.one_machine import require_devices
from tests.core.ranks.watched import until
from tests.terminals import terminal

SHORT_SECONDS = 0.4
RANK = """
import json, os, signal, sys, time
from pathlib import Path
folder, rank = Path(sys.argv[1]), os.environ["RANK"]
def note(name, value=""):
    (folder / "part").with_suffix(f".{rank}").write_text(json.dumps(value))
    (folder / "part").with_suffix(f".{rank}").rename(folder / f"{name}-{rank}")
note("begun", dict(os.environ, pid=os.getpid(), reads=os.ttyname(0) if os.isatty(0) else os.readlink("/proc/self/fd/0")))
"""
SLEEP = "time.sleep(600)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ranks note what they see; they are given less time to end than in earnest."""
    monkeypatch.setattr(launching, "ENDING_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(launching, "LOST_SECONDS", SHORT_SECONDS)
    return tmp_path


def command(folder: Path, *programs: str) -> list[str]:
    """Of which each rank runs its own."""
    for rank, program in enumerate(programs):
        (folder / f"{rank}.py").write_text(program)
    (folder / "any.py").write_text(RANK + "exec((folder / f'{rank}.py').read_text())")
    return [sys.executable, "-S", str(folder / "any.py"), str(folder)]


def noted(folder: Path, name: str, rank: int) -> Any:
    """What a rank has noted, once it has."""
    path = folder / f"{name}-{rank}"
    until(path.exists)
    return json.loads(path.read_text())


class Voice:
    """Says on the board what a rank would, which needs torch for it."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.board = Board(Place(rank=rank, count=2, port=int(noted(folder, "begun", rank)["MASTER_PORT"])))

    def tell(self, said: str, code: int) -> None:
        assert self.board.tell_cause(said, code)


def while_it_runs(work: Callable[[], object]) -> Callable[[], None]:
    """Do this in a thread beside the launcher, which has the main one for its signals; returns what waits for its end."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def end() -> None:
        thread.join()
        assert not failures, failures

    return end


def test_ranks_know_their_place_and_share_the_threads_of_the_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    launch(3, command(folder, *["sys.exit(9)"] * 3))
    seen = [noted(folder, "begun", rank) for rank in range(3)]
    assert [(one["RANK"], one["LOCAL_RANK"], one["WORLD_SIZE"]) for one in seen] == [
        (f"{n}", f"{n}", "3") for n in range(3)
    ]
    assert {one["MASTER_ADDR"] for one in seen} == {"127.0.0.1"}
    assert len({one["MASTER_PORT"] for one in seen}) == 1
    assert {one["OMP_NUM_THREADS"] for one in seen} == {str(max(1, len(os.sched_getaffinity(0)) // 3))}
    loopback = {one["GLOO_SOCKET_IFNAME"] for one in seen}.pop()
    assert "127.0.0.1" in [address.address for address in psutil.net_if_addrs()[loopback]]
    assert [one["reads"] == "/dev/null" for one in seen][1:] == [True, True]


def test_what_somebody_has_set_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    launch(1, command(folder, ""))
    assert noted(folder, "begun", 0)["OMP_NUM_THREADS"] == "7"
    assert noted(folder, "begun", 0)["GLOO_SOCKET_IFNAME"] == "eth7"


def test_the_store_is_out_of_reach_of_other_machines(folder: Path) -> None:
    def look() -> None:
        port = int(noted(folder, "begun", 0)["MASTER_PORT"])
        found = [
            one.laddr for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port
        ]
        assert [address.ip for address in found] == ["127.0.0.1"]

    end = while_it_runs(look)
    launch(1, command(folder, "time.sleep(1.0)"))
    end()


def test_the_exit_code_is_that_of_the_rank_that_failed_first_and_the_others_are_ended(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch(2, command(folder, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP, "sys.exit(3)")) == 3
    assert capfd.readouterr().err == "rank 1 ended with exit code 3 and has not said why; what it printed may\n"


def test_a_killed_rank_is_told_by_its_signal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launch(2, command(folder, SLEEP, "os.kill(os.getpid(), signal.SIGKILL)")) == 8
    assert capfd.readouterr().err == "rank 1 was killed by SIGKILL, as the system does when memory runs out\n"


def test_a_rank_that_leaves_in_silence_has_failed_also_with_exit_code_0(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch(2, command(folder, SLEEP, "os._exit(0)")) == 8
    assert "rank 1 ended with exit code 0 and has not said why" in capfd.readouterr().err


def test_the_cause_that_a_rank_has_told_is_not_told_again_and_gives_the_exit_code(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    end = while_it_runs(lambda: Voice(folder, 1).tell("no picture is left", 3))
    assert launch(2, command(folder, "time.sleep(1.0); sys.exit(6)", "time.sleep(1.5); sys.exit(3)")) == 3
    end()
    assert capfd.readouterr().err == ""


def test_a_rank_that_has_told_its_cause_and_does_not_end_is_killed(folder: Path) -> None:
    end = while_it_runs(lambda: Voice(folder, 0).tell("broken", 6))
    assert launch(2, command(folder, SLEEP, SLEEP)) == 6
    end()


def test_a_rank_that_saves_is_given_the_time_and_no_more(folder: Path) -> None:
    saving = f"time.sleep({5 * SHORT_SECONDS}); note('saved'); {SLEEP}"

    def tell() -> None:
        voice = Voice(folder, 0)
        voice.board.post(SAVING, 0)
        Voice(folder, 1).tell("broken", 6)
        noted(folder, "saved", 0)
        voice.board.post(SAVING, None)

    end = while_it_runs(tell)
    assert launch(2, command(folder, saving, "sys.exit(6)")) == 6
    end()


def test_a_rank_that_was_given_up_is_killed_though_it_is_stopped(folder: Path) -> None:
    end = while_it_runs(lambda: Voice(folder, 0).tell("rank 0 has waited for rank 1", 8))
    assert launch(2, command(folder, SLEEP, f"os.kill(os.getpid(), signal.SIGSTOP); {SLEEP}")) == 8
    end()
    assert not psutil.pid_exists(noted(folder, "begun", 1)["pid"])


def test_nothing_is_left_of_a_failed_run_not_even_what_a_killed_rank_had_started(folder: Path) -> None:
    left = f"child = os.fork()\nif child == 0:\n    os.setsid(); note('child', os.getpid()); {SLEEP}"
    dies = f"{left}time.sleep(0.3); os.kill(os.getpid(), signal.SIGKILL)"
    started_before = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    try:
        assert launch(2, command(folder, left + SLEEP, dies)) == 8
        for rank in (0, 1):
            until(lambda rank=rank: not is_alive(noted(folder, "child", rank)))
        assert started_before.poll() is None, "what somebody else had started is none of its business"
    finally:
        started_before.kill()
        started_before.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="where a process can adopt what others leave behind")
def test_it_adopts_what_others_leave_behind_no_longer_than_it_runs(folder: Path) -> None:
    seen: list[int] = []

    def look() -> None:
        noted(folder, "begun", 0)
        seen.append(adopts_orphans())

    end = while_it_runs(look)
    launch(1, command(folder, "time.sleep(0.5)"))
    end()
    assert [*seen, adopts_orphans()] == [1, 0]


def adopts_orphans() -> int:
    """Whether this process does: PR_GET_CHILD_SUBREAPER of prctl(2)."""
    answer = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(answer), 0, 0, 0)
    return answer.value


def is_alive(pid: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_a_rank_that_cannot_be_started_ends_those_that_could() -> None:
    with pytest.raises(ResourceError, match=r"rank 0 of 2 could not be started \(No such file or directory\)"):
        launch(2, ["/there/is/no/such/program"])


CATCHING = """
seen = []
def catch(number, frame):
    seen.append(signal.Signals(number).name)
    note("seen", seen)
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), catch)
note("ready")
until = time.monotonic() + 600
while not (folder / "end").exists() and time.monotonic() < until:
    time.sleep(0.01)
sys.exit(143)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interruption_reaches_every_rank_once_where_there_is_no_terminal(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "has_terminal", lambda: False)

    def interrupt() -> None:
        voices = [Voice(folder, rank) for rank in (0, 1)]
        for rank in (0, 1):
            noted(folder, "ready", rank)
        os.kill(os.getpid(), getattr(signal, name))
        for rank, voice in enumerate(voices):
            noted(folder, "seen", rank)
            voice.board.post(f"{WELL}/{rank}", True)
        time.sleep(3 * SHORT_SECONDS)  # those that end well have all the time they want
        (folder / "end").touch()

    before = [signal.getsignal(getattr(signal, one)) for one in ("SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP")]
    end = while_it_runs(interrupt)
    assert launch(2, command(folder, CATCHING, CATCHING)) == 143
    end()
    assert [noted(folder, "seen", rank) for rank in (0, 1)] == [[name], [name]]
    assert before == [signal.getsignal(getattr(signal, one)) for one in ("SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP")]


def test_ranks_that_do_not_heed_a_second_interruption_are_killed(folder: Path) -> None:
    def interrupt() -> None:
        for number in (1, 2):
            for rank in (0, 1):
                noted(folder, "ready", rank)
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda number=number: len(noted(folder, "seen", 1)) == number)

    end = while_it_runs(interrupt)
    assert launch(2, command(folder, CATCHING, CATCHING)) == 143
    end()


def test_ranks_that_are_interrupted_before_they_can_do_better_are_told_as_such(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        for rank in (0, 1):
            noted(folder, "begun", rank)
        os.kill(os.getpid(), signal.SIGTERM)

    end = while_it_runs(interrupt)
    assert launch(2, command(folder, SLEEP, SLEEP)) == 143
    end()
    assert capfd.readouterr().err in [f"rank {rank} was interrupted; the newest checkpoint stands\n" for rank in (0, 1)]


DRIVER = "import sys; from core.ranks.launch import launch; print('ended with', launch(2, sys.argv[1:]))"


SHELL = "set -m; {driver} {reads}; while [ ! -e {folder}/resume ]; do sleep 0.05; done; fg"


@pytest.mark.parametrize("reads", ["", "< /dev/null"], ids=["typed to", "which reads something else"])
def test_a_shell_stops_and_resumes_all_ranks_and_interrupts_each_once(folder: Path, reads: str) -> None:
    driver = shlex.join([sys.executable, "-c", DRIVER, *command(folder, CATCHING, CATCHING)])
    with terminal("/bin/sh", "-c", SHELL.format(driver=driver, reads=reads, folder=folder)) as one:
        ranks = [psutil.Process(noted(folder, "begun", rank)["pid"]) for rank in (0, 1)]
        every = [*ranks, ranks[0].parent()]
        for rank in (0, 1):
            noted(folder, "ready", rank)
        one.type("\x1a")
        until(lambda: {process.status() for process in every} == {psutil.STATUS_STOPPED})
        (folder / "resume").touch()
        until(lambda: psutil.STATUS_STOPPED not in {process.status() for process in every})
        one.type("\x03")
        for rank in (0, 1):
            noted(folder, "seen", rank)
        time.sleep(0.3)
        (folder / "end").touch()
        one.end()
        assert [noted(folder, "seen", rank) for rank in (0, 1)] == [["SIGINT"], ["SIGINT"]]


def test_where_no_shell_could_resume_them_nothing_is_stopped(folder: Path) -> None:
    driver = shlex.join([sys.executable, "-c", DRIVER, *command(folder, CATCHING, CATCHING)])
    with terminal("/bin/sh", "-c", f"exec {driver}") as one:
        for rank in (0, 1):
            noted(folder, "ready", rank)
        one.type("\x1a")
        time.sleep(0.3)
        one.type("\x03")
        seen = [noted(folder, "seen", rank) for rank in (0, 1)]
        (folder / "end").touch()
        one.end()
    assert seen == [["SIGINT"], ["SIGINT"]]


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(
        ConfigError, match=r"3 processes want a GPU each, and there are 2; ask for 2, or set train\.device"
    ):
        require_devices(3, "auto")
    require_devices(2, "auto")
    require_devices(3, "cpu")


def test_on_a_machine_without_gpus_any_number_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    require_devices(3, "auto")


def test_processes_are_asked_for_once() -> None:
    import run

    place = Place(rank=1, count=2, port=1, is_launched=True)
    with pytest.raises(ConfigError, match=r"3 are asked for in a process that a launcher has started as one of 2"):
        run.is_to_launch(3, place)
    assert not run.is_to_launch(2, place)
    assert not run.is_to_launch(1, place)
    assert not run.is_to_launch(1, Place())
    assert run.is_to_launch(2, Place())
