"""Text encoders that read whole sentences, such as T5 and language models: how much they read, what of it counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import ConfigError

if TYPE_CHECKING:
    from ...data.samples import Tokenize


def tokens_to_read(asked: int, *, usual: int, most: int) -> int:
    """`asked` tokens, or the `usual` number for 0. Raises ConfigError for more than the stock pipeline would take."""
    if asked > most:
        raise ConfigError("config", [f"data.max_tokens  {asked}, but this model reads {most} at most"])
    return asked or usual


def lower(caption: str) -> str:
    """A caption as the models read it that know small letters alone."""
    return caption.lower().strip()


@dataclass(frozen=True, slots=True)
class LowerCase:
    """Captions in small letters, read by another."""

    tokenize: "Tokenize"

    def __call__(self, captions: Sequence[str]) -> Mapping[str, Tensor]:
        return self.tokenize([lower(caption) for caption in captions])


def attention_to(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, L), 1 where a caption's tokens are -> what is added to the attention of every token, (B, 1, 1, L).

    Of this shape transformers takes it as it is; of a mask (B, L) it would ask the device whether all are 1.
    """
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask == 0, torch.finfo(dtype).min)[:, None, None]


def attention_to_earlier(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The same of a language model, whose tokens see none that follow, (B, 1, L, L)."""
    length = mask.shape[1]
    later = torch.ones(length, length, dtype=torch.bool, device=mask.device).triu(1)
    return attention_to(mask, dtype).masked_fill(later, torch.finfo(dtype).min)
