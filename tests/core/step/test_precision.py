"""The forward pass may be of half precision, laid out or recomputed otherwise, while weights stay float32 and steps whole."""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from core.compute.device import set_tf32
from core.errors import NonFiniteError
from core.families.parts.encoding import encode_pictures
from core.step.closed import Rounds, Step
from core.step.gradient_scale import GradientScale
from tests.core.watching_steps import Recorder
from tests.small_runs import Run, assert_same_state

HERE = "tests.core.plugins_for_precision"
FP16 = ("train.precision=fp16", "train.batch_size=5")
METRICS = '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'
WATCH = f'\n[[plugins]]\nuse = "{HERE}.Watch"\n'


def amplify(*steps: int, factor: float = 1e4) -> str:
    return f'\n[[plugins]]\nuse = "{HERE}.Amplify"\nsteps = {list(steps)}\nfactor = {factor}\n'


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.state()["weights.safetensors"]  # type: ignore[return-value]


def scale_of(run: Run) -> float:
    return float(run.state()["optimizer.safetensors"]["step/gradient_scale/scale"])  # type: ignore[index]


def metrics(run: Run) -> list[dict[str, float]]:
    return [json.loads(line)["values"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def watched(run: Run) -> Any:
    assert run.bus is not None
    return run.bus.plugins["Watch"]


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_forward_and_previews_are_of_half_precision_and_the_loss_is_close(
    train: Callable[..., Run], precision: str, dtype: torch.dtype
) -> None:
    settings = ("train.steps=2", "train.batch_size=5", "log.every_steps=1")
    whole = train("run.name=whole", *settings, plugins=METRICS)
    half = train(*settings, f"train.precision={precision}", "preview.at_end=true", plugins=METRICS + WATCH)
    assert {seen for seen, _ in watched(half).seen} == {dtype}
    assert {tensor.dtype for tensor in weights(half).values() if tensor.is_floating_point()} == {torch.float32}
    for one, other in zip(metrics(half), metrics(whole), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.05)


def test_modules_that_are_not_trained_compute_in_half_precision_too(train: Callable[..., Run]) -> None:
    run = train("train.steps=1", 'model.train=["text_encoder"]', *FP16, plugins=WATCH)
    assert {seen for seen, _ in watched(run).seen} == {torch.float16}


def test_fp16_learns(train: Callable[..., Run]) -> None:
    """The mean loss of the last six steps is below that of the first six."""
    run = train(
        "train.steps=18", "train.learning_rate=1e-2", "checkpoint.every_steps=0", "log.every_steps=6", *FP16,
        plugins=METRICS,
    )  # fmt: skip
    losses = [one["loss"] for one in metrics(run)]
    assert losses[-1] < 0.95 * losses[0]
    assert all(one["skipped"] == 0 for one in metrics(run))


def test_an_overflow_halves_the_scale_and_is_no_fault(train: Callable[..., Run]) -> None:
    """Even where the first step that is not finite would end the run. Its norm is in no report."""
    good = train("run.name=good", "train.steps=2", *FP16)
    run = train("train.steps=3", "train.on_nonfinite=stop", "log.every_steps=1", *FP16, plugins=METRICS + amplify(3))
    assert scale_of(good) == 2.0**16
    assert scale_of(run) == 2.0**15
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(good).items())
    assert [one["skipped"] for one in metrics(run)] == [0, 0, 1]
    assert all(math.isfinite(metrics(run)[step]["grad_norm"]) for step in (0, 1))


def test_a_loss_that_is_not_finite_is_a_fault_all_the_same(train: Callable[..., Run]) -> None:
    spoil = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.SpoilLoss"\nsteps = [2]\n'
    with pytest.raises(NonFiniteError, match="step 2"):
        train("train.steps=4", "train.on_nonfinite=stop", "log.every_steps=1", *FP16, plugins=spoil)


def test_an_overflow_that_no_scale_mends_is_a_fault_in_the_end(train: Callable[..., Run]) -> None:
    """From 65536 the scale is halved 16 times without a word; what is bad at 1 and below is told."""
    with pytest.raises(NonFiniteError, match=r"5 step\(s\) in a row up to step 21 "):
        train(
            "train.steps=30", "log.every_steps=1", "checkpoint.every_steps=0", *FP16,
            plugins=amplify(*range(1, 31), factor=1e30),
        )  # fmt: skip


def test_a_run_that_scales_gradients_is_resumed_bit_for_bit(train: Callable[..., Run]) -> None:
    whole = train("run.name=whole", "train.steps=5", *FP16, plugins=amplify(2))
    train("train.steps=3", *FP16, plugins=amplify(2))
    resumed = train("train.steps=5", *FP16, plugins=amplify(2))
    assert_same_state(resumed, whole)
    assert scale_of(resumed) == 2.0**15


def test_scaling_reads_no_number_from_the_device(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    take, names = Step.take, list[str]()

    def recorded(self: Step, batches, steps_taken):  # type: ignore[no-untyped-def]
        with Recorder() as recorder:
            rates = take(self, batches, steps_taken)
        names.extend(recorder.names)
        return rates

    monkeypatch.setattr(Step, "take", recorded)
    train("train.steps=2", *FP16)
    assert len(names) > 500
    assert not [name for name in names if "_local_scalar_dense" in name or "is_nonzero" in name]


def test_the_scale_goes_as_torchs_own_scaler_takes_it() -> None:
    """2100 steps with overflows here and there, so that it grows once as well."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    theirs, ours = torch.amp.GradScaler("cpu"), GradientScale(torch.device("cpu"))
    theirs.scale(torch.zeros(()))  # they make their state with the first loss
    for step in range(2100):
        bad = step in (0, 1, 5, 2070)
        weight.grad = torch.tensor([math.inf if bad else 1.0])
        theirs.unscale_(optimizer)
        theirs.update()
        ours.update(torch.ones(()), torch.tensor(bad))
        assert float(ours.state()["scale"]) == theirs.get_scale(), step
    assert theirs.get_scale() == 2.0**13


def test_unscaled_gradients_are_those_of_the_loss_as_it_is() -> None:
    scale, weight = GradientScale(torch.device("cpu")), torch.nn.Parameter(torch.tensor([0.3, -0.7]))
    scale.scale(weight.square().sum()).backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, 2**17 * weight.detach())
    scale.unscale([weight.grad])
    assert torch.equal(weight.grad, 2 * weight.detach())


def test_recomputed_activations_give_the_same_bits(train: Callable[..., Run]) -> None:
    plain = train("run.name=plain", "train.steps=2", plugins=WATCH)
    recomputed = train("train.steps=2", "train.gradient_checkpointing=true", plugins=WATCH)
    assert len(watched(recomputed).seen) > len(watched(plain).seen)
    assert_same_state(recomputed, plain)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's tracer
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")  # diffusers' own
def test_all_of_it_compiles_whole(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, but for speed not compiled: what the tracer hands over runs as it is."""
    settings = (*FP16, "train.channels_last=true")
    plain = train("run.name=plain", "train.steps=2", *settings)
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend="eager", **options))
    compiled = train("train.steps=2", "train.compile=true", *settings)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(compiled)[name], tensor, rtol=1e-3, atol=1e-3)


def test_channels_last_lays_out_weights_and_activations_and_comes_out_close(train: Callable[..., Run]) -> None:
    plain = train("run.name=plain", "train.steps=2", plugins=WATCH)
    last = train("train.steps=2", "train.channels_last=true", "export.at_end=true", plugins=WATCH)
    assert not all(watched(plain).weights.values())
    assert all(watched(last).weights.values())
    assert all(is_last for _, is_last in watched(last).seen)
    assert all(watched(last).entering)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(last)[name], tensor, rtol=1e-3, atol=1e-3)


def test_the_vae_has_its_channels_innermost_and_latents_lie_as_any_tensor(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernels are faster so, and caches and other modules take what they know."""
    layouts: set[bool] = set()
    take = Step.take

    def look(self: Step, rounds: Rounds, steps_taken: int) -> dict[str, float]:
        vae = self._family.modules["vae"]
        layouts.update(
            one.is_contiguous(memory_format=torch.channels_last) for one in vae.parameters() if one.ndim == 4
        )
        pixels = rounds.batches[0].pixels
        assert pixels is not None
        assert all(part.is_contiguous() for part in encode_pictures(self._family, pixels))
        return take(self, rounds, steps_taken)

    monkeypatch.setattr(Step, "take", look)
    train("train.steps=1")
    assert layouts == {True}


def test_channels_last_is_resumed_bit_for_bit(train: Callable[..., Run]) -> None:
    """Moments come back from a checkpoint in the layout of their weights, as fused kernels expect them."""
    plugins = '\n[[plugins]]\nuse = "plugins.ema.Ema"\n'
    whole = train("run.name=whole", "train.steps=4", "train.channels_last=true", plugins=plugins)
    train("train.steps=2", "train.channels_last=true", plugins=plugins)
    assert_same_state(train("train.steps=4", "train.channels_last=true", plugins=plugins), whole)


@pytest.fixture
def tf32_as_before() -> Iterator[None]:
    matmul, conv = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = conv


@pytest.mark.usefixtures("tf32_as_before")
@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_set_for_products_and_convolutions_in_torchs_older_and_newer_view(allowed: bool) -> None:
    set_tf32(allowed=allowed)
    assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest")
    assert torch.backends.cuda.matmul.allow_tf32 is allowed
    assert torch.backends.cudnn.allow_tf32 is allowed
    assert torch.backends.cuda.matmul.fp32_precision == ("tf32" if allowed else "ieee")


def test_on_the_cpu_tf32_is_left_alone(train: Callable[..., Run]) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    train("train.steps=1", "train.tf32=true")
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_on_cuda_no_step_of_half_precision_waits_for_the_device(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    take = Step.take

    def watched(self: Step, batches, steps_taken):  # type: ignore[no-untyped-def]
        torch.cuda.set_sync_debug_mode("error" if steps_taken >= 2 else "default")
        try:
            return take(self, batches, steps_taken)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Step, "take", watched)
    quiet = ("train.device=cuda", "log.every_steps=100", "checkpoint.every_steps=0", "train.steps=6")
    assert train(*quiet, f"train.precision={precision}", "train.channels_last=true").exit_code == 0
