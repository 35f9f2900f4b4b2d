"""Plugins that tests of work divided over ranks name in configs: they note what happens where, or disturb one rank.

Where the notes go is told by the environment: a setting would be a part of what cached entries follow from.
"""

import json
import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events import Plugin, PluginSettings, on, transform
from events.payloads import (
    CacheEnd,
    CacheStart,
    DataContext,
    ExportEnd,
    Item,
    ModelReady,
    PreviewContext,
    PreviewEnd,
    PreviewImage,
    PreviewStart,
    Prompt,
    RunClose,
    SampleContext,
    ValidationEnd,
    ValidationStart,
)

if TYPE_CHECKING:
    from PIL import Image

NOTES = "NOTES_OF_RANKS"
"""The variable that names the folder."""


def noted(run: Path, rank: int) -> dict[str, list[Any]]:
    """What `Witness` has noted on a rank."""
    found: dict[str, list[Any]] = json.loads((run / f"witness-{rank}.json").read_text())
    return found


class Witness(Plugin):
    """Notes on every rank what it is told, in `witness-<rank>.json` of the run's folder."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.told: dict[str, list[Any]] = {}

    def note(self, what: str, value: Any) -> None:
        self.told.setdefault(what, []).append(value)

    @on("validation.start", ranks="all")
    def validation_starts(self, event: ValidationStart) -> None:
        self.note("validation.start", [event.step, dict(event.images)])

    @on("validation.end", ranks="all", collective=True)
    def validation_ends(self, event: ValidationEnd) -> None:
        self.note("validation.end", [event.step, dict(event.losses)])
        self.note("who was at validation.end", self.ranks.gather(self.ranks.rank))

    @transform("preview.prompts")
    def shout(self, prompts: tuple[Prompt, ...], context: PreviewContext) -> tuple[Prompt, ...]:
        self.note("preview.prompts", context.step)
        return tuple(replace(prompt, text=prompt.text.upper()) for prompt in prompts)

    @on("preview.start", ranks="all")
    def previews_start(self, event: PreviewStart) -> None:
        self.note("preview.start", [event.step, event.reason])

    @on("preview.image")
    def see(self, event: PreviewImage) -> None:
        self.note("preview.image", event.path.name)

    @on("preview.end", ranks="all", collective=True)
    def previews_end(self, event: PreviewEnd) -> None:
        names = [path.name for path in event.paths]
        self.note("preview.end", [event.step, names, [prompt.text for prompt in event.prompts]])
        self.note("who was at preview.end", self.ranks.gather(self.ranks.rank))

    @on("cache.start", ranks="all")
    def cache_starts(self, event: CacheStart) -> None:
        self.note("cache.start", [event.product, event.reused, event.missing, event.orphaned])

    @on("cache.end", ranks="all")
    def cache_ends(self, event: CacheEnd) -> None:
        self.note("cache.end", [event.product, event.reused, event.encoded, event.unreadable])

    @on("export.end", ranks="all")
    def export_ends(self, event: ExportEnd) -> None:
        self.note("export.end", [event.path is not None, event.path is not None and event.path.exists()])

    @on("run.close", ranks="all")
    def write(self, event: RunClose) -> None:
        (event.run.folder / f"witness-{self.ranks.rank}.json").write_text(json.dumps(self.told))


class Disturbing(Plugin):
    """What a picture meets on its way. `at` counts the pictures that a process makes, from 1."""

    class Settings(PluginSettings):
        rank: int = 1
        at: int = 1

    made = 0

    @transform("sample.image")
    def meet(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        self.made += 1
        notes = Path(os.environ[NOTES])
        with (notes / f"pictures-{self.ranks.rank}-of-{self.ranks.count}").open("a") as file:
            file.write(f"{sample.sample_id}\n")
        if self.made == self.settings.at and self.ranks.rank == self.settings.rank:
            self.disturb(notes)
        return image

    def disturb(self, notes: Path) -> None:
        """Nothing."""


class Fails(Disturbing):
    """An error of one rank."""

    def disturb(self, notes: Path) -> None:
        raise ValueError("this picture is not for me")


class Sleeps(Disturbing):
    """One rank takes longer than any exchange may."""

    def disturb(self, notes: Path) -> None:
        time.sleep(float(os.environ["SLEEP_SECONDS"]))


class Dies(Disturbing):
    """One rank is killed once the others have stored what they made; only the first time."""

    def disturb(self, notes: Path) -> None:
        if not (notes / "has died").exists():
            while not entries(notes / "cache", "latents"):
                time.sleep(0.02)
            (notes / "has died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class IsStopped(Disturbing):
    """One rank alone is asked to stop, and the others go on no faster than they can hear of it."""

    @transform("sample.image", priority=60)
    def wait(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        if self.ranks.rank != self.settings.rank and self.made > self.settings.at:
            while not (Path(os.environ[NOTES]) / "is asked to stop").exists():
                time.sleep(0.02)
            time.sleep(1.5)
        return image

    def disturb(self, notes: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        (notes / "is asked to stop").touch()


class ReadsOne(Plugin):
    """Reads the caption of one picture, which no look at a few of them shows."""

    @transform("sample.image")
    def read(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        if sample.sample_id.endswith("red-circle.png"):
            return image.rotate(len(sample.caption))
        return image


class CannotRender(Plugin):
    """On one rank the model refuses whatever asks for no gradients."""

    class Settings(PluginSettings):
        rank: int = 1

    @on("model.ready", ranks="all")
    def refuse(self, event: ModelReady) -> None:
        import torch

        def look(module: object, given: object) -> None:
            if not torch.is_grad_enabled():
                raise RuntimeError("no picture today")

        if self.ranks.rank == self.settings.rank:
            unet: Any = event.modules["unet"]
            getattr(unet, "module", unet).register_forward_pre_hook(look)


class Drops(Plugin):
    """One rank finds a picture less and another caption, as with other files on its machine."""

    @transform("data.items")
    def drop(self, items: tuple[Item, ...], context: DataContext) -> tuple[Item, ...]:
        if self.ranks.rank == 0 or context.validation:
            return items
        return (replace(items[0], caption="another"), *items[2:])


def entries(cache: Path, product: str) -> dict[bytes, bytes]:
    """What a cache holds, by key; nothing where it is not there yet."""
    if not (cache / f"{product}.sqlite").exists():
        return {}
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(cache / f"{product}.sqlite", timeout=60)) as held:
        return dict(held.execute("SELECT key, data FROM entries"))
    return {}
