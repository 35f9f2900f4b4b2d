"""Latents of an autoencoder: their size beside pictures."""

from collections.abc import Mapping
from typing import Any


def latent_scale_of(vae: Mapping[str, Any]) -> int:
    """Of an AutoencoderKL's config: it halves the sides between its levels."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))
