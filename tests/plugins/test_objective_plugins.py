"""Each plugin of the objective computes its paper's formula, draws from its own stream, and composes with the others."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from core.compute.noise_schedule import FlowSchedule
from core.compute.rng import PlaceStreams, draw_each
from core.families.parts.scheduler import schedule_of
from core.step.objective import Objective, compose_objective
from events import Plugin
from events.errors import PluginError
from events.testing import CosineSchedule, Harness, batch, model_context, step_parts
from plugins.debiased import Debiased, debiased_weight
from plugins.embedding_noise import EmbeddingNoise
from plugins.huber import Huber, threshold_of
from plugins.input_perturbation import InputPerturbation
from plugins.noise_offset import NoiseOffset
from plugins.pyramid_noise import PyramidNoise, coarse_levels, with_levels
from plugins.timesteps import Timesteps, resolution_shift
from plugins.zero_terminal_snr import ZeroTerminalSnr
from tests.core.plugins_for_tests import Targets
from tests.small_runs import Run
from tests.tiny_models import BETAS

torch.set_num_threads(1)
CPU = torch.device("cpu")
T = torch.tensor([0, 250, 500, 999])
BATCH = batch(torch.zeros(4, 3, 64, 64))


def objective(*plugins: Plugin, prediction: str = "epsilon", schedule: Any = None) -> Objective:
    parts = step_parts(device=CPU, prediction=prediction, schedule=schedule)
    return compose_objective(Harness(*plugins).bus, parts)


def snr(t: Tensor) -> list[float]:
    """Of the cosine schedule of `step_parts`, computed apart."""
    return [1 / math.tan(math.pi / 2 * (value + 0.5) / 1000) ** 2 for value in t.tolist()]


@pytest.mark.parametrize(
    ("prediction", "weight"),
    [("epsilon", lambda ratio: min(1000.0, ratio**-0.5)), ("v_prediction", lambda ratio: 1 / (1 + ratio))],
)
def test_debiased_weights_are_those_of_the_paper(prediction: str, weight: Callable[[float], float]) -> None:
    found = objective(Debiased(), prediction=prediction).weight(T, BATCH)
    assert found.tolist() == pytest.approx([weight(ratio) for ratio in snr(T)], rel=1e-3)


def test_debiased_weights_end_at_the_most() -> None:
    found = objective(Debiased(Debiased.Settings(most=2.0))).weight(T, BATCH)
    assert found.max() == 2
    assert debiased_weight(torch.zeros(1), "epsilon").isinf().all()


def test_debiased_knows_no_other_prediction() -> None:
    with pytest.raises(PluginError, match="not for flow"):
        Harness(Debiased()).compose("weight", lambda t, batch: t, step_parts(schedule=CosineSchedule("flow")))


@pytest.mark.parametrize("course", ["constant", "exponential", "snr"])
def test_huber_is_the_papers_formula_with_its_course(course: str) -> None:
    torch.manual_seed(0)
    prediction, target = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)
    found = objective(Huber(Huber.Settings(c=0.2, course=course))).loss(prediction, target, T, BATCH)  # type: ignore[arg-type]
    for place, (t, ratio) in enumerate(zip(T.tolist(), snr(T), strict=True)):
        c = {"constant": 0.2, "exponential": 0.2 ** (t / 1000), "snr": 0.8 / (1 + ratio**-0.5) ** 2 + 0.2}[course]
        errors = (prediction[place] - target[place]).flatten().tolist()
        expected = sum(2 * c * (math.sqrt(error**2 + c**2) - c) for error in errors) / len(errors)
        assert found[place].item() == pytest.approx(expected, rel=1e-4)


def test_a_large_threshold_makes_huber_the_squared_error() -> None:
    errors = torch.full((4, 4, 8, 8), 0.001)
    found = objective(Huber(Huber.Settings(c=1.0, course="constant"))).loss(errors, errors * 0, T, BATCH)
    assert found.tolist() == pytest.approx([1e-6] * 4, rel=0.2)
    assert threshold_of(CosineSchedule(), torch.tensor([0]), 0.1, "exponential").item() == 1


def drawn(settings: Timesteps.Settings, count: int = 40_000) -> Tensor:
    t = objective(Timesteps(settings)).timesteps(
        torch.zeros(count, 4, 1, 1), PlaceStreams(CPU, 3, "timesteps").at(0).of("")
    )
    assert t.dtype == torch.int64
    assert 0 <= t.min() <= t.max() <= 999
    return t


def test_a_range_is_kept() -> None:
    t = drawn(Timesteps.Settings(low=0.2, high=0.5))
    assert (t.min().item(), t.max().item()) == (200, 499)


@pytest.mark.parametrize(
    ("settings", "below"),
    [
        ({"kind": "logit_normal"}, lambda u: 0.5 * (1 + math.erf(math.log(u / (1 - u)) / math.sqrt(2)))),
        (
            {"kind": "logit_normal", "mean": 0.5, "deviation": 2.0},
            lambda u: 0.5 * (1 + math.erf((math.log(u / (1 - u)) - 0.5) / 2 / math.sqrt(2))),
        ),
        ({"kind": "cubic"}, lambda u: 1 - (1 - u) ** (1 / 3)),
        ({"kind": "uniform", "shift": 3.0}, lambda u: u / (3 - 2 * u)),
        ({"kind": "mode", "scale": 0.0}, lambda u: u),
    ],
)
def test_timesteps_have_the_distribution_of_the_formula(
    settings: dict[str, float], below: Callable[[float], float]
) -> None:
    t = drawn(Timesteps.Settings.model_validate(settings))
    for u in (0.1, 0.3, 0.5, 0.8):
        assert (t < 1000 * u).float().mean().item() == pytest.approx(below(u), abs=0.012)


def test_the_mode_density_has_more_in_the_middle() -> None:
    t = drawn(Timesteps.Settings(kind="mode", scale=1.29))
    middle = ((t >= 400) & (t < 600)).float().mean().item()
    ends = ((t < 100) | (t >= 900)).float().mean().item()
    assert middle > 0.3 > 0.2 > ends


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"low = 0\.6 is not below high = 0\.5"):
        Timesteps.Settings(low=0.6, high=0.5)


def test_pyramid_noise_is_the_sum_of_its_levels_at_the_deviation_of_one() -> None:
    noise = objective(PyramidNoise(PyramidNoise.Settings(discount=0.5, levels=2)))
    plain = objective().noise
    streams = PlaceStreams(CPU, 7, "noise")
    latents = torch.zeros(1, 4, 16, 16)
    found = draw_each(noise.noise, [latents] * 50, streams, [(place,) for place in range(50)])
    fine = draw_each(plain, [latents] * 50, streams, [(place,) for place in range(50)])
    assert found.std(dim=(1, 2, 3)).tolist() == pytest.approx([1.0] * 50, rel=1e-5)
    ratio = [(found[n].flatten() @ fine[n].flatten() / fine[n].flatten().norm() ** 2).item() for n in range(50)]
    assert 0.85 < sum(ratio) / 50 < 0.97  # the fine part stays, scaled down by what was added


def test_a_level_is_enlarged_and_discounted() -> None:
    noise, coarse = torch.randn(1, 4, 8, 8), [torch.ones(1, 4, 4, 4), torch.full((1, 4, 2, 2), 4.0)]
    expected = noise + 0.5 + 0.25 * 4
    torch.testing.assert_close(with_levels(noise, coarse, 0.5), expected / expected.std())
    assert with_levels(noise, coarse, 0.0) is noise


def test_levels_end_where_a_side_is_one_cell() -> None:
    levels = coarse_levels(torch.zeros(1, 4, 8, 16), 9, torch.Generator())
    assert [tuple(one.shape[2:]) for one in levels] == [(4, 8), (2, 4), (1, 2)]


def test_embedding_noise_has_the_papers_deviation() -> None:
    conditioning = objective(EmbeddingNoise(EmbeddingNoise.Settings(strength=2.0))).conditioning
    said = {"embeddings": torch.randn(1, 77, 64), "pooled": torch.randn(1, 4096), "mask": torch.ones(1, 77)}
    found = conditioning(said, PlaceStreams(CPU, 1, "conditioning").at(0).of(""))
    moved = found["embeddings"] - said["embeddings"]
    assert moved.std().item() == pytest.approx(2.0 / 8, rel=0.05)
    assert abs(moved.mean().item()) < 0.02
    assert (found["pooled"] - said["pooled"]).std().item() == pytest.approx(2.0 / 64, rel=0.1)
    assert torch.equal(found["mask"], said["mask"])


def test_the_shift_by_resolution_is_that_of_the_flux_pipeline() -> None:
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    for side in (32, 64, 128):
        tokens = side // 2 * (side // 2)
        expected = math.exp(calculate_shift(tokens, 256, 4096, 0.5, 1.15))
        assert resolution_shift((1, 16, side, side)) == pytest.approx(expected)


def test_a_flow_draws_real_timesteps_by_the_same_density() -> None:
    flow = objective(Timesteps(Timesteps.Settings(shift=3.0)), schedule=FlowSchedule()).timesteps
    t = flow(torch.zeros(40_000, 4, 1, 1), PlaceStreams(CPU, 3, "timesteps").at(0).of(""))
    assert t.dtype == torch.float32
    assert 1 <= t.min() < 2
    for u in (0.1, 0.5, 0.8):
        assert (t < 1000 * u).float().mean().item() == pytest.approx(u / (3 - 2 * u), abs=0.012)


def test_the_input_is_perturbed_by_the_papers_deviation_and_the_target_is_not() -> None:
    perturbed = objective(InputPerturbation(InputPerturbation.Settings(strength=0.2)))
    noise = torch.randn(1, 4, 64, 64)
    mixed = perturbed.input_noise(noise, PlaceStreams(CPU, 1, "input_noise").at(0).of(""))
    assert (mixed - noise).std().item() == pytest.approx(0.2, rel=0.03)
    streams, latents = PlaceStreams(CPU, 7, "noise"), [torch.zeros(1, 4, 16, 16)]
    drawn_noise = draw_each(perturbed.noise, latents, streams, [(0,)])
    assert torch.equal(drawn_noise, draw_each(objective().noise, latents, streams, [(0,)]))


def test_what_a_run_has_to_predict_is_the_noise_without_its_perturbation(train: Callable[..., Run]) -> None:
    """However strong that is."""
    Targets.seen.clear()
    plugins = '[[plugins]]\nuse = "tests.core.plugins_for_tests.Targets"\n'
    train("run.name=plain", "train.steps=1", plugins=plugins)
    plugins += '[[plugins]]\nuse = "plugins.input_perturbation.InputPerturbation"\nstrength = 100.0\n'
    train("run.name=perturbed", "train.steps=1", plugins=plugins)
    plain, perturbed = Targets.seen
    assert torch.equal(plain, perturbed)


def test_the_zero_terminal_schedule_is_the_papers_algorithm() -> None:
    from diffusers import PNDMScheduler

    own = PNDMScheduler(**BETAS, prediction_type="v_prediction", steps_offset=1)
    settled = Harness(ZeroTerminalSnr()).compose("build.scheduler", own, model_context())
    betas = [(0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * place / 999) ** 2 for place in range(1000)]
    roots, product = [], 1.0
    for beta in betas:
        product *= 1 - beta
        roots.append(product**0.5)
    first, last = roots[0], roots[-1]
    abar = torch.tensor([((root - last) * first / (first - last)) ** 2 for root in roots])
    found = schedule_of(settled).snr(torch.arange(1000))
    torch.testing.assert_close(found[:-1], abar[:-1] / (1 - abar[:-1]), rtol=2e-3, atol=1e-6)
    assert found[-1] == 0
    assert settled.config.timestep_spacing == "trailing"


def test_a_zero_terminal_schedule_needs_a_model_that_predicts_v() -> None:
    from diffusers import DDPMScheduler

    with pytest.raises(PluginError, match="needs a model that predicts v, and this one predicts epsilon"):
        Harness(ZeroTerminalSnr()).compose("build.scheduler", DDPMScheduler(), model_context())


def test_weights_by_snr_follow_the_zero_terminal_schedule(train: Callable[..., Run]) -> None:
    """v of min-SNR has no weight where there is no signal, and everything is finite."""
    plugins = "".join(
        f'[[plugins]]\nuse = "plugins.{name}"\n' for name in ("min_snr.MinSnr", "zero_terminal_snr.ZeroTerminalSnr")
    )
    run = train("train.steps=3", 'model.prediction="v_prediction"', "export.at_end=true", plugins=plugins)
    (config,) = run.folder.glob("exports/*/scheduler/scheduler_config.json")
    exported = json.loads(config.read_text())
    assert exported["rescale_betas_zero_snr"]
    assert exported["prediction_type"] == "v_prediction"


def test_they_compose_and_keep_their_own_draws() -> None:
    streams, latents = PlaceStreams(CPU, 7, "noise"), torch.zeros(1, 4, 16, 16)
    offset = NoiseOffset(NoiseOffset.Settings(strength=0.5), name="offset")
    beside = draw_each(objective(offset, PyramidNoise()).noise, [latents], streams, [(0,)])
    alone = draw_each(objective(PyramidNoise()).noise, [latents], streams, [(0,)])
    assert not torch.equal(beside, alone)
    again = draw_each(objective(offset, PyramidNoise()).noise, [latents], streams, [(0,)])
    assert torch.equal(beside, again)


def test_a_run_with_all_of_them_trains_and_shows_them_in_its_plan(
    train: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    names = ("debiased.Debiased", "huber.Huber", "timesteps.Timesteps", "pyramid_noise.PyramidNoise",
             "noise_offset.NoiseOffset", "input_perturbation.InputPerturbation", "embedding_noise.EmbeddingNoise", "masked_loss.MaskedLoss")  # fmt: skip
    run = train("train.steps=3", plugins="".join(f'[[plugins]]\nuse = "plugins.{name}"\n' for name in names))
    assert run.exit_code == 0
    for name in names:
        assert name.partition(".")[2] + "." in caplog.text
