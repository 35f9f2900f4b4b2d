"""The room where samples are made: in each loader worker, or in the training process when there are none.

A worker gets (settings, plugin tables) and builds its plugins itself; live plugins are never pickled. The same code
runs in every process, so a batch's bytes do not depend on how many workers there are (P12).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from events.bus import Bus, Tally
from events.catalogue import BATCH_HOST, SAMPLE_CAPTION, SAMPLE_IMAGE, SAMPLE_PIXELS, SAMPLE_SETTINGS
from events.errors import PluginError
from events.payloads import Batch, BatchContext, Item, SampleContext, SampleKey, SampleSettings
from events.randomness import Streams

from ..config import PluginSource
from .buckets import Size
from .images import Crop, fit, read_upright, to_pixels

Tokenize = Callable[[Sequence[str]], Mapping[str, Tensor]]
"""Captions -> token ids (B, L) int64 by text encoder. Picklable, since it travels to the workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettingsOfRun:
    """What the config says about making samples."""

    seed: int
    crop: Crop
    transparent: str
    time_plugins: bool
    slow_seconds: Mapping[str, float]
    trace: Path | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch, and what the worker's handlers cost while it was made."""

    batch: Batch
    tallies: Mapping[tuple[str, str, str], Tally] = field(default_factory=dict)

    def pin_memory(self) -> "Loaded":
        """Page-locked copies, so that the copy to the device does not wait; called by torch's pinning thread."""
        batch = replace(
            self.batch,
            pixels=self.batch.pixels.pin_memory(),
            tokens={name: ids.pin_memory() for name, ids in self.batch.tokens.items()},
            weight=self.batch.weight.pin_memory(),
        )
        return Loaded(batch, self.tallies)


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """An exception as text and plain values, since not every exception survives the way between processes."""

    text: str
    plugin: str = ""
    signal: str = ""


class SampleRoom(torch.utils.data.Dataset[Loaded | LoadFailure]):
    """Maps the keys of a batch to the batch."""

    def __init__(
        self,
        items: tuple[Item, ...],
        sizes: tuple[Size, ...],
        tokenize: Tokenize,
        settings: SampleSettingsOfRun,
        plugins: PluginSource,
    ) -> None:
        self._items = items
        self._sizes = sizes
        self._tokenize = tokenize
        self._settings = settings
        self._plugins = plugins
        self._bus: Bus | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bus": None}

    def __getitem__(self, keys: Sequence[SampleKey]) -> Loaded | LoadFailure:
        """Load one batch; a failure comes back as a value and is raised in the training process."""
        try:
            bus = self._open()
            batch = self._collate(bus, [self._sample(bus, key) for key in keys], keys)
            return Loaded(batch, _take(bus.tallies))
        except PluginError as error:
            return LoadFailure(_with_notes(error), error.plugin, error.signal)
        except Exception as error:
            return LoadFailure(_with_notes(error))

    def close(self) -> None:
        if self._bus is not None:
            self._bus.close()

    def _open(self) -> Bus:
        """This process's own bus, with plugins built here, on first use."""
        if self._bus is None:
            bus = Bus()
            bus.attach(self._plugins.build(self._plugins.tables, self._plugins.folder), where=("worker",))
            if self._settings.time_plugins:
                bus.time_handlers(dict(self._settings.slow_seconds))
            if self._settings.trace is not None:
                bus.trace(self._settings.trace)
            bus.seal()
            self._bus = bus
        return self._bus

    def _sample(self, bus: Bus, key: SampleKey) -> tuple[Tensor, str, SampleSettings]:
        item, size = self._items[key.item], self._sizes[key.item]
        context = SampleContext(
            epoch=key.epoch, sample_id=item.id, repeat=key.repeat, path=item.path, caption=item.caption,
            size=(item.width, item.height), target=size, extras=item.extras,
            rng=Streams(self._settings.seed, "sample", key.epoch, item.id, key.repeat),
        )  # fmt: skip
        try:
            image = read_upright(item.path, self._settings.transparent)
        except Exception as error:
            error.add_note(f"while reading {item.path}; repair or remove the file, or leave it out by data.items")
            raise
        image = bus[SAMPLE_IMAGE].apply(image, context)
        caption = bus[SAMPLE_CAPTION].apply(item.caption, context)
        fitted = fit(image.convert("RGB"), size, self._settings.crop, context.rng.of("crop").py)
        pixels = bus[SAMPLE_PIXELS].apply(to_pixels(fitted), context)
        settings = bus[SAMPLE_SETTINGS].apply(SampleSettings(loss_scale=item.loss_scale, extras=item.extras), context)
        return pixels, caption, settings

    def _collate(
        self, bus: Bus, samples: Sequence[tuple[Tensor, str, SampleSettings]], keys: Sequence[SampleKey]
    ) -> Batch:
        pixels, captions, settings = zip(*samples, strict=True)
        items = [self._items[key.item] for key in keys]
        batch = Batch(
            pixels=torch.stack(pixels),
            tokens=self._tokenize(captions),
            weight=torch.tensor([one.loss_scale for one in settings], dtype=torch.float32),
            keys=tuple(keys),
            sample_ids=tuple(item.id for item in items),
            captions=captions,
            paths=tuple(str(item.path) for item in items),
            extras=tuple(one.extras for one in settings),
        )
        rng = Streams(
            self._settings.seed,
            "batch",
            *(part for key in keys for part in (key.epoch, self._items[key.item].id, key.repeat)),
        )
        context = BatchContext(epoch=keys[0].epoch, sample_ids=batch.sample_ids, rng=rng)
        return bus[BATCH_HOST].apply(batch, context)


def _take(tallies: dict[tuple[str, str, str], Tally]) -> dict[tuple[str, str, str], Tally]:
    """The tallies since the last call, which then count from zero."""
    taken = {key: replace(tally) for key, tally in tallies.items() if tally.calls}
    for tally in tallies.values():
        tally.calls, tally.seconds = 0, 0.0
    return taken


def _with_notes(error: BaseException) -> str:
    text = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
    cause = error.__cause__ if isinstance(error, PluginError) else error
    frames = ""
    if cause is not None and cause.__traceback__ is not None and isinstance(error, PluginError):
        import traceback

        frames = "\n" + "".join(traceback.format_exception(cause)).rstrip()
    return text + "".join(f"\n  {note}" for note in getattr(error, "__notes__", ())) + frames
