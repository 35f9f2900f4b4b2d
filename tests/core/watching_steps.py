"""Watches the trainer's steps in real runs: their closed region, and whole steps from one boundary to the next.

What is watched is the same on the CPU and on CUDA; only who watches differs.
"""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli
from torch.profiler import profile, supported_activities
from torch.utils._python_dispatch import TorchDispatchMode

from core.attached import guards
from core.data.loader import Loader
from core.run.trainer import Trainer
from core.step.closed import Step
from events import Plugin
from events.marks import marks_of
from events.payloads import Batch
from tests.plugins.bundled_plugins import KINDS, NEEDED
from tests.small_runs import ROOT

OBJECTIVE = ("build.scheduler", "build.noise", "build.input_noise", "build.timesteps", "build.conditioning",
             "build.loss", "build.weight")  # fmt: skip
"""Signals whose handlers give the step a part of it."""
COMPILED = ("build.loss", "build.weight")
"""Of these, the parts that are compiled with the denoiser."""
FITTING = {"ZeroTerminalSnr": ('model.prediction="v_prediction"',), "MaskedLoss": ('data.masks="alpha"',)}
"""Settings of a run that gives a plugin what it works on."""


def plugin(use: str, **settings: object) -> str:
    """A `[[plugins]]` table."""
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    return f'\n[[plugins]]\nuse = "{use}"\n{lines}'


def default_plugins() -> str:
    """Those that a run has when nobody changes config.toml, as tables."""
    tables = tomli.loads((ROOT / "config.toml").read_text(encoding="utf-8"))["plugins"]
    return "".join(plugin(**table) for table in tables)


NO_OPS = "".join(plugin("tests.core.plugins_for_tests.NoOp", name=f"noop{number}") for number in range(20))
"""Twenty plugins with a handler at every signal of the catalogue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of run."""

    settings: tuple[str, ...] = ()
    plugins: str = ""


WHOLE: dict[str, Kind] = {
    "plain": Kind(),
    "uncached": Kind(settings=("cache.latents=false",)),
    "captions cached too": Kind(settings=('model.train=["unet"]', "cache.text=true")),
    "default plugins": Kind(plugins=default_plugins()),
    "twenty no-op plugins": Kind(plugins=NO_OPS),
    "twenty no-op plugins, uncached": Kind(settings=("cache.latents=false",), plugins=NO_OPS),
    "LoRA": Kind(plugins=plugin("plugins.lora.Lora", rank=2)),
    "LoRA, uncached": Kind(settings=("cache.latents=false",), plugins=plugin("plugins.lora.Lora", rank=2)),
    "LoRA with dropout": Kind(plugins=plugin("plugins.lora.Lora", rank=2, dropout=0.1)),
    "bf16": Kind(settings=("train.precision=bf16",)),
    "fp16": Kind(settings=("train.precision=fp16", "train.batch_size=5")),
    "channels last": Kind(settings=("train.channels_last=true",)),
    "two batches a step": Kind(settings=("train.accumulate=2",)),
    "gradient checkpointing": Kind(settings=("train.gradient_checkpointing=true",)),
    "fused backward": Kind(settings=("train.fused_backward=true", "train.clip_norm=0")),
}
"""Runs whose steps wait for nothing, by name; with those of `objectives` to which a plugin gives a part of the step."""
STEADY = ("train.steps=7", "log.every_steps=100", "checkpoint.every_steps=0")
"""Neither logs nor saves in between."""


def objectives(signals: Sequence[str] = OBJECTIVE) -> dict[str, Kind]:
    """A run with each bundled plugin that builds on one of the signals, by the plugin's name."""
    found = {}
    for kind in KINDS:
        if signals_of(kind) & set(signals):
            table = plugin(f"{kind.__module__}.{kind.__name__}", **NEEDED.get(kind.__name__, {}))
            found[kind.__name__] = Kind(settings=FITTING.get(kind.__name__, ()), plugins=table)
    return found


def signals_of(kind: type[Plugin]) -> set[str]:
    """What the methods of a plugin's class are marked for."""
    return {mark.signal for member in vars(kind).values() for mark in marks_of(member)}


class Recorder(TorchDispatchMode):
    """Notes every ATen operator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of torch
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def in_closed_region(watch: Callable[[int], AbstractContextManager[object]]) -> Iterator[None]:
    """`watch(steps taken before)` is entered before the first forward of each step and left after optimizer.step()."""
    take = Step.take

    def watched(self: Step, batches: Sequence[Batch], steps_taken: int) -> dict[str, float]:
        with watch(steps_taken):
            return take(self, batches, steps_taken)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "take", watched)
        yield


@contextmanager
def over_whole_steps(
    watch: Callable[[], AbstractContextManager[object]],
    *,
    at_home: Callable[[], AbstractContextManager[object]] = nullcontext,
    after: int = 2,
    until: int = 6,
) -> Generator[list[int], None, None]:
    """`watch()` is entered after the boundary of step `after` and left after that of `until`; yields the steps between.

    All that the training thread does lies in it. `at_home()` is entered where it works on tensors that are the host's own:
    as it makes batches of files and caches, and looks at the state of torch's generators to guard them.
    """
    keep, load, look, steps = Trainer._keep_boundary, Loader.batches, guards.generator_states, list[int]()

    def kept(self: Trainer, taken: Any) -> None:
        keep(self, taken)
        step = self.position.step
        if after < step <= until:
            steps.append(step)
        if step == after:
            watching.enter_context(watch())
        if step == until:
            watching.close()

    def loaded(self: Loader, plan: Any) -> Iterator[Batch]:
        batches = load(self, plan)
        while True:
            with at_home():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def looked() -> Any:
        with at_home():
            return look()

    with ExitStack() as watching, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_keep_boundary", kept)
        patch.setattr(Loader, "batches", loaded)
        patch.setattr(guards, "generator_states", looked)
        yield steps


def trace_whole_steps(train: Callable[..., Any], path: Path, *settings: str, plugins: str = "") -> list[dict[str, Any]]:
    """What torch's profiler notes in whole steps of a run, of the host and of the device, as it writes it to `path`."""
    profiler = profile(activities=supported_activities())
    with over_whole_steps(lambda: profiler):
        train(*STEADY, *settings, plugins=plugins)
    profiler.export_chrome_trace(str(path))
    events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return events
