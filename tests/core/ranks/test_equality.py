"""Processes that share a step train as one process does that takes as many rounds: to the last bit where two are added,
and within a bound where the order of a longer sum differs."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.families import float_state, load_family
from run import load
from tests.core.ranks.conftest import NewRoom
from tests.core.ranks.launching import train_here, train_in_processes
from tests.small_runs import Run, assert_same, reports

LORA = """
[[plugins]]
use = "plugins.lora.Lora"
rank = 2
[[plugins]]
use = "plugins.captions.ShuffleTags"
"""
QUICK = '[[plugins]]\nuse = "tests.core.ranks.plugins_for_equality.CompileQuickly"\n'
EVEN = """
[[plugins]]
use = "tests.core.ranks.plugins_for_equality.LossOfOne"
[[plugins]]
use = "plugins.metrics_file.MetricsFile"
"""
BOUND = 5e-4
"""Of the way that weights have moved. Measured: 4.0e-5 for three processes and 4.7e-5 for two of two rounds, after seven
steps. A sum of three or more float32 gradients is rounded otherwise in another order, by about 1e-7 of it, and Adam makes
steps of full length also of gradients that nearly cancel."""


def test_two_processes_train_as_one_that_takes_two_rounds(alone: Run, together: Run) -> None:
    """Whatever may draw does: captions, pixels, noise, embeddings and dropout; a text encoder is trained and averaged."""
    assert together.exit_code == 0, together.output
    assert_equal(together, alone)


def test_accelerate_starts_the_same_run_as_the_option_does(drawing_room: Path, together: Run) -> None:
    launched = train_in_processes(drawing_room, "run.name=launched", "data.workers=1", by_accelerate=True)
    assert launched.exit_code == 0, launched.output
    assert_equal(launched, together)


def test_in_bfloat16_with_adapters_recomputed_activations_and_filled_batches(new_room: NewRoom) -> None:
    room = new_room("adapters", LORA)
    settings = (
        "train.precision=bf16", "train.gradient_checkpointing=true", "data.short_batches=fill", "train.steps=5",
    )  # fmt: skip
    two = train_in_processes(room, "run.name=two", *settings)
    assert two.exit_code == 0, two.output
    assert_equal(two, train_here(room, "run.name=one", "train.accumulate=2", *settings))


def test_in_float16_gradients_are_scaled_as_by_one_process(new_room: NewRoom) -> None:
    """Also where they overflow, which halves the scale and leaves the step out; and where nobody names the CPU."""
    room = new_room("float16")
    settings = ("train.precision=fp16", "train.steps=5")
    without_a_gpu = {"CUDA_VISIBLE_DEVICES": ""}
    two = train_in_processes(room, "run.name=two", "train.device=auto", *settings, environment=without_a_gpu)
    assert two.exit_code == 0, two.output
    assert_equal(two, train_here(room, "run.name=one", "train.accumulate=2", *settings))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own, as it traces
@pytest.mark.long
def test_a_compiled_step_is_whole_and_the_same(new_room: NewRoom) -> None:
    room = new_room("compiled", QUICK)
    settings = ("train.compile=true", "train.steps=2")
    two = train_in_processes(room, "run.name=two", *settings)
    assert two.exit_code == 0, two.output
    assert_equal(two, train_here(room, "run.name=one", "train.accumulate=2", *settings))


@pytest.fixture(scope="module")
def even_room(new_room: NewRoom) -> Path:
    return new_room("even", EVEN)


@pytest.fixture(scope="module")
def three(even_room: Path) -> Run:
    """Seven steps of three processes: each picture of an epoch in one step, 4, 4 and 2 to a process."""
    run = train_in_processes(even_room, "run.name=three", count=3)
    assert run.exit_code == 0, run.output
    return run


def test_three_processes_differ_by_the_order_of_a_sum_of_three(even_room: Path, three: Run) -> None:
    one = train_here(even_room, "run.name=one", "train.accumulate=3")
    assert 0 <= deviation(three, one, even_room) < BOUND


def test_two_processes_of_two_rounds_differ_by_the_order_of_a_sum_of_four(even_room: Path) -> None:
    settings = ("train.batch_size=3", "train.steps=5")  # four batches an epoch, and so one step
    two = train_in_processes(even_room, "run.name=two-by-two", "train.accumulate=2", *settings)
    assert two.exit_code == 0, two.output
    one = train_here(even_room, "run.name=one-by-four", "train.accumulate=4", *settings)
    assert 0 <= deviation(two, one, even_room) < BOUND


@pytest.mark.long
def test_three_processes_that_are_stopped_and_go_on_add_in_the_order_of_those_that_were_not(
    even_room: Path, three: Run
) -> None:
    train_in_processes(even_room, "run.name=resumed", "train.steps=3", count=3)
    resumed = train_in_processes(even_room, "run.name=resumed", count=3)
    assert resumed.exit_code == 0, resumed.output
    assert_equal(resumed, three)


def test_every_image_has_the_same_share_in_a_loss_also_where_one_rank_has_fewer(three: Run) -> None:
    """Each image's loss is 1 here, and ranks have 4, 4 and 2 of them."""
    losses = [line["values"]["loss"] for line in reports(three.folder)]
    assert losses == pytest.approx([1.0] * 4, abs=1e-6)


def assert_equal(several: Run, one: Run) -> None:
    """Weights, optimizer, plugin state and position; but for how many took part, and which numbers were told already."""
    left, right = several.state(), one.state()
    for whole in (left, right):
        state: Any = whole["state"]
        for key in ("processes", "plan", "metrics"):
            del state[key]
    assert_same(left, right)


def deviation(several: Run, one: Run, config: Path) -> float:
    """How far apart the weights of two runs are, over how far those of the second have moved; both Euclidean norms."""
    table = load(config, []).model
    family = load_family(table, seed=0)
    left, right = (weights(run) for run in (several, one))
    begun = {
        f"{name}.{path}": tensor
        for name in table.train
        for path, tensor in float_state(family.modules[name], torch.float32).items()
    }
    return distance(left, right) / distance(right, begun)


def weights(run: Run) -> dict[str, Tensor]:
    found: Any = run.state()["weights.safetensors"]
    return dict(found)


def distance(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float((left[name].double() - right[name].double()).square().sum()) for name in left))
