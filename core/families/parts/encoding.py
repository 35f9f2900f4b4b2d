"""What the frozen encoders make of pictures and captions, the same bits in the step as in the caches.

On the CPU each sample is encoded alone: the kernels round a batch of one differently from a batch of two, and a
sample's latents must not depend on its neighbours. On other devices a batch is encoded at once.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from events.payloads import Conditioning

from ...families import Family


@torch.no_grad()
def encode_pictures(family: Family, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) in [-1, 1] -> mean and deviation (B, C, h, w) float32 of the scaled latents' posterior."""
    parts = pixels.split(1) if pixels.device.type == "cpu" else (pixels,)
    means, deviations = zip(*(family.encode_images(part) for part in parts), strict=True)
    return torch.cat(means).contiguous(), torch.cat(deviations).contiguous()


@torch.no_grad()
def encode_captions(family: Family, tokens: Mapping[str, Tensor]) -> Conditioning:
    """Token ids (B, L) by text encoder -> what text encoders that are not trained make of them."""
    count = len(next(iter(tokens.values())))
    if next(iter(tokens.values())).device.type != "cpu":
        return family.encode_text(tokens)
    singles = [family.encode_text({name: ids[one : one + 1] for name, ids in tokens.items()}) for one in range(count)]
    return {name: torch.cat([single[name] for single in singles]) for name in singles[0]}
