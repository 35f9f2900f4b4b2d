"""How well a run has learnt its captions, as a number: does a rendered caption look most like its own picture?"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from random import Random
from typing import TYPE_CHECKING

from pydantic import Field

from events import Plugin, PluginSettings, on
from events.payloads import Item, PreviewEnd, Prompt, RunStart, Sampler

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

log = logging.getLogger("signalbox.plugins.prompt_recall")
ENCODED_AT_ONCE = 16


class PromptRecall(Plugin):
    """Render training captions once each and count how often the nearest training picture is the caption's own.

    Nearest is by Euclidean distance between latents, among all training pictures of the previews' shape; a picture
    with the same caption counts as its own. Chance is what picking a training picture blindly would give. It measures
    memorising, not quality. The result is logged and written to `<run>/prompt_recall.json`. It waits for the device,
    and renders with the weights of the previews, so with those of an averaging plugin where there is one. Several
    processes render a share of the captions each.
    """

    class Settings(PluginSettings):
        when: tuple[str, ...] = Field(("start", "end"), description="reasons of a preview round to measure at")
        count: int = Field(0, ge=0, description="captions to render, spread over the training set; 0: every one")
        count_at_start: int | None = Field(
            None, ge=0, description="likewise at the start, where chance is what comes out; count when left out"
        )
        steps: int | None = Field(None, ge=1, description="denoising steps; as the first preview when left out")
        guidance: float | None = Field(None, ge=0, description="guidance scale; as the first preview when left out")
        seed: int = Field(0, ge=0, description="of the first rendering's noise; the next has the next")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._transparent = "white"
        self._measured: tuple[Sequence[Item], Sequence[Item], Sequence[Item]] | None = None
        """What is compared, whose captions were rendered, and what is nearest to each, in a round that is to be told of."""

    @on("run.start", ranks="all")
    def note_background(self, event: RunStart) -> None:
        """Transparent pictures are compared over the colour that they are trained on."""
        self._transparent = event.config.get("data", {}).get("transparent", self._transparent)

    @on("preview.end", priority=20, ranks="all", collective=True)
    def measure(self, event: PreviewEnd) -> None:
        if event.reason not in self.settings.when or not event.paths:  # without a path, rendering failed
            return
        like = event.prompts[0]
        items = [item for item in event.items if _has_shape(item, like.width, like.height)]
        if not items:
            if self.ranks.is_main:
                log.info("no training picture has the previews' shape, so prompt recall is not measured")
            return
        chosen = _spread(items, self._count(event.reason))
        prompts = [self._prompt(item, like, number) for number, item in enumerate(chosen)]
        first, apart = (0, 1) if event.sampler.lockstep else (self.ranks.rank, self.ranks.count)
        found = self.ranks.gather(self._nearest(tuple(prompts[first::apart]), items, like, event.sampler))
        nearest = [items[found[number % apart][number // apart]] for number in range(len(chosen))]
        self._measured = items, chosen, nearest

    @on("preview.end", priority=20)
    def tell(self, event: PreviewEnd) -> None:
        """By itself, so that a disk that is full is no reason to end the run."""
        measured, self._measured = self._measured, None
        if measured is not None:
            self._tell(event, *measured)

    def _nearest(self, prompts: tuple[Prompt, ...], items: Sequence[Item], like: Prompt, sampler: Sampler) -> list[int]:
        """Of each prompt, rendered, the place of the item whose picture is nearest. Waits for the device."""
        if not prompts:
            return []
        renderings = _encoded(sampler.render(prompts), sampler)
        pictures = _encoded((self._picture(item, like) for item in items), sampler)
        return nearest_places(renderings, pictures)

    def _count(self, reason: str) -> int:
        at_start: int | None = self.settings.count_at_start
        return at_start if reason == "start" and at_start is not None else self.settings.count

    def _prompt(self, item: Item, like: Prompt, number: int) -> Prompt:
        settings = self.settings
        return Prompt(
            text=item.caption, seed=settings.seed + number, width=like.width, height=like.height,
            steps=settings.steps or like.steps,
            guidance=like.guidance if settings.guidance is None else settings.guidance,
            scheduler=like.scheduler,
        )  # fmt: skip

    def _picture(self, item: Item, like: Prompt) -> "Image.Image":
        from core.pictures.images import crop_box, read_picture, resize

        target = (like.width, like.height)
        picture = read_picture(item.path, transparent=self._transparent, mask="", target=target)
        return resize(picture.image, crop_box(picture.image.size, target, "centre", Random(0)), target, mirror=False)

    def _tell(self, event: PreviewEnd, items: Sequence[Item], chosen: Sequence[Item], nearest: Sequence[Item]) -> None:
        pairs = [(item.caption, found.caption) for item, found in zip(chosen, nearest, strict=True)]
        misses = [{"prompt": prompt, "nearest": found} for prompt, found in pairs if prompt != found]
        same = Counter(item.caption for item in items)
        per_cent = 100 * (1 - len(misses) / len(pairs))
        chance = 100 * sum(same[item.caption] for item in chosen) / (len(chosen) * len(items))
        log.info(
            "prompt recall at step %d: %.1f %% of %d captions rendered look most like their own of %d pictures"
            " (chance %.1f %%)", event.step, per_cent, len(pairs), len(items), chance,
        )  # fmt: skip
        result = {
            "step": event.step,
            "per_cent": round(per_cent, 2),
            "chance_per_cent": round(chance, 2),
            "count": len(pairs),
            "pictures": len(items),
            "misses": misses,
        }
        path = event.run.folder / "prompt_recall.json"
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def nearest_places(latents: "Tensor", among: "Tensor") -> list[int]:
    """For each of (B, ...) the index of the nearest of (N, ...) by Euclidean distance over all other dimensions."""
    import torch

    places: list[int] = torch.cdist(latents.flatten(1).double(), among.flatten(1).double()).argmin(1).tolist()
    return places


def _has_shape(item: Item, width: int, height: int) -> bool:
    """Whether the whole picture, brought to this height, has this width to the pixel."""
    return round(item.width * height / item.height) == width


def _spread(items: Sequence[Item], count: int) -> Sequence[Item]:
    if not count or count >= len(items):
        return items
    return [items[place * len(items) // count] for place in range(count)]


def _encoded(pictures: "Iterable[Image.Image]", sampler: Sampler) -> "Tensor":
    """Latents (N, C, h, w) on the CPU."""
    import torch

    from core.pictures.images import to_pixels

    waiting = iter(pictures)
    latents: list[Tensor] = []
    while group := [to_pixels(picture) for picture in islice(waiting, ENCODED_AT_ONCE)]:
        latents.append(sampler.encode(torch.stack(group)))
    return torch.cat(latents)
