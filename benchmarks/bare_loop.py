"""The loop that Signalbox is held against, run step by step in turn with it, in one process.

It is a plugin that handles `step.end` last: the trainer's step has just been taken, and while the handler takes one of its
own, training stands still. So the two share whatever else the machine does, and neither knows of the other.
"""

import copy
import gc
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from events import Plugin, PluginSettings, on
from events.payloads import Batch, ModelLoaded, ModelReady, StepEnd

WARM_UP = 3
"""Steps of each that are not counted."""


class BareLoop(Plugin):
    """Takes the same step on a copy of the modules: noise, forward, loss, backward, clip, AdamW, and nothing else.

    The batch lies in memory already; with `pictures` it is loaded, resized, and encoded in each step instead, as a plain
    training script does.
    """

    class Settings(PluginSettings):
        pictures: Path | None = Field(None, description="folder of pictures with captions beside them")
        batch_size: int = Field(4, description="of what is loaded from `pictures`")
        side: int = Field(256, description="of what is loaded from `pictures`, in pixels")
        lr: float = Field(1e-5, description="of AdamW")

    settings: Settings

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.ours: list[tuple[float, float]] = []
        """(CPU seconds of the process, wall seconds) of each of the trainer's steps, with all that lies between two."""
        self.bare: list[tuple[float, float]] = []
        self._left: tuple[float, float] | None = None

    @on("model.loaded")
    def keep(self, event: ModelLoaded) -> None:
        self._tokenizer = next(iter(event.tokenizers.values()))
        self._schedule = event.schedule

    @on("model.ready", priority=99)
    def copy(self, event: ModelReady) -> None:
        """A copy of what is trained, adapters included, and an optimizer of its own."""
        with torch.random.fork_rng(devices=[]):
            self._modules: dict[str, nn.Module] = {
                name: copy.deepcopy(module) for name, module in event.modules.items()
            }
        self._trained = [one for module in self._modules.values() for one in module.parameters() if one.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, lr=self.settings.lr, fused=True)
        self._text_is_trained = any(one.requires_grad for one in self._modules["text_encoder"].parameters())
        self._draws = torch.Generator().manual_seed(0)
        self._loaded = self._load(self.settings.pictures) if self.settings.pictures is not None else None

    @on("step.end", priority=99)
    def take_one(self, event: StepEnd) -> None:
        """One step, after the trainer's."""
        arrived = now()
        if self._left is not None:
            self.ours.append(since(self._left, arrived))
        begun = now()
        self._step(event.batches[0])
        self._left = now()
        self.bare.append(since(begun, self._left))

    def counted(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """(ours, bare) step by step, without the first of each."""
        pairs = list(zip(self.ours, self.bare[1:], strict=True))[WARM_UP:]
        return [one for one, _ in pairs], [other for _, other in pairs]

    def close(self) -> None:
        self._loaded = None
        gc.collect()

    def _step(self, batch: Batch) -> None:
        if self._loaded is not None:
            pixels, ids = next(self._loaded)
            with torch.no_grad():
                latents = self._encode(pixels)
                words = self._modules["text_encoder"](ids)[0]
        else:
            latents = batch.latents["mean"]
            words = self._modules["text_encoder"](batch.tokens["text_encoder"])[0] if self._text_is_trained else (
                batch.embeddings["embeddings"]
            )  # fmt: skip
        noise = torch.randn(latents.shape, generator=self._draws)
        t = torch.randint(0, self._schedule.timesteps, (len(latents),), generator=self._draws)
        noisy = self._schedule.add_noise(latents, noise, t)
        prediction = self._modules["unet"](noisy, t, words, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(prediction, self._schedule.target(latents, noise, t))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _encode(self, pixels: Tensor) -> Tensor:
        vae: Any = self._modules["vae"]
        latents: Tensor = vae.encode(pixels).latent_dist.sample(self._draws) * vae.config.scaling_factor
        return latents

    def _load(self, folder: Path) -> Iterator[tuple[Tensor, Tensor]]:
        data = Pictures(folder, self.settings.side, self._tokenizer)
        loader = DataLoader(
            data, batch_size=self.settings.batch_size, shuffle=True, num_workers=1, drop_last=True,
            persistent_workers=True, multiprocessing_context="spawn",
        )  # fmt: skip
        while True:
            yield from loader


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Pictures resized and cropped to a square, and the token ids of their captions."""

    def __init__(self, folder: Path, side: int, tokenizer: Any) -> None:
        self._paths = sorted(folder.rglob("*.jpg"))
        self._side = side
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        path, side = self._paths[number], self._side
        with Image.open(path) as file:
            picture = file.convert("RGB")
        scale = side / min(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS
        )
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        data = picture.crop((left, top, left + side, top + side)).tobytes()
        pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(side, side, 3).permute(2, 0, 1)
        ids = self._tokenizer(
            path.with_suffix(".txt").read_text(), padding="max_length", truncation=True, max_length=77,
            return_tensors="pt",
        ).input_ids  # fmt: skip
        return pixels.float() / 127.5 - 1, ids[0]


def now() -> tuple[float, float]:
    return process_time(), perf_counter()


def since(begun: tuple[float, float], ended: tuple[float, float]) -> tuple[float, float]:
    return ended[0] - begun[0], ended[1] - begun[1]
