"""A training script as a process of its own, seen from outside: seconds, memory, and when its optimizer stepped.

Run as a script this is the watcher: a small process between the caller and the command, which on Linux becomes the parent
of whatever the command leaves behind, such as a server of loader workers, so that what those spend is counted too.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter
from typing import Any

STEPPING = Path(__file__).with_name("stepping.py")
WARM_UP = 2
"""Intervals between steps that are not steady yet."""
LOOK_SECONDS = 0.5
LIMIT_SECONDS = 3600.0
ADOPT_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""
SAID = 2000
"""Characters of the output that an error shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one run took."""

    steps: tuple[float, ...]
    """Seconds from the start of the process to the end of each optimizer step, as the host sees it."""
    step_cpu: tuple[float, ...]
    """CPU seconds of the training process, with all its threads, up to the end of each."""
    wall_seconds: float
    """To the end of the process."""
    cpu_seconds: float
    """Of all processes, in user and system mode."""
    alone_mb: float
    """Largest resident memory of any of its processes."""
    together_mb: float
    """Largest sum over its processes, as seen every half second; on Linux what some of them share is divided among these."""

    @property
    def first_step_seconds(self) -> float:
        return self.steps[0]

    @property
    def step_ms(self) -> float:
        """The median of the steady steps."""
        return steady_ms(self.steps)

    @property
    def step_cpu_ms(self) -> float:
        """Likewise, of CPU; what loader processes use is not in it."""
        return steady_ms(self.step_cpu)

    @property
    def steps_per_second(self) -> float:
        """From the first step to the last."""
        return (len(self.steps) - 1) / (self.steps[-1] - self.steps[0])

    @property
    def ending_seconds(self) -> float:
        """From the last step to the end of the process: what is written."""
        return self.wall_seconds - self.steps[-1]


def steady_ms(seconds: Sequence[float]) -> float:
    """The median of the intervals, the first few left out."""
    intervals = [1e3 * (later - earlier) for earlier, later in pairwise(seconds)]
    return median(intervals[min(WARM_UP, len(intervals) - 1) :])


def watch(script: Path, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Taken:
    """Run a training script with this Python, in `folder`. Raises RuntimeError with its last words when it fails."""
    times, report, said = folder / "steps.txt", folder / "taken.json", folder / "output.txt"
    command = [sys.executable, str(STEPPING), str(times), str(script), *words]
    with said.open("wb") as output:
        subprocess.run(
            [sys.executable, "-P", __file__, str(report), *command], cwd=folder, env=dict(environment), check=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=LIMIT_SECONDS,
        )  # fmt: skip
    seen = json.loads(report.read_text())
    if seen["exit_code"]:
        last = said.read_text(errors="replace")[-SAID:]
        raise RuntimeError(f"{script} ended with {seen['exit_code']}, and said last:\n{last}")
    noted = [tuple(map(float, line.split())) for line in times.read_text().splitlines()]
    return Taken(
        steps=tuple(wall - seen["begun"] for wall, _ in noted), step_cpu=tuple(cpu for _, cpu in noted),
        wall_seconds=seen["wall_seconds"], cpu_seconds=seen["cpu_seconds"], alone_mb=seen["alone_mb"],
        together_mb=max(seen["together_mb"], seen["alone_mb"]),
    )  # fmt: skip


def main() -> None:
    """Run the command that `sys.argv` names after the report's file, and wait for all that it has started."""
    report, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    seen = {"cpu_seconds": 0.0, "alone_mb": 0.0, "together_mb": 0.0}
    is_over = Event()
    looking = Thread(target=look, args=(seen, is_over))
    looking.start()
    seen["begun"] = perf_counter()
    command_id = os.posix_spawn(command[0], command, os.environ)
    try:
        while True:
            ended, status, usage = os.wait4(-1, 0)
            seen["cpu_seconds"] += usage.ru_utime + usage.ru_stime
            seen["alone_mb"] = max(seen["alone_mb"], usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6)
            if ended == command_id:
                seen["wall_seconds"] = perf_counter() - seen["begun"]
                seen["exit_code"] = os.waitstatus_to_exitcode(status)
    except ChildProcessError:  # none is left
        is_over.set()
    looking.join()
    Path(report).write_text(json.dumps(seen))


def look(seen: dict[str, float], is_over: Event) -> None:
    """Keep the largest sum of memory over all that this process has started."""
    import psutil  # type: ignore[import-untyped]  # it has no stubs

    own = psutil.Process()
    while not is_over.wait(LOOK_SECONDS):
        total = 0
        for process in own.children(recursive=True):
            try:
                total += share_of(process)
            except psutil.NoSuchProcess:
                continue
        seen["together_mb"] = max(seen["together_mb"], total / 1e6)


def share_of(process: Any) -> int:
    """Its resident bytes: pages that are its own, and its part of shared ones, where the system tells (Linux's PSS)."""
    memory = process.memory_full_info()
    return int(getattr(memory, "pss", memory.rss))


if __name__ == "__main__":
    main()
