"""The step is closed, whoever listens around it, and a step that does not log makes the host wait for nothing (P8 to P10)."""

import gc
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from events.catalogue import CATALOGUE
from tests.core.plugins_for_tests import EmitEverything
from tests.core.sync_detector import HostWaits, SyncDetector
from tests.core.watching_steps import (
    COMPILED,
    NO_OPS,
    STEADY,
    WHOLE,
    Kind,
    Recorder,
    in_closed_region,
    objectives,
    over_whole_steps,
    plugin,
)
from tests.small_runs import ROOT, Run, assert_same_state

HERE = "tests.core.plugins_for_tests"
WITH_ALL_OBJECTIVES = WHOLE | objectives()
COMPOSED = "".join(kind.plugins for kind in objectives(COMPILED).values())
OURS = (str(ROOT / "core"), str(ROOT / "events"))
Calls = Counter[tuple[str, str]]
"""How often each function of Python was called, by (file, name)."""


def test_the_same_operators_run_with_no_plugin_and_with_twenty(train: Callable[..., Run]) -> None:
    steps: list[Recorder] = []

    def recorder(steps_taken: int) -> Recorder:
        steps.append(Recorder())
        return steps[-1]

    with in_closed_region(recorder):
        bare = train("run.name=bare", "train.steps=4")
        full = train("run.name=full", "train.steps=4", plugins=NO_OPS)
    names = [one.names for one in steps]
    assert len(names[0]) > 500
    assert names[4:] == names[:4]
    left, right = weights(bare), weights(full)
    assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())


def test_twenty_plugins_allocate_no_tensor_in_it(train: Callable[..., Run]) -> None:
    """By the events of torch's allocator, which sees also what operators allocate for themselves."""
    steps: list[list[int]] = []

    @contextmanager
    def allocations(steps_taken: int) -> Iterator[None]:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            yield
        found = profiler.profiler.kineto_results.events()  # no public list has them all
        steps.append([event.nbytes() for event in found if event.name() == "[memory]" and event.nbytes() > 0])

    with in_closed_region(allocations):
        train("run.name=bare", "train.steps=3")
        train("run.name=full", "train.steps=3", plugins=NO_OPS)
    assert len(steps[0]) > 500
    assert steps[3:] == steps[:3]


@pytest.fixture
def called() -> Iterator[list[Calls]]:
    """Calls of Python functions in each closed step that is taken."""
    steps: list[Calls] = []

    @contextmanager
    def counted(steps_taken: int) -> Iterator[None]:
        calls: Calls = Counter()

        def note(frame: FrameType, event: str, argument: object) -> None:
            if event == "call":
                calls[frame.f_code.co_filename, frame.f_code.co_qualname] += 1

        gc.disable()  # what it finalizes would count, whenever it comes
        sys.setprofile(note)
        try:
            yield
        finally:
            sys.setprofile(None)
            gc.enable()
        steps.append(calls)

    with in_closed_region(counted):
        yield steps


def test_twenty_plugins_add_no_call_of_a_python_function_to_it(train: Callable[..., Run], called: list[Calls]) -> None:
    train("run.name=bare", "train.steps=4")
    train("run.name=full", "train.steps=4", plugins=NO_OPS)
    assert called[1].total() > 500
    assert called[5:] == called[1:4]  # libraries settle in the first step


def test_its_own_calls_do_not_grow_with_the_layers_of_the_model(
    train: Callable[..., Run], called: list[Calls], model_folder: Path, tmp_path: Path
) -> None:
    """Those of torch and the model's library do."""
    shutil.copytree(model_folder, tmp_path / "deep")
    config = json.loads((tmp_path / "deep" / "unet" / "config.json").read_text())
    (tmp_path / "deep" / "unet" / "config.json").write_text(json.dumps(config | {"layers_per_block": 2}))
    train("run.name=flat", "train.steps=2")
    train("run.name=deep", "train.steps=2", f"model.path={tmp_path / 'deep'}")
    flat, deep = called[1], called[3]
    assert deep.total() > flat.total() + 100
    assert own(flat)
    assert own(deep) == own(flat)


def own(calls: Calls) -> Calls:
    return Counter({place: count for place, count in calls.items() if place[0].startswith(OURS)})


def test_a_step_reads_no_number_from_the_device(train: Callable[..., Run]) -> None:
    detector, steps = SyncDetector(), list[int]()

    def watch(steps_taken: int) -> SyncDetector:
        steps.append(steps_taken)
        return detector

    with in_closed_region(watch):
        train("train.steps=2", "log.every_steps=1")
    assert steps == [0, 1]
    assert detector.found == []


@pytest.mark.parametrize("kind", WITH_ALL_OBJECTIVES.values(), ids=WITH_ALL_OBJECTIVES.keys())
def test_a_whole_step_makes_the_host_wait_for_nothing(train: Callable[..., Run], kind: Kind) -> None:
    detector = SyncDetector()
    with over_whole_steps(lambda: detector, at_home=detector.paused) as steps:
        train(*STEADY, *kind.settings, plugins=kind.plugins)
    assert steps == [3, 4, 5, 6]
    assert detector.found == []


def test_an_optimizer_that_cannot_skip_on_the_device_is_noticed(train: Callable[..., Run]) -> None:
    """So the detector is at work in these runs; it is the one exception there is."""
    detector = SyncDetector()
    with pytest.raises(HostWaits, match="__bool__"), over_whole_steps(lambda: detector, at_home=detector.paused):
        train(*STEADY, "train.optimizer=torch.optim.RAdam")


def test_a_plugin_that_reads_the_device_between_steps_is_noticed(train: Callable[..., Run]) -> None:
    detector = SyncDetector()
    with (
        pytest.raises(Exception, match="item makes the host wait"),
        over_whole_steps(lambda: detector, at_home=detector.paused),
    ):
        train(*STEADY, plugins=plugin(f"{HERE}.ReadWeight"))


def test_an_emit_within_it_raises(train: Callable[..., Run]) -> None:
    with pytest.raises(Exception, match=r"run\.close was emitted between the first forward"):
        train("train.steps=2", plugins=plugin(f"{HERE}.EmitInStep"))


def test_no_signal_fires_within_it_by_any_way(train: Callable[..., Run]) -> None:
    """blinker's `send` is refused anywhere where handlers build on each other."""
    EmitEverything.outcomes.clear()
    train("train.steps=1", plugins=plugin(f"{HERE}.EmitEverything") + NO_OPS)
    expected: dict[tuple[str, str], str] = {}
    for spec in CATALOGUE:
        way = {"notification": "emit", "transform": "apply", "build": "compose"}[spec.kind]
        by_send = "BusClosed" if spec.kind == "notification" else "TypeError"
        expected |= {
            (spec.name, way): "BusClosed",
            (spec.name, "send"): by_send,
            (spec.name, "receivers_for"): "BusClosed",
        }
    assert EmitEverything.outcomes == expected


def test_the_bus_is_open_again_after_it(train: Callable[..., Run]) -> None:
    run = train("train.steps=2", plugins=plugin(f"{HERE}.Counter"))
    assert run.bus.plugins["Counter"].counts["steps"] == 2  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's tracer
@pytest.mark.parametrize(("backend", "plugins"), [("eager", ""), ("aot_eager", COMPOSED)])
def test_denoiser_and_loss_compile_whole_and_give_the_same_numbers(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, backend: str, plugins: str
) -> None:
    """Also with what every bundled plugin makes of loss and weight."""
    settings = ("train.steps=2", "train.batch_size=5")
    torch.compiler.reset()  # graphs of other tests would count towards the most that torch keeps
    plain = train("run.name=plain", *settings, plugins=plugins)
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend=backend, **options))
    compiled = train("run.name=compiled", *settings, "train.compile=true", plugins=plugins)
    assert_same_state(compiled, plain)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.state()["weights.safetensors"]  # type: ignore[return-value]
