"""MinSnr weighs each sample by the min-SNR-gamma of its timestep."""

import numpy
import pytest
import torch

from core.compute.noise_schedule import DiscreteSchedule
from events.errors import PluginError
from events.payloads import Batch
from events.testing import Harness, batch, step_parts
from plugins.min_snr import MinSnr, min_snr_weight

torch.set_num_threads(1)
T = 1000
BETAS = numpy.linspace(0.00085**0.5, 0.012**0.5, T, dtype=numpy.float64) ** 2
ABAR = numpy.cumprod(1 - BETAS)
TIMESTEPS = [0, 1, 10, 100, 250, 500, 750, 900, 998, 999]


def independent(prediction: str, gamma: float) -> numpy.ndarray:
    """From alpha and sigma in float64: a loss on x_0 weighed min(SNR, gamma), as a loss on what is predicted."""
    alpha, sigma = numpy.sqrt(ABAR[TIMESTEPS]), numpy.sqrt(1 - ABAR[TIMESTEPS])
    wanted = numpy.minimum((alpha / sigma) ** 2, gamma)
    # x_0 = (x_t - sigma e) / alpha and x_0 = alpha x_t - sigma v, so an error in e or v counts on x_0 as:
    per_unit = {"epsilon": (sigma / alpha) ** 2, "v_prediction": sigma**2, "sample": 1.0}[prediction]
    return wanted * per_unit


def plain(t: torch.Tensor, batch: Batch) -> torch.Tensor:
    return batch.weight


def weights(prediction: str, gamma: float = 5.0, own: torch.Tensor | None = None) -> torch.Tensor:
    schedule = DiscreteSchedule(torch.tensor(ABAR, dtype=torch.float32), prediction)  # type: ignore[arg-type]
    harness = Harness(MinSnr(MinSnr.Settings(gamma=gamma)))
    weigh = harness.compose("weight", plain, step_parts(schedule=schedule))
    samples = batch(torch.zeros(len(TIMESTEPS), 3, 8, 8), weight=own)
    return weigh(torch.tensor(TIMESTEPS), samples)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_by_the_papers_formula(prediction: str, gamma: float) -> None:
    numpy.testing.assert_allclose(weights(prediction, gamma).numpy(), independent(prediction, gamma), rtol=2e-3)


def test_on_top_of_the_weight_that_was_there() -> None:
    own = torch.linspace(0.5, 2, len(TIMESTEPS))
    torch.testing.assert_close(weights("epsilon", own=own), weights("epsilon") * own)


def test_with_1_for_pure_noise_in_epsilon() -> None:
    assert min_snr_weight(torch.zeros(1), 5.0, "epsilon").item() == 1


def test_not_a_prediction_that_the_paper_has_no_weight_for() -> None:
    with pytest.raises(PluginError, match="not for flow"):
        Harness(MinSnr()).compose("weight", plain, step_parts(prediction="flow"))


def test_in_a_whole_graph_of_torch_compile() -> None:
    captured = torch.export.export(_Weigh(), (torch.tensor([1.0, 10.0]),))
    torch.testing.assert_close(captured.module()(torch.tensor([2.0, 7.0])), torch.tensor([1.0, 5 / 7]))


class _Weigh(torch.nn.Module):
    def forward(self, snr: torch.Tensor) -> torch.Tensor:
        return min_snr_weight(snr, 5.0, "epsilon")
