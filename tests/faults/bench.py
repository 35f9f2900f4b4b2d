"""The bench that a row of the campaign works on: real runs in forked children of a process that is warm, and what they left.

Importing torch takes longer than a small run. The campaign imports it once, on one thread, and forks for each trial, so
that a trial costs a fraction of a second and can be killed, starved and lied to without a trace in the others.
"""

import gc
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from run import ENVIRONMENT
from tests.small_runs import CONFIG, ROOT, sets

from .children import Child, Ended, start_own_workers
from .workspaces import (
    PRODUCT,
    Workspace,
    copy_pictures,
    digest,
    digest_of,
    kept,
    model_folder,
    picture_folder,
    with_overrides,
)

__all__ = [
    "EMA",
    "JOURNAL",
    "PRODUCT",
    "Bench",
    "Child",
    "Ended",
    "Size",
    "Workspace",
    "command",
    "copy_pictures",
    "digest",
    "digest_of",
    "kept",
    "model_folder",
    "picture_folder",
    "warm_up",
    "with_overrides",
]

Size = Literal["cut", "short", "long"]
"""cut: in the test suite; short: at most a minute a row; long: for nights."""
JOURNAL = '\n[[plugins]]\nuse = "tests.faults.plugins_for_faults.Journal"\n'
"""Makes the order of the samples part of every checkpoint, hence of every comparison."""
EMA = '\n[[plugins]]\nuse = "plugins.ema.Ema"\n'
LANE_SECONDS = 3600.0
"""That a lane may take at most."""


@dataclass
class Bench:
    """What a row is given."""

    id: str
    size: Size
    count: int
    """Trials that the size asks for."""
    folder: Path
    """The row's own, removed afterwards."""
    seed: str = ""
    """Of its random numbers, beside its id."""
    passed: int = 0
    problems: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    """What the row counted on its way, such as kills."""
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1 << 30)))

    def __post_init__(self) -> None:
        self.random = random.Random(self.id + self.seed)

    @contextmanager
    def trial(self, name: str) -> Generator[None, None, None]:
        """One trial of the row; an exception within is its failure, and the row goes on with the next."""
        try:
            yield
        except Exception as error:
            said = str(error) if isinstance(error, AssertionError) and str(error) else traceback.format_exc()
            self.problems.append(f"{name}: {said}")
        else:
            self.passed += 1

    def spread(self, trials: Mapping[str, Callable[["Bench"], None]]) -> None:
        """Make these trials, by name, in a lane for each core; each lane is a forked process with a bench of its own."""
        cores = min(len(os.sched_getaffinity(0)), len(trials))
        names = list(trials)
        lanes = [
            self._begin_lane(number, {name: trials[name] for name in names[number::cores]}) for number in range(cores)
        ]
        for name, (lane, child) in zip(names, lanes, strict=False):
            with self.trial(f"the lane of {name}"):
                ended = child.wait(LANE_SECONDS)
                assert ended.code == 0, ended.output
                made = json.loads((lane / "made.json").read_text())
                self.passed += made["passed"] - 1
                self.problems += made["problems"]
                self.notes.update(made["notes"])

    def apart(self, name: str, trial: Callable[["Bench"], None]) -> None:
        """One trial in a forked process, whose mounts and limits are its own."""
        self.spread({name: trial})

    def _begin_lane(self, number: int, trials: Mapping[str, Callable[["Bench"], None]]) -> tuple[Path, Child]:
        lane = self.folder / f"lane-{next(self._numbers)}"
        lane.mkdir()

        def work() -> int:
            bench = Bench(self.id, self.size, self.count, lane, seed=f"{self.seed}/{number}")
            for name, trial in trials.items():
                with bench.trial(name):
                    trial(bench)
            made = {"passed": bench.passed, "problems": bench.problems, "notes": bench.notes}
            (lane / "made.json").write_text(json.dumps(made))
            return 0

        return lane, self.start(work)

    def workspace(
        self, *overrides: str, plugins: str = JOURNAL + EMA, model: Path | None = None, data: Path | None = None
    ) -> Workspace:
        """A new one, with a small real model and ten real pictures; `overrides` are written into its config."""
        path = self.folder / f"work-{next(self._numbers)}"
        path.mkdir()
        values = {
            "dir": path / "runs",
            "model": model or model_folder(),
            "data": data or picture_folder(),
            "cache": path / "cache",
        }
        text = CONFIG.format(**{key: json.dumps(str(value)) for key, value in values.items()}) + plugins
        workspace = Workspace(path)
        workspace.config.write_text(with_overrides(text, overrides))
        return workspace

    def start(self, work: Callable[[], int | None]) -> Child:
        """Fork, and run `work` there; its result is the exit code, 1 with a traceback for an exception."""
        log = self.folder / f"child-{next(self._numbers)}.log"
        log.touch()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return Child(pid, log)
        os.setsid()
        start_own_workers()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = 1
        try:
            code = work() or 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def fork(self, work: Callable[[], int | None], *, timeout: float = 60.0) -> Ended:
        return self.start(work).wait(timeout)

    def begin(
        self,
        workspace: Workspace,
        *overrides: str,
        arguments: Sequence[str] = (),
        inject: Callable[[], object] | None = None,
    ) -> Child:
        """Start `run.py train` on the workspace's config in a forked child; `inject` is called there before."""

        def work() -> int:
            os.chdir(ROOT)
            if inject is not None:
                inject()
            return command("train", str(workspace.config), *sets(overrides), *arguments)

        return self.start(work)

    def train(
        self,
        workspace: Workspace,
        *overrides: str,
        arguments: Sequence[str] = (),
        inject: Callable[[], object] | None = None,
        timeout: float = 60.0,
    ) -> Ended:
        """`begin`, and wait for the end."""
        return self.begin(workspace, *overrides, arguments=arguments, inject=inject).wait(timeout)

    def reference(self, *overrides: str, plugins: str = JOURNAL + EMA, parts: Sequence[str] | None = None) -> str:
        """The digest of a run with these settings that nobody disturbs; made once for the whole campaign."""
        stored = kept("reference", sorted(overrides), plugins, parts)
        if not stored.exists():
            workspace = self.workspace(*overrides, plugins=plugins)
            ended = self.train(workspace)
            assert ended.code == 0, ended.output
            made = self.folder / stored.name
            made.write_text(digest(workspace, parts))
            shutil.move(made, stored)
        return stored.read_text()


def command(*words: str) -> int:
    """What `python run.py WORDS` does, in this process."""
    import run

    sys.argv = ["run.py", *words]
    return run.main()


def warm_up() -> None:
    """Import what a run imports, on one thread, so that forks have it."""
    for name in ("MKL_CBWR", "TORCH_CPP_LOG_LEVEL"):  # read as torch is imported; a run of its own sets them too
        os.environ.setdefault(name, ENVIRONMENT[name])
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # as the trainer does once it has a device
    import torch

    from core.families import quiet_libraries

    torch.set_num_threads(1)
    quiet_libraries()
    for name in (
        "run",
        "core.run.session",
        "core.run.assembly",
        "core.log.lines",
        "plugins.loading",
        "diffusers",
        "transformers",
    ):
        importlib.import_module(name)
    for name in imported_by_a_run():
        with suppress(ImportError):
            importlib.import_module(name)
    picture_folder()
    gc.collect()
    gc.freeze()  # else each child goes through all of it again, and copies what it touches


def imported_by_a_run() -> list[str]:
    """Modules that a small run loads when it needs them; learnt from one in a child, since it leaves threads behind."""
    with tempfile.TemporaryDirectory(prefix="signalbox-warm-") as folder:
        bench = Bench("warm-up", "cut", 1, Path(folder))
        work = bench.workspace("train.steps=1", "preview.at_end=true", "cache.latents=true")
        listed, before = Path(folder) / "names", set(sys.modules)

        def run_and_list() -> int:
            os.chdir(ROOT)
            code = 1
            try:
                code = command("train", str(work.config))
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            listed.write_text("\n".join(sorted(set(sys.modules) - before)))
            return code

        ended = bench.fork(run_and_list)
        assert ended.code == 0, ended.output
        return listed.read_text().split()
