"""A loss that large errors pull less on, with a threshold that may follow the timestep."""

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from events import Plugin, PluginSettings, build
from events.payloads import Batch, LossFunction, NoiseSchedule, StepParts

if TYPE_CHECKING:
    from torch import Tensor

Course = Literal["constant", "exponential", "snr"]


class Huber(Plugin):
    """Replace the loss by the pseudo-Huber loss 2 c (sqrt(d^2 + c^2) - c) of the difference d, averaged over the latent.

    Khrapov et al. 2024, "Improving diffusion models's data-corruption resistance using scheduled pseudo-Huber loss",
    arXiv:2403.16728. With a large c it is the squared error, with a small one c times twice the absolute.
    """

    class Settings(PluginSettings):
        c: float = Field(0.1, gt=0, le=1, description="the threshold where it is smallest")
        course: Course = Field(
            "snr", description="of c over timesteps: constant, exponential from 1 down to c, or by the noise level"
        )

    @build("loss", priority=10)
    def replace(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        c, course, schedule = self.settings.c, self.settings.course, parts.schedule

        def huber(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            threshold = threshold_of(schedule, t, c, course).reshape(-1, *[1] * (prediction.ndim - 1))
            return pseudo_huber(prediction.float() - target.float(), threshold).flatten(1).mean(1)

        return huber


def threshold_of(schedule: NoiseSchedule, t: "Tensor", c: float, course: Course) -> "Tensor":
    """c of each t, (B,): c; exp(t ln(c) / T), from 1 at t = 0; or (1 - c) / (1 + sigma)^2 + c with sigma^2 = 1 / SNR."""
    if course == "constant":
        return t.float() * 0 + c
    if course == "exponential":
        return (t.float() * (math.log(c) / schedule.timesteps)).exp()
    return (1 - c) / (1 + schedule.snr(t).rsqrt()).square() + c


def pseudo_huber(difference: "Tensor", c: "Tensor") -> "Tensor":
    """2 c (sqrt(d^2 + c^2) - c), element by element."""
    return 2 * c * ((difference.square() + c.square()).sqrt() - c)
