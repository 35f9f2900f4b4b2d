"""What the tests of every family need to know of a family beside its stock pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from events.payloads import Conditioning


def as_is(latents: Tensor) -> Tensor:
    return latents


def by_posterior(vae: Any, pixels: Tensor, deviations: float) -> Tensor:
    posterior = vae.encode(pixels).latent_dist
    picture: Tensor = vae.decode(posterior.mean + deviations * posterior.std).sample
    return picture


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A family as one small model."""

    name: str
    """Of the model, in the names of the tests."""
    family: str
    """As model.family has it."""
    make: Callable[[], Any]
    """The stock pipeline with its scheduler, the same weights at each call."""
    encode: Callable[[Any, list[str]], Conditioning]
    """What the stock pipeline's own `encode_prompt` makes of captions, under our names."""
    text_keys: Mapping[str, str]
    """Of each text encoder a weight, by the name under which every release of transformers reads it."""
    max_tokens: int = 0
    """data.max_tokens."""
    absent: Mapping[str, None] = field(default_factory=dict)
    """Parts that the model is without, which the stock `from_pretrained` wants to be told."""
    call: Mapping[str, Any] = field(default_factory=dict)
    """What the stock pipeline is asked for beside words, seeds, size, steps and guidance."""
    guidance: str = "guidance_scale"
    """The stock pipeline's argument of that meaning."""
    takes_negative: bool = True
    """Whether the stock pipeline knows a negative_prompt."""
    unpack: Callable[[Tensor], Tensor] = as_is
    """What the stock pipeline denoises for a picture of SIDES -> (B, C, h, w)."""
    pack: Callable[[Tensor], Tensor] = as_is
    """The way back."""
    reconstruct: Callable[[Any, Tensor, float], Tensor] = by_posterior
    """What the autoencoder alone makes of pixels, so many deviations off the mean of their latents."""
    sampler: str = ""
    """The diffusers class of scheduler whose steps show the denoiser's output unchanged; empty: the model's own."""
    train: tuple[str, ...] = ("transformer",)
    """Modules to train."""
    is_further: bool = False
    """Another model of its family: it is trained in the long form of the tests only."""


SIDES = (64, 128)
"""Height and width of pictures that are rendered; those that are trained on are squares of the first."""
