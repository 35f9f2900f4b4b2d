"""On CUDA a step that does not log makes the host wait for nothing, with no plugin and with twenty."""

from collections.abc import Callable

import pytest
import torch

from core.step import Step
from tests.small_runs import Run

pytestmark = pytest.mark.gpu
CUDA = ("train.device=cuda", "log.every_steps=100", "checkpoint.every_steps=0", "train.steps=6")
TWENTY = "".join(
    f'\n[[plugins]]\nuse = "tests.core.plugins_for_tests.NoOp"\nname = "noop{number}"\n' for number in range(20)
)
EMA = '\n[[plugins]]\nuse = "plugins.ema.Ema"\n'


@pytest.mark.parametrize("plugins", ["", EMA, TWENTY])
def test_no_step_waits_for_the_device(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, plugins: str) -> None:
    take = Step.take

    def watched(self: Step, batches, steps_taken):  # type: ignore[no-untyped-def]
        if steps_taken < 2:  # kernels are chosen and memory is reserved in the first steps
            return take(self, batches, steps_taken)
        torch.cuda.set_sync_debug_mode("error")
        try:
            return take(self, batches, steps_taken)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Step, "take", watched)
    assert train(*CUDA, plugins=plugins).exit_code == 0


def calls_of(train: Callable[..., Run], name: str, plugins: str) -> dict[str, int]:
    """How often the host waited for a stream and how often it copied, over a whole run."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        train(f"run.name={name}", *CUDA, plugins=plugins)
    wanted = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpyAsync")
    return {event.key: event.count for event in profiler.key_averages() if event.key in wanted}


def test_twenty_plugins_add_no_wait_and_no_copy(train: Callable[..., Run]) -> None:
    calls_of(train, "warm", "")
    assert calls_of(train, "bare", "") == calls_of(train, "full", TWENTY)


def test_a_skipped_step_leaves_weights_alone(train: Callable[..., Run]) -> None:
    spoil = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.SpoilLoss"\nsteps = [3, 4]\n'
    good = train("run.name=good", "train.device=cuda", "train.steps=2")
    spoilt = train("run.name=spoilt", "train.device=cuda", "train.steps=4", "log.every_steps=8", plugins=spoil)
    left, right = good.state()["weights.safetensors"], spoilt.state()["weights.safetensors"]
    assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())  # type: ignore[attr-defined,index]
