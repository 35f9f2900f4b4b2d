"""Ema keeps the exponential mean of the trained weights, there or on the host, lends it to previews and exports, and resumes it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import plugins.ema
from core.resuming.packing import pack, unpack
from events import Plugin, on
from events.errors import PluginError
from events.payloads import ParameterGroup, PreviewEnd
from events.testing import (
    Harness,
    checkpoint_start,
    export_end,
    export_start,
    model_ready,
    preview_end,
    preview_start,
)
from plugins.ema import Ema
from tests.small_runs import assert_same_state

torch.set_num_threads(1)
Weights = dict[str, torch.Tensor]


class Run:
    """A tiny model in training, with a fused AdamW that can skip a step on the device."""

    def __init__(self, *others: Plugin, **settings: Any) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        self.optimizer: Any = torch.optim.AdamW(self.model.parameters(), lr=0.1, fused=True)
        self.ema = Ema(Ema.Settings(**settings))
        self.harness = Harness(self.ema, *others)
        parameters = {f"unet.{name}": parameter for name, parameter in self.model.named_parameters()}
        group = ParameterGroup(name="unet", parameters=parameters, learning_rate=0.1, weight_decay=0.0)
        self.harness.emit("model.ready", model_ready({"unet": self.model}, optimizer=self.optimizer, groups=(group,)))

    def step(self, *, is_bad: bool = False) -> None:
        self.model(torch.randn(8, 3)).square().mean().backward()
        self.optimizer.found_inf = torch.tensor(float(is_bad))
        self.optimizer.step()
        self.optimizer.zero_grad()

    def weights(self) -> Weights:
        return {f"unet.{name}": tensor.clone() for name, tensor in self.model.state_dict().items()}

    def means(self) -> Weights:
        return {name: mean.clone() for name, mean in self.ema.state_dict()["means"].items()}


def are_equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("decay", [0.9999, 0.15, 0.0])
def test_the_mean_is_that_of_the_formula_and_a_skipped_step_counts_for_nothing(decay: float) -> None:
    run = Run(decay=decay)
    expected = {name: weight.double().numpy() for name, weight in run.weights().items()}
    updates = 0
    for step in (1, 2, 3, 4, 5):
        before = run.weights()
        run.step(is_bad=step == 3)
        assert are_equal(before, run.weights()) is (step == 3)
        if step != 3:
            d = min(decay, (1 + updates) / (10 + updates))
            for name, weight in run.weights().items():
                expected[name] = d * expected[name] + (1 - d) * weight.double().numpy()
            updates += 1
        for name, mean in run.means().items():
            numpy.testing.assert_allclose(mean.numpy(), expected[name], rtol=1e-5, atol=1e-6)
    assert run.ema.state_dict()["updates"] == 4


def test_the_mean_is_the_same_however_the_weights_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = Run(), None
    monkeypatch.setattr(plugins.ema, "GROUP_ELEMENTS", 9)  # the largest of the four weights has 12 elements
    cut = Run()
    for run in (whole, cut):
        torch.manual_seed(1)
        for _ in range(3):
            run.step()
    assert are_equal(whole.means(), cut.means())
    assert not are_equal(whole.means(), whole.weights())


def test_previews_have_the_mean_and_training_gets_its_weights_back_bit_for_bit() -> None:
    run = Run()
    for _ in range(3):
        run.step()
    weights, means = run.weights(), run.means()
    run.harness.emit("preview.start", preview_start())
    assert are_equal(run.weights(), means)
    run.harness.emit("preview.end", preview_end())
    assert are_equal(run.weights(), weights)
    assert are_equal(run.means(), means)


def test_a_second_start_does_not_swap_back() -> None:
    run = Run()
    run.step()
    means = run.means()
    for _ in range(2):
        run.harness.emit("preview.start", preview_start())
    assert are_equal(run.weights(), means)


def test_a_round_without_a_start_changes_nothing() -> None:
    run = Run()
    run.step()
    weights = run.weights()
    run.harness.emit("preview.end", preview_end())
    assert are_equal(run.weights(), weights)


def test_a_checkpoint_after_a_failed_preview_has_the_trained_weights() -> None:
    class Failing(Plugin):
        @on("preview.end", priority=20)
        def fail(self, event: PreviewEnd) -> None:
            raise RuntimeError("oh")

    run = Run(Failing())
    run.step()
    weights, means = run.weights(), run.means()
    run.harness.emit("preview.start", preview_start())
    with pytest.raises(PluginError):
        run.harness.emit("preview.end", preview_end())
    run.harness.emit("checkpoint.start", checkpoint_start())
    assert are_equal(run.weights(), weights)
    assert are_equal(run.means(), means)


def test_what_is_exported_is_the_mean() -> None:
    run = Run()
    run.step()
    weights, means = run.weights(), run.means()
    run.harness.emit("export.start", export_start())
    assert are_equal(run.weights(), means)
    run.harness.emit("export.end", export_end())
    assert are_equal(run.weights(), weights)


@pytest.mark.parametrize("every_steps", [1, 2])
def test_on_the_host_the_mean_is_the_same_bit_for_bit(every_steps: int) -> None:
    beside, host = Run(every_steps=every_steps), Run(every_steps=every_steps, device="cpu")
    for run in (beside, host):
        torch.manual_seed(1)
        for step in range(5):
            run.step(is_bad=step == 3)
    assert are_equal(host.means(), beside.means())
    assert torch.equal(host.ema.state_dict()["updates"], beside.ema.state_dict()["updates"])


def test_on_the_host_an_update_is_taken_in_at_the_next_or_when_the_mean_is_used() -> None:
    run = Run(device="cpu")
    begun = {name: mean.clone() for name, mean in run.ema._means.items()}
    run.step()
    assert are_equal(run.ema._means, begun)
    run.step()
    assert not are_equal(run.ema._means, begun)
    assert int(run.ema._updates) == 1  # type: ignore[arg-type]
    run.harness.emit("preview.start", preview_start())
    assert int(run.ema._updates) == 2  # type: ignore[arg-type]


def test_every_second_step_leaves_the_others_out() -> None:
    run = Run(every_steps=2)
    begun = run.means()
    run.step()
    assert are_equal(run.means(), begun)
    run.step()
    assert int(run.ema.state_dict()["updates"]) == 1
    for name, weight in run.weights().items():
        torch.testing.assert_close(run.means()[name], 0.1 * begun[name] + 0.9 * weight)


def test_an_optimizer_that_knows_no_skipping_counts_every_step() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer, ema = torch.optim.SGD([weight], lr=0.1, foreach=True), Ema(Ema.Settings(device="cpu"))
    group = ParameterGroup(name="unet", parameters={"unet.w": weight}, learning_rate=0.1, weight_decay=0.0)
    Harness(ema).emit("model.ready", model_ready(optimizer=optimizer, groups=(group,)))
    weight.grad = torch.ones(2)
    optimizer.step()
    assert int(ema.state_dict()["updates"]) == 1
    torch.testing.assert_close(ema.state_dict()["means"]["unet.w"], torch.full((2,), 0.1 * 1 + 0.9 * 0.9))


@pytest.mark.parametrize("settings", [{}, {"device": "cpu"}, {"every_steps": 2}, {"device": "cpu", "every_steps": 2}])
def test_a_resumed_mean_goes_on_as_the_unbroken_one(settings: dict[str, Any]) -> None:
    whole, first, second = Run(**settings), Run(**settings), Run(**settings)
    torch.manual_seed(1)
    inputs = [torch.get_rng_state()]
    for _ in range(4):
        whole.step()
        inputs.append(torch.get_rng_state())
    torch.set_rng_state(inputs[0])
    for _ in range(3):
        first.step()
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.ema.load_state_dict(unpack(*pack(first.ema.state_dict(), "ema")))
    torch.set_rng_state(inputs[3])
    second.step()
    assert are_equal(second.means(), whole.means())
    assert second.ema.state_dict()["updates"] == 4 // settings.get("every_steps", 1)


@pytest.mark.parametrize("settings", ['device = "cpu"', 'device = "cpu"\nevery_steps = 2'])
def test_a_real_run_keeps_the_same_mean_on_the_host_also_when_resumed(train: Callable[..., Any], settings: str) -> None:
    """Previews and an export use the mean on the way."""
    plugins = f'\n[[plugins]]\nuse = "plugins.ema.Ema"\n{settings}\n'
    beside = plugins.replace('device = "cpu"', "")
    used = ("train.steps=4", "preview.every_steps=3", "export.every_steps=3")
    whole = train("run.name=whole", *used, plugins=beside)
    train(*used, "train.steps=2", plugins=plugins)
    assert_same_state(train(*used, plugins=plugins), whole)


def test_updating_and_swapping_read_nothing_from_the_device() -> None:
    run = Run()
    run.step()
    with operators() as called:
        run.ema._update(run.optimizer)
        run.harness.emit("preview.start", preview_start())
        run.harness.emit("preview.end", preview_end())
    assert called
    assert not called & {"_local_scalar_dense", "item", "is_nonzero", "_to_copy", "equal", "nonzero"}


@contextmanager
def operators() -> Iterator[set[str]]:
    """The names of the ATen operators that run within."""
    called: set[str] = set()

    class Listen(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.add(function.__name__.split(".")[0])
            return function(*args, **(kwargs or {}))

    with Listen():
        yield called


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature:UserWarning")
@pytest.mark.parametrize("place", ["same", "cpu"])
def test_an_update_on_cuda_waits_for_nothing(place: Literal["same", "cpu"]) -> None:
    torch.cuda.init()
    weight = torch.nn.Parameter(torch.ones(8, 8, device="cuda"))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    ema = Ema(Ema.Settings(device=place))
    group = ParameterGroup(name="unet", parameters={"unet.w": weight}, learning_rate=0.1, weight_decay=0.0)
    Harness(ema).emit("model.ready", model_ready(optimizer=optimizer, groups=(group,)))
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert float(ema.state_dict()["updates"]) == 2
