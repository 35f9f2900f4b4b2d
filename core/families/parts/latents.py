"""Latents of an autoencoder: their size beside pictures, and as the sequence of tokens that a transformer reads."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def latent_scale_of(vae: Mapping[str, Any]) -> int:
    """Of an AutoencoderKL's config: it halves the sides between its levels."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))


def pack(latents: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h/2 w/2, 4 C): each square of 2 x 2 is a token, its channels' squares one after another."""
    count, channels, height, width = latents.shape
    squares = latents.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(count, height // 2 * (width // 2), channels * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The way back, to latents of this height and width."""
    count, _, channels = tokens.shape
    squares = tokens.reshape(count, height // 2, width // 2, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(count, channels // 4, height, width)


def places(*sizes: int, device: torch.device) -> Tensor:
    """(product of the sizes, their number) float32: where each cell of a grid is, the last place changing fastest."""
    return torch.cartesian_prod(*(torch.arange(size, device=device) for size in sizes)).float()


def squares_as_channels(latents: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, 4 C, h/2, w/2): each square of 2 x 2 is one place."""
    count, channels, height, width = latents.shape
    squares = latents.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return squares.reshape(count, channels * 4, height // 2, width // 2)
