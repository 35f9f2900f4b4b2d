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
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Literal

from tests.small_runs import CONFIG, NAMES, PICTURES, ROOT, STARTER, sets

Size = Literal["cut", "short", "long"]
"""cut: in the test suite; short: at most a minute a row; long: for nights."""
JOURNAL = '\n[[plugins]]\nuse = "tests.faults.plugins_for_faults.Journal"\n'
"""Makes the order of the samples part of every checkpoint, hence of every comparison."""
EMA = '\n[[plugins]]\nuse = "plugins.ema.Ema"\n'


@dataclass(frozen=True)
class Ended:
    """A child that has ended."""

    code: int
    """As the shell's, or minus the number of the signal that killed it."""
    output: str
    seconds: float

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


@dataclass
class Child:
    """A forked child in a session of its own."""

    pid: int
    log: Path
    begun: float = field(default_factory=time.monotonic)
    _code: int | None = None

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, timeout: float = 60.0) -> Ended:
        """Its end; a child that takes longer is killed, and AssertionError says so."""
        while self._code is None and time.monotonic() - self.begun < timeout:
            self._poll()
            time.sleep(0.002)
        is_late = self._code is None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # its workers too
        if is_late:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert self._code is not None
        ended = Ended(self._code, self.log.read_text(errors="replace"), time.monotonic() - self.begun)
        assert not is_late, f"it has not ended after {timeout:.0f} s:\n{ended.output[-2000:]}"
        return ended

    @property
    def is_running(self) -> bool:
        self._poll()
        return self._code is None

    def _poll(self) -> None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None


@dataclass(frozen=True)
class Workspace:
    """A folder with a config of its own, whose runs are the subject of a trial."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def run(self) -> Path:
        return self.path / "runs" / "test"

    @property
    def checkpoints(self) -> list[Path]:
        """Of the run, by step, damaged ones included."""
        return sorted(path for path in (self.run / "checkpoints").glob("step-*") if path.name[5:].isdecimal())

    @property
    def log(self) -> list[dict[str, object]]:
        """The lines of log.jsonl."""
        return [json.loads(line) for line in (self.run / "log.jsonl").read_text().splitlines()]

    def said(self, words: str) -> bool:
        """Whether a line of the log has these words."""
        return any(words in str(line["event"]) for line in self.log)


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

    def reference(self, *overrides: str, plugins: str = JOURNAL + EMA) -> str:
        """The digest of a run with these settings that nobody disturbs; made once for the whole campaign."""
        stored = kept("reference", sorted(overrides), plugins)
        if not stored.exists():
            workspace = self.workspace(*overrides, plugins=plugins)
            ended = self.train(workspace)
            assert ended.code == 0, ended.output
            made = self.folder / stored.name
            made.write_text(digest(workspace))
            shutil.move(made, stored)
        return stored.read_text()


LANE_SECONDS = 3600.0
PRODUCT = ["as it is"]
"""Which product is on the bench; what one has made is no reference for another."""


def kept(*names: object) -> Path:
    """Where something is kept that is made once for the whole campaign."""
    return shared_folder() / sha256(repr((PRODUCT, names)).encode()).hexdigest()


def start_own_workers() -> None:
    """In a fork: a server of loader workers that was started before is no child of this process; have another one."""
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]  # there is no public way to forget one
    if server._forkserver_pid is None:
        return

    def ensure_running() -> None:
        modules = server._preload_modules
        del server.ensure_running
        server.__init__()
        server.set_forkserver_preload(modules)
        server.ensure_running()

    server.ensure_running = ensure_running


def command(*words: str) -> int:
    """What `python run.py WORDS` does, in this process."""
    import run

    sys.argv = ["run.py", *words]
    return run.main()


def with_overrides(text: str, overrides: Sequence[str]) -> str:
    """The TOML text with `table.key=value` written into its tables, whose keys stand one a line."""
    for override in overrides:
        key, _, value = override.partition("=")
        table, _, name = key.partition(".")
        head, found, rest = text.partition(f"[{table}]\n")
        if not found:
            text = f"[{table}]\n{name} = {value}\n" + text
            continue
        body, bracket, after = rest.partition("\n[")
        lines = [line for line in body.splitlines() if line.partition("=")[0].strip() != name]
        text = head + found + "\n".join([f"{name} = {value}", *lines]) + bracket + after
    return text


def digest(workspace: Workspace, parts: Sequence[str] | None = None) -> str:
    """Of all that the newest checkpoint holds but names and moments: weights, EMA, optimizer, position, sample order.

    `parts` are dotted keys of state.json; left out, those of DIGESTED.
    """
    return digest_of(workspace.checkpoints[-1], parts)


def digest_of(newest: Path, parts: Sequence[str] | None = None) -> str:
    """`digest`, of one checkpoint's folder."""
    import torch
    from safetensors.torch import load_file

    total = sha256(newest.name.encode())
    for path in sorted(newest.glob("*.safetensors")):
        for name, tensor in sorted(load_file(path).items()):
            total.update(f"{path.name} {name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    state = json.loads((newest / "state.json").read_text())
    for part in parts or DIGESTED:
        value = state
        for key in part.split("."):
            value = value[key]
        total.update(f"{part} {json.dumps(value, sort_keys=True)}".encode())
    return total.hexdigest()


DIGESTED = ("position", "optimizer", "step", "plugins", "metrics", "validation")


@cache
def shared_folder() -> Path:
    """Of what every row reads and none changes; removed when the campaign ends."""
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="signalbox-faults-"))
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


@cache
def model_folder() -> Path:
    """The starter model with modules so small that a step takes milliseconds."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig

    folder = shared_folder() / "model"
    shutil.copytree(STARTER, folder)
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), mid_block_type=None,
        up_block_types=("UpBlock2D",), layers_per_block=1, cross_attention_dim=16, attention_head_dim=4,
        norm_num_groups=2,
    ).save_config(folder / "unet")  # fmt: skip
    settings = AutoencoderKL.load_config(folder / "vae")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKL.from_config({**settings, "block_out_channels": [4, 4, 8], "norm_num_groups": 2})
        vae.save_pretrained(folder / "vae")
    config = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_attention_heads = 16, 32, 1, 2
    config.save_pretrained(folder / "text_encoder")
    return folder


@cache
def picture_folder() -> Path:
    """Ten of the demo's pictures with their captions."""
    return copy_pictures(shared_folder() / "pictures")


def copy_pictures(folder: Path, names: Sequence[str] = NAMES) -> Path:
    """The same ten, or others of the demo, in a folder that a trial may change."""
    for name in names:
        for suffix in (".png", ".txt"):
            target = (folder / name).with_suffix(suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy((PICTURES / name).with_suffix(suffix), target)
    return folder


def warm_up() -> None:
    """Import what a run imports, on one thread, so that forks have it."""
    import torch

    torch.set_num_threads(1)
    for name in ("run", "core.session", "core.assembly", "core.log", "plugins.loading", "diffusers", "transformers"):
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
        work, listed = (
            bench.workspace("train.steps=1", "preview.at_end=true", "cache.latents=true"),
            Path(folder) / "names",
        )
        before = set(sys.modules)

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
