"""The step weighs each image once, and never lets a bad number touch a weight; that it is closed is in test_closed_step.py."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.errors import NonFiniteError
from core.step.closed import Step
from core.step.update import PlainUpdate
from events.errors import PluginError
from tests.small_runs import Run, assert_same_state

HERE = "tests.core.plugins_for_tests"


def plugin(kind: str, **settings: object) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    return f'\n[[plugins]]\nuse = "{HERE}.{kind}"\n{lines}'


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.state()["weights.safetensors"]  # type: ignore[return-value]


def test_two_rounds_weigh_each_image_as_one_large_batch_does(train: Callable[..., Run]) -> None:
    """Ten pictures in batches of 4 make rounds of 4, 4 and 2; one batch of 10 has the same images in one epoch."""
    sgd = (
        "train.optimizer=torch.optim.SGD",
        "train.clip_norm=0",
        "train.learning_rate=0.1",
        "train.steps=1",
        "train.warmup_steps=0",
    )
    one = train("run.name=one", "train.batch_size=10", *sgd)
    three = train("run.name=three", "train.batch_size=4", "train.accumulate=3", *sgd)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(three)[name], tensor, rtol=0, atol=2e-6)


def test_clipping_and_its_reported_norm_see_every_trained_tensor(train: Callable[..., Run]) -> None:
    seen: list[float] = []
    original = PlainUpdate._clip

    def clip(self: PlainUpdate) -> torch.Tensor:
        squares = [one.grad.double().square().sum() for one in self._parameters if one.grad is not None]
        assert len(squares) == len(self._parameters)
        seen.append(float(torch.stack(squares).sum().sqrt()))
        return original(self)

    PlainUpdate._clip = clip  # type: ignore[method-assign]  # looks at the gradients before they are clipped
    try:
        run = train(
            "train.steps=4",
            "log.every_steps=1",
            "train.clip_norm=0.5",
            plugins='\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n',
        )
    finally:
        PlainUpdate._clip = original  # type: ignore[method-assign]
    told = [json.loads(line)["values"]["grad_norm"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert told == pytest.approx(seen, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["torch.optim.AdamW", "torch.optim.RAdam"])
def test_a_step_that_is_not_finite_leaves_weights_and_optimizer_alone(
    train: Callable[..., Run], optimizer: str
) -> None:
    """Steps 3 and 4 are spoilt at the end, so the run has to end where it was after step 2."""
    fused = f"train.optimizer={optimizer}"
    good = train("run.name=good", "train.steps=2", fused)
    spoilt = train(
        "run.name=spoilt", "train.steps=4", fused, "log.every_steps=8", plugins=plugin("SpoilLoss", steps=[3, 4])
    )
    for name, tensor in weights(good).items():
        assert torch.equal(weights(spoilt)[name], tensor), name
    optimizers = good.state()["optimizer.safetensors"], spoilt.state()["optimizer.safetensors"]
    for name, tensor in optimizers[0].items():  # type: ignore[attr-defined]
        assert torch.equal(optimizers[1][name], tensor), name  # type: ignore[index]


def test_skipped_steps_are_named_with_their_files(train: Callable[..., Run], caplog: pytest.LogCaptureFixture) -> None:
    train("train.steps=4", "log.every_steps=1", plugins=plugin("SpoilLoss", steps=[2]))
    said = [record.getMessage() for record in caplog.records if "was skipped" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("step 2 was skipped")
    assert ".png" in said[0]


def test_too_many_in_a_row_end_the_run_with_the_last_checkpoint_standing(
    train: Callable[..., Run], tmp_path: Path
) -> None:
    with pytest.raises(NonFiniteError, match=r"in a row up to step") as caught:
        train("log.every_steps=1", "train.max_skipped=2", plugins=plugin("SpoilLoss", steps=[3, 4, 5, 6, 7]))
    assert caught.value.exit_code == 5
    assert sorted(path.name for path in (tmp_path / "runs/test/checkpoints").iterdir())[-1] == "step-00000004"
    run = Run(folder=tmp_path / "runs/test", exit_code=5)
    assert all(bool(tensor.isfinite().all()) for tensor in weights(run).values())


def test_stop_ends_at_the_first(train: Callable[..., Run]) -> None:
    with pytest.raises(NonFiniteError, match="step 3"):
        train("log.every_steps=1", "train.on_nonfinite=stop", plugins=plugin("SpoilLoss", steps=[3]))


def test_a_plugins_draws_do_not_move_the_trainers_own(train: Callable[..., Run]) -> None:
    """With the extra noise taken away again, what is left is the noise of a run without the plugin."""
    from core.compute.rng import PlaceStreams, draw_each
    from core.step.objective import gaussian_noise
    from events.catalogue import own_generator
    from tests.core.plugins_for_tests import ExtraNoise

    streams = PlaceStreams(torch.device("cpu"), 7, "noise")
    places = [(0, "a.png", 0), (0, "b.png", 0)]
    latents = [torch.zeros(1, 4, 2, 2)] * 2
    core = own_generator(gaussian_noise, "")
    alone = draw_each(core, latents, streams, places)
    more = own_generator(ExtraNoise().add(core, None), "extra")  # type: ignore[arg-type]
    own = draw_each(own_generator(gaussian_noise, "extra"), latents, streams, places)
    torch.testing.assert_close(draw_each(more, latents, streams, places), alone + 0.1 * own)
    assert not torch.equal(alone[0], alone[1])


def test_a_samples_noise_does_not_depend_on_its_neighbours() -> None:
    from core.compute.rng import PlaceStreams, draw_each
    from core.step.objective import gaussian_noise
    from events.catalogue import own_generator

    streams = PlaceStreams(torch.device("cpu"), 7, "noise")
    core, zero = own_generator(gaussian_noise, ""), torch.zeros(1, 4, 2, 2)
    pair = draw_each(core, [zero, zero], streams, [(0, "a.png", 0), (0, "b.png", 0)])
    alone = draw_each(core, [zero], streams, [(0, "b.png", 0)])
    assert torch.equal(pair[1:], alone)


def test_torchs_global_randomness_is_neither_read_nor_moved(train: Callable[..., Run]) -> None:
    torch.manual_seed(1)
    one = train("run.name=one", "train.steps=2", "preview.at_end=true")
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = train("run.name=two", "train.steps=2", "preview.at_end=true")
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_state(one, two)


def test_bf16_trains_and_keeps_float32_weights(train: Callable[..., Run]) -> None:
    run = train("train.steps=2", "train.precision=bf16")
    assert {tensor.dtype for tensor in weights(run).values() if tensor.is_floating_point()} == {torch.float32}


def test_learning_rates_follow_the_step_and_not_the_round(train: Callable[..., Run]) -> None:
    from core.config.tables import TrainTable
    from core.step.learning_rate import learning_rate_factor

    table = TrainTable(steps=100, warmup_steps=10, schedule="linear", decay_from=0.5, final_factor=0.1)
    factor = learning_rate_factor(table)
    assert [factor(0), factor(4), factor(9), factor(10), factor(50)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0])
    assert factor(99) == pytest.approx(0.1)
    assert factor(50 + 49 / 2) == pytest.approx(0.55)  # type: ignore[arg-type]
    cosine = learning_rate_factor(TrainTable(steps=101, schedule="cosine"))
    assert cosine(50) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


def test_a_failing_handler_saves_what_was_trained(train: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"Failing.*plugins_for_tests\.py:\d+.*step\.end.*step 3.*out of cheese"):
        train(plugins=plugin("Failing"))
    assert (tmp_path / "runs/test/checkpoints/step-00000003").is_dir()


def test_noise_and_timesteps_are_drawn_anew_in_each_step(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture, trained four times: what is added to it differs each time."""
    seen: list[torch.Tensor] = []
    original = Step._losses

    def losses(self: Step, noisy, t, embeddings, target, batch):  # type: ignore[no-untyped-def]
        seen.append(torch.cat([noisy.flatten(), t.float()]).detach().clone())
        return original(self, noisy, t, embeddings, target, batch)

    monkeypatch.setattr(Step, "_losses", losses)
    only = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.OnlyFirst"\n'
    train("train.steps=4", "train.batch_size=1", plugins=only)
    assert len(seen) == 4
    assert all(not torch.equal(seen[0], other) for other in seen[1:])


def test_rates_reach_the_optimizer(train: Callable[..., Run]) -> None:
    """With warm-up over four steps the first step's rate is a quarter of the peak, for each group its own."""
    run = train(
        "train.steps=1", "train.warmup_steps=4", "train.learning_rate=1e-3", "train.text_encoder_learning_rate=4e-4"
    )
    groups = run.state()["state"]["optimizer"]["groups"]  # type: ignore[index]
    assert [(group["name"], group["lr"]) for group in groups] == [("unet", 2.5e-4), ("text_encoder", 1e-4)]
