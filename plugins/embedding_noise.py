"""A little noise on the text embeddings, against learning captions by heart."""

from typing import TYPE_CHECKING

from pydantic import Field

from events import Plugin, PluginSettings, build
from events.payloads import Conditioning, ConditioningFunction, StepParts

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class EmbeddingNoise(Plugin):
    """c <- c + e with e ~ N(0, strength / sqrt(d)), d the embedding's width; pooled embeddings likewise.

    Chen et al. 2024, "Slight corruption in pre-training data makes better diffusion models", arXiv:2405.20494:
    conditional embedding perturbation.
    """

    class Settings(PluginSettings):
        strength: float = Field(1.0, ge=0, description="the paper's gamma: deviation times the root of the width")

    @build("conditioning")
    def perturb(self, conditioning: ConditioningFunction, parts: StepParts) -> ConditioningFunction:
        import torch

        strength: float = self.settings.strength

        def perturbed(said: Conditioning, generator: "torch.Generator") -> Conditioning:
            said = conditioning(said, generator)
            return {name: part if name == "mask" else noisy(part, generator) for name, part in said.items()}

        def noisy(part: "Tensor", generator: "torch.Generator") -> "Tensor":
            noise = torch.randn(part.shape, generator=generator, device=part.device, dtype=part.dtype)
            perturbation: Tensor = strength / part.shape[-1] ** 0.5 * noise
            return part + perturbation

        return perturbed
