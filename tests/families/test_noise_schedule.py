"""DiscreteSchedule mixes signal and noise by the formulas of Ho et al. 2020 and Salimans and Ho 2022."""

from typing import Any

import numpy as np
import pytest
import torch

from core.compute.noise_schedule import DiscreteSchedule, FlowSchedule
from tests.tiny_models import BETAS

T = torch.tensor([0, 1, 499, 998, 999])


def betas() -> Any:
    """Scaled linear, in double precision."""
    return np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2


def schedule(prediction: Any = "epsilon") -> DiscreteSchedule:
    from diffusers import PNDMScheduler

    from core.families.parts.scheduler import schedule_of as noise_schedule

    return noise_schedule(PNDMScheduler(**BETAS, prediction_type=prediction))


def draws() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 4, 3, 2, generator=generator), torch.randn(5, 4, 3, 2, generator=generator)


def test_abar_is_the_product_of_one_minus_beta() -> None:
    np.testing.assert_allclose(schedule().abar.numpy(), np.cumprod(1 - betas()), rtol=1e-4)


def test_snr_is_the_ratio_of_signal_to_noise_power() -> None:
    abar = np.cumprod(1 - betas())[T.numpy()]
    np.testing.assert_allclose(schedule().snr(T).numpy(), abar / (1 - abar), rtol=1e-4)


def test_noise_is_added_by_the_square_roots() -> None:
    latents, noise = draws()
    abar = np.cumprod(1 - betas())[T.numpy()].reshape(5, 1, 1, 1)
    expected = np.sqrt(abar) * latents.numpy() + np.sqrt(1 - abar) * noise.numpy()
    np.testing.assert_allclose(schedule().add_noise(latents, noise, T).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_epsilon_asks_for_the_noise_and_sample_for_the_latents() -> None:
    latents, noise = draws()
    assert schedule("epsilon").target(latents, noise, T) is noise
    assert schedule("sample").target(latents, noise, T) is latents


def test_v_asks_for_the_velocity() -> None:
    latents, noise = draws()
    abar = np.cumprod(1 - betas())[T.numpy()].reshape(5, 1, 1, 1)
    expected = np.sqrt(abar) * noise.numpy() - np.sqrt(1 - abar) * latents.numpy()
    target = schedule("v_prediction").target(latents, noise, T)
    np.testing.assert_allclose(target.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_it_agrees_with_the_scheduler_of_diffusers() -> None:
    from diffusers import DDPMScheduler

    latents, noise = draws()
    reference = DDPMScheduler(**BETAS, prediction_type="v_prediction")
    ours = schedule("v_prediction")
    torch.testing.assert_close(ours.add_noise(latents, noise, T), reference.add_noise(latents, noise, T))
    torch.testing.assert_close(ours.target(latents, noise, T), reference.get_velocity(latents, noise, T))


def test_the_zero_terminal_rescale_ends_without_signal() -> None:
    """Lin et al. 2023 (arXiv:2305.08891); only some samplers know the setting, and the model's may be another."""
    from diffusers import EulerDiscreteScheduler

    from core.families.parts.scheduler import schedule_of as noise_schedule

    own = EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    rescaled = noise_schedule(own)
    assert rescaled.abar[-1] == 0
    assert rescaled.snr(T)[-1] == 0
    torch.testing.assert_close(rescaled.abar[0], schedule().abar[0])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_moving_keeps_it_as_it_is(prediction: str) -> None:
    moved = schedule(prediction).to(torch.device("cpu"))
    assert moved.prediction == prediction
    assert torch.equal(moved.abar, schedule().abar)


def test_a_flow_goes_along_a_line_as_the_scheduler_of_diffusers_does() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler, generator = FlowMatchEulerDiscreteScheduler(), torch.Generator().manual_seed(0)
    latents, noise = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(3, 4, 8, 8, generator=generator)
    t = scheduler.timesteps[[10, 500, 990]]
    torch.testing.assert_close(FlowSchedule().add_noise(latents, noise, t), scheduler.scale_noise(latents, t, noise))


def test_the_target_of_a_flow_is_the_velocity_along_that_line() -> None:
    latents, noise, flow = torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), -1.0), FlowSchedule()
    steps = [flow.add_noise(latents, noise, torch.tensor([t])) for t in (400.0, 500.0)]
    torch.testing.assert_close((steps[1] - steps[0]) / 0.1, flow.target(latents, noise, torch.tensor([450.0])))


def test_the_shares_of_a_flow_are_real_timesteps_with_some_noise_at_least() -> None:
    flow = FlowSchedule()
    assert flow.at(torch.tensor([0.0, 0.25, 1.0])).tolist() == [1.0, 250.0, 1000.0]
    assert flow.snr(torch.tensor([500.0, 1000.0])).tolist() == [1.0, 0.0]


def test_the_shares_of_discrete_steps_are_whole_and_end_with_the_last() -> None:
    assert schedule().at(torch.tensor([0.0, 0.5, 0.9999, 1.0])).tolist() == [0, 500, 999, 999]
