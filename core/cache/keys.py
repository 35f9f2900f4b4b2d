"""What a cached entry follows from, as a digest: files, geometry, encoder and the transforms before it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import lcm
from typing import Any

import torch
from torch import nn

FORMAT = 1
"""Raise it when decoding, cropping or what an entry holds changes its meaning."""
KEY_BYTES = 16


def digest(*parts: object) -> bytes:
    """BLAKE2b (RFC 7693) over length-framed parts: bytes as they are, anything else as JSON."""
    found = blake2b(digest_size=KEY_BYTES)
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode()
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.digest()


def module_identity(module: nn.Module) -> str:
    """A digest of a module's class, config, dtype and every value in it; waits for the device."""
    found = blake2b(digest_size=KEY_BYTES)
    config = getattr(module, "config", None)
    settings = dict(config) if isinstance(config, Mapping) else config.to_dict() if config is not None else {}
    plain = {key: value for key, value in settings.items() if not key.startswith("_")}
    found.update(json.dumps([type(module).__name__, plain], sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is the same for every entry of a run."""

    product: str
    """`latents` or `text`."""
    encoder: str
    transforms: tuple[str, ...]
    """In order, a fingerprint of each handler before the encoder."""
    settings: Mapping[str, Any]
    """Of the config, those that an entry follows from."""

    @property
    def key(self) -> bytes:
        return digest(FORMAT, self.product, self.encoder, list(self.transforms), dict(self.settings))

    @property
    def about(self) -> dict[str, str]:
        """Short digests of the parts, by which an orphan is told apart."""
        return {
            "encoder": self.encoder[:12],
            "transforms": digest(list(self.transforms)).hex()[:12],
            "settings": digest(FORMAT, dict(self.settings)).hex()[:12],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Variations:
    """How random changes that repeat are counted: each plugin by its own number."""

    counts: tuple[int, ...]
    """The distinct numbers of the plugins and the trainer's own choices before the encoder."""

    @property
    def total(self) -> int:
        """How many different results an item has."""
        return lcm(*self.counts) if self.counts else 1

    def of(self, shown: int) -> list[int]:
        """Which result is shown for the `shown`-th time, by number."""
        return [shown % count for count in self.counts]

    def all(self) -> Iterator[int]:
        """One value of `shown` for each result."""
        return iter(range(self.total))


def why_orphaned(about: Mapping[str, Any], recipe: Recipe, known: Sequence[str] | frozenset[str]) -> str:
    """Why a run does not need an entry, in words; `known` are the ids of its items, where entries have any."""
    now = recipe.about
    if about.get("encoder") != now["encoder"]:
        return "another encoder"
    if about.get("transforms") != now["transforms"]:
        return "other plugins before the encoder, or other settings or source of theirs"
    if about.get("settings") != now["settings"]:
        return "other settings of [data] or the seed"
    if "id" in about and about["id"] not in known:
        return "the picture is no longer there"
    return "the picture or its size changed" if "id" in about else "no caption reads so any more"
