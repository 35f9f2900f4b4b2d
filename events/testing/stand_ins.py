"""What payloads hold where a test gives nothing: a noise schedule without a model, and parts that say they are absent."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class CosineSchedule:
    """x_t = cos(a) x_0 + sin(a) noise with a = pi/2 (t + 1/2) / T: a noise schedule that needs no model.

    Nichol and Dhariwal 2021 (arXiv:2102.09672, eq. 17) without their offset.
    """

    def __init__(self, prediction: str = "epsilon", timesteps: int = 1000) -> None:
        self.prediction = prediction
        self.timesteps = timesteps

    def at(self, u: "Tensor") -> "Tensor":
        return (u * self.timesteps).long().clamp(max=self.timesteps - 1)

    def snr(self, t: "Tensor") -> "Tensor":
        angle = self._angle(t)
        return (angle.cos() / angle.sin()).square()

    def add_noise(self, latents: "Tensor", noise: "Tensor", t: "Tensor") -> "Tensor":
        angle = self._angle(t).reshape(-1, *[1] * (latents.ndim - 1))
        return angle.cos() * latents + angle.sin() * noise

    def target(self, latents: "Tensor", noise: "Tensor", t: "Tensor") -> "Tensor":
        """The noise, or v = cos(a) noise - sin(a) x_0."""
        if self.prediction == "epsilon":
            return noise
        angle = self._angle(t).reshape(-1, *[1] * (latents.ndim - 1))
        return angle.cos() * noise - angle.sin() * latents

    def _angle(self, t: "Tensor") -> "Tensor":
        return (t + 0.5) * (math.pi / 2 / self.timesteps)


class PlainNames:
    """Of a family that other programs know nothing of."""

    architecture = "test"

    def kohya(self, module: str, layers: Iterable[str]) -> Mapping[str, str]:
        return {}


class Absent:
    """Stands for what only a real run has, and says so when it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise AttributeError(
            f"this payload was made without {self._name}, so it has no {attribute}; give {self._name}="
        )
