"""A plain loop over torch's DDP that takes its steps in turn with the trainer's, in each process of a run.

As `bare_loop.py` it is a plugin that handles `step.end` last. Each round has three steps on the same batches: the trainer's
with all that lies between two, the loop's, and one of the loop's in which the processes exchange nothing, which is what the
machine gives to as many processes that do not know of each other. All ranks begin each of the three together.
"""

import copy
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.bare_loop import WARM_UP, now, since
from events import Plugin, PluginSettings, on
from events.payloads import Batch, ModelLoaded, ModelReady, StepEnd

LOOK_SECONDS = 0.01
Seconds = tuple[float, float]
"""(CPU of the process, wall)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triple:
    """One step of each."""

    ours: Seconds
    loop: Seconds
    silent: Seconds
    """The loop's without any exchange of gradients."""


class SideBySide(Plugin):
    """Takes the loop's steps, waits for its turn after some, and writes `rank-N.json` into its folder at the end."""

    class Settings(PluginSettings):
        folder: Path = Field(description="where its turn is told and the times go")
        rounds: int = Field(description="that it takes before it waits for its next turn")
        lr: float = Field(1e-5, description="of AdamW")

    settings: Settings

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._triples: list[Triple] = []
        self._left: Seconds | None = None
        self._steps = 0

    @on("model.loaded")
    def keep(self, event: ModelLoaded) -> None:
        self._schedule = event.schedule

    @on("model.ready", priority=99)
    def copy(self, event: ModelReady) -> None:
        """The denoiser once more, wrapped by DDP itself where there are several processes."""
        unet = event.modules["unet"]
        with torch.random.fork_rng(devices=[]):
            bare = copy.deepcopy(unet.module if isinstance(unet, DistributedDataParallel) else unet)
        self._model: nn.Module = DistributedDataParallel(bare, gradient_as_bucket_view=True) if (
            self.ranks.count > 1
        ) else bare  # fmt: skip
        self._trained = [one for one in self._model.parameters() if one.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, lr=self.settings.lr, fused=True)
        self._draws = torch.Generator().manual_seed(0)

    @on("step.end", priority=99, ranks="all", collective=True)
    def take_two(self, event: StepEnd) -> None:
        """Steps of the loop, after the trainer's. Raises RuntimeError where the ranks have not as many batches each."""
        arrived = now()
        if len(set(self.ranks.gather(len(event.batches)))) > 1:
            raise RuntimeError("an epoch has ended with a step in which not every rank has a batch; have more pictures")
        loop = self._timed(event.batches, exchanges=True)
        silent = self._timed(event.batches, exchanges=False) if self.ranks.count > 1 else loop
        if self._left is not None and self._steps >= WARM_UP:
            self._triples.append(Triple(ours=since(self._left, arrived), loop=loop, silent=silent))
        self._steps += 1
        if self._steps >= WARM_UP and (self._steps - WARM_UP) % self.settings.rounds == 0:
            self._wait_for_turn((self._steps - WARM_UP) // self.settings.rounds)
        self._left = self._meet()

    def close(self) -> None:
        path = self.settings.folder / f"rank-{self.ranks.rank}.json"
        path.write_text(json.dumps([asdict(one) for one in self._triples]) + "\n", encoding="utf-8")

    def _timed(self, batches: Sequence[Batch], *, exchanges: bool) -> Seconds:
        begun = self._meet()
        for number, batch in enumerate(batches):
            with self._quiet(is_quiet=not (exchanges and number == len(batches) - 1)):
                (self._loss(batch) / len(batches)).backward()
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return since(begun, now())

    def _quiet(self, *, is_quiet: bool) -> AbstractContextManager[None]:
        if is_quiet and isinstance(self._model, DistributedDataParallel):
            return self._model.no_sync()
        return nullcontext()

    def _loss(self, batch: Batch) -> Tensor:
        latents = batch.latents["mean"]
        noise = torch.randn(latents.shape, generator=self._draws)
        t = torch.randint(0, self._schedule.timesteps, (len(latents),), generator=self._draws)
        noisy = self._schedule.add_noise(latents, noise, t)
        predict: Callable[..., Any] = self._model
        prediction = predict(noisy, t, batch.embeddings["embeddings"], return_dict=False)[0]
        return torch.nn.functional.mse_loss(prediction, self._schedule.target(latents, noise, t))

    def _meet(self) -> Seconds:
        """All ranks leave here together; returns when."""
        self.ranks.gather(None)
        return now()

    def _wait_for_turn(self, number: int) -> None:
        """Turn `number` is over when that many are; the next is told by a file of its number."""
        folder = self.settings.folder
        (folder / f"over-{number}-{self.ranks.rank}").touch()
        while not (folder / f"turn-{number + 1}").exists():
            sleep(LOOK_SECONDS)


def read_triples(folder: Path, count: int) -> list[Triple]:
    """Of all ranks together: CPU is that of all, and wall that of the slowest."""
    ranks = [json.loads((folder / f"rank-{rank}.json").read_text(encoding="utf-8")) for rank in range(count)]
    return [
        Triple(**{name: (sum(one[name][0] for one in each), max(one[name][1] for one in each)) for name in each[0]})
        for each in zip(*ranks, strict=True)
    ]
