"""On CUDA a step that does not log makes the host wait for nothing, whoever listens around it, and can be captured as a graph."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.compute.rng import PlaceGenerator
from core.step.closed import Step
from events.payloads import Batch
from tests.core.watching_steps import (
    NO_OPS,
    STEADY,
    WHOLE,
    Kind,
    in_closed_region,
    objectives,
    over_whole_steps,
    trace_whole_steps,
)
from tests.small_runs import Run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature:UserWarning"),
]
CUDA = "train.device=cuda"
ALL = WHOLE | objectives()
WARM, REPLAYS = 3, 3
"""Steps before a graph is captured, and how often it is replayed."""


@contextmanager
def waits_raise() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_wait_would_be_noticed() -> None:
    number = torch.ones((), device="cuda")
    with waits_raise(), pytest.raises(RuntimeError, match="synchronizing"):
        number.item()


@pytest.mark.parametrize("kind", ALL.values(), ids=ALL.keys())
def test_no_step_waits_for_the_device(train: Callable[..., Run], kind: Kind) -> None:
    with over_whole_steps(waits_raise) as steps:
        train(*STEADY, CUDA, *kind.settings, plugins=kind.plugins)
    assert steps == [3, 4, 5, 6]


@pytest.mark.filterwarnings("ignore")  # of whatever the compiler imports
def test_no_compiled_step_waits_for_the_device(train: Callable[..., Run]) -> None:
    with over_whole_steps(waits_raise) as steps:
        train(*STEADY, CUDA, "train.compile=true", "train.batch_size=5")
    assert steps == [3, 4, 5, 6]


def calls_of(train: Callable[..., Run], path: Path, name: str, *settings: str, plugins: str = "") -> Counter[str]:
    """How often the host has waited, copied and started a kernel in whole steps, by the name of the runtime's function."""
    events = trace_whole_steps(train, path, f"run.name={name}", CUDA, *settings, plugins=plugins)
    names = [event["name"] for event in events if event.get("cat") in ("cuda_runtime", "cuda_driver")]
    return Counter(
        name for name in names if any(word in name for word in ("Synchronize", "Memcpy", "Memset", "Launch"))
    )


@pytest.mark.parametrize("settings", [(), ("cache.latents=false",)], ids=["cached", "uncached"])
def test_twenty_plugins_add_no_wait_and_no_copy(
    train: Callable[..., Run], tmp_path: Path, settings: tuple[str, ...]
) -> None:
    calls_of(train, tmp_path / "trace.json", "warm", *settings)
    bare = calls_of(train, tmp_path / "trace.json", "bare", *settings)
    full = calls_of(train, tmp_path / "trace.json", "full", *settings, plugins=NO_OPS)
    assert full == bare
    assert any("Launch" in name for name in bare)
    waits = {name for name in bare if "Synchronize" in name}
    assert waits <= {"cudaDeviceSynchronize"}  # the profiler's own, at its end


def test_twenty_plugins_allocate_nothing_on_the_device_in_it(train: Callable[..., Run]) -> None:
    steps: list[int] = []

    @contextmanager
    def allocations(steps_taken: int) -> Iterator[None]:
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        yield
        steps.append(torch.cuda.memory_stats()["allocation.all.allocated"] - before)

    with in_closed_region(allocations):
        train("run.name=bare", CUDA, "train.steps=4")
        train("run.name=full", CUDA, "train.steps=4", plugins=NO_OPS)
    assert steps[1] > 100
    assert steps[5:] == steps[1:4]  # libraries settle in the first step


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_copied_from_pinned_memory_beside_the_computation(
    train: Callable[..., Run], tmp_path: Path, workers: int
) -> None:
    events = trace_whole_steps(
        train, tmp_path / "trace.json", CUDA, "cache.latents=false", f"data.workers={workers}"
    )  # fmt: skip
    copies = [event for event in events if event.get("cat") == "gpu_memcpy" and "HtoD" in event["name"]]
    kernels = [event for event in events if event.get("cat") == "kernel"]
    assert copies
    assert {event["name"] for event in copies} == {"Memcpy HtoD (Pinned -> Device)"}
    assert {event["args"]["stream"] for event in copies}.isdisjoint(event["args"]["stream"] for event in kernels)


def test_the_closed_region_is_captured_and_replays_to_the_same_weights(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three replays end where three steps do, to within a hundredth of how far those move the weights.

    What has to stay as it was when it was captured: where the batch lies; the learning rates, which the host hands over;
    the metrics' row; and the seeds. The host seeds a generator for each draw, which no graph can hold, so here each is
    seeded once and goes on, and the graph knows it.
    """
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    begun = train_on_one_batch(train, "begun", steps=WARM)
    eager = train_on_one_batch(train, "eager", steps=WARM + REPLAYS)
    replayed = train_on_one_batch(train, "replayed", steps=WARM + 1, replays=REPLAYS)
    assert distance(replayed, eager) < 0.01 * distance(eager, begun)


def train_on_one_batch(
    train: Callable[..., Run], name: str, *, steps: int, replays: int = 0, device: str = "cuda"
) -> dict[str, Tensor]:
    """The weights after steps on the first batch alone; with `replays` those after `WARM` are of a graph."""
    take, held, graphs = Step.take, list[Sequence[Batch]](), list[Any]()

    def taken(self: Step, batches: Sequence[Batch], steps_taken: int) -> dict[str, float]:
        held.append(batches)
        if not replays:
            return take(self, held[0], steps_taken)
        if steps_taken < WARM:
            return beside(lambda: take(self, held[0], steps_taken))
        graphs.append(torch.cuda.CUDAGraph())  # and kept, with the memory of what it computes, as long as the run lasts
        for generator in generators:
            graphs[0].register_generator_state(generator)
        with torch.cuda.graph(graphs[0]):
            rates = take(self, held[0], steps_taken)
        for _ in range(replays):
            graphs[0].replay()
        return rates

    with seeded_once() as generators, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "take", taken)
        run = train(
            f"run.name={name}", f"train.device={device}", f"train.steps={steps}", "train.warmup_steps=0",
            "train.batch_size=5", 'model.train=["unet"]', "cache.text=true", "log.every_steps=100",
            "checkpoint.every_steps=0", "train.optimizer_options={fused=true, capturable=true}",
        )  # fmt: skip
    weights: Any = run.state()["weights.safetensors"]
    return {key: tensor.double() for key, tensor in weights.items()}


def beside(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """On a stream of its own, as torch asks for what is done before a capture."""
    stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        done = work()
    current.wait_stream(stream)
    return done


@contextmanager
def seeded_once() -> Iterator[list[PlaceGenerator]]:
    """The generators of a run, each seeded at its first draw and never again."""
    generators: list[PlaceGenerator] = []

    def seed(self: PlaceGenerator, value: int) -> PlaceGenerator:
        if all(one is not self for one in generators):
            generators.append(self)
            torch.Generator.manual_seed(self, len(generators))
        return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlaceGenerator, "manual_seed", seed)
        yield generators


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Between two sets of weights, as the root of the sum of squares."""
    return math.sqrt(sum(float((tensor - other[key]).square().sum()) for key, tensor in one.items()))


def test_a_skipped_step_leaves_weights_alone(train: Callable[..., Run]) -> None:
    spoil = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.SpoilLoss"\nsteps = [3, 4]\n'
    good = train("run.name=good", CUDA, "train.steps=2")
    spoilt = train("run.name=spoilt", CUDA, "train.steps=4", "log.every_steps=8", plugins=spoil)
    left, right = good.state()["weights.safetensors"], spoilt.state()["weights.safetensors"]
    assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())  # type: ignore[attr-defined,index]
