"""NoiseOffset adds to each channel of the noise one draw from a normal distribution, times its strength."""

import torch

from core.compute.rng import PlaceStreams, draw_each
from core.step.objective import compose_objective
from events.testing import Harness, step_parts
from plugins.noise_offset import NoiseOffset

torch.set_num_threads(1)
LATENT = torch.zeros(1, 4, 8, 8)
CPU = torch.device("cpu")


def noise_of(*plugins: NoiseOffset, places: int = 1) -> torch.Tensor:
    """Noise for a latent at each of the places, (places, 4, 8, 8), as a run composes and draws it."""
    noise = compose_objective(Harness(*plugins).bus, step_parts(device=CPU)).noise
    streams = PlaceStreams(CPU, 7, "noise")
    return draw_each(noise, [LATENT] * places, streams, [(place,) for place in range(places)])


def offset(strength: float, name: str = "offset") -> NoiseOffset:
    return NoiseOffset(NoiseOffset.Settings(strength=strength), name=name)


def test_the_offset_is_the_same_all_over_a_channel_and_another_in_each() -> None:
    shift = noise_of(offset(0.5), places=3) - noise_of(places=3)
    spread = shift.amax((2, 3)) - shift.amin((2, 3))
    assert spread.max() < 1e-6
    assert len(set(shift.mean((2, 3)).flatten().tolist())) == 3 * 4


def test_the_offsets_have_mean_0_and_the_strength_as_deviation() -> None:
    shift = (noise_of(offset(0.5), places=1000) - noise_of(places=1000)).mean((2, 3)).flatten()
    assert abs(shift.mean().item()) < 4 * 0.5 / 4000**0.5
    assert abs(shift.std().item() - 0.5) < 4 * 0.5 / 8000**0.5


def test_no_strength_leaves_the_noise_as_it_is() -> None:
    assert torch.equal(noise_of(offset(0.0)), noise_of())


def test_the_same_place_has_the_same_noise() -> None:
    assert torch.equal(noise_of(offset(0.3), places=2), noise_of(offset(0.3), places=2))


def test_the_trainers_own_draw_is_not_shifted_by_it() -> None:
    strong, weak = noise_of(offset(1.0)), noise_of(offset(0.5))
    torch.testing.assert_close(2 * weak - strong, noise_of())


def test_another_plugin_does_not_change_its_draws() -> None:
    alone = noise_of(offset(0.5, "a")) - noise_of()
    beside = noise_of(offset(0.25, "b"), offset(0.5, "a")) - noise_of(offset(0.25, "b"))
    torch.testing.assert_close(beside, alone)
