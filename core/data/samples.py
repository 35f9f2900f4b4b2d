"""The room where samples are made: in each loader worker, or in the training process when there are none.

A worker gets (settings, plugin tables) and builds its plugins itself; live plugins are never pickled. The same code
runs in every process, so a batch's bytes do not depend on how many workers there are (P12).
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from events.bus import Bus, Tally
from events.catalogue import BATCH_HOST, SAMPLE_CAPTION, SAMPLE_IMAGE, SAMPLE_PIXELS, SAMPLE_SETTINGS
from events.errors import PluginError
from events.payloads import Batch, BatchContext, Item, SampleContext, SampleKey, SampleSettings
from events.randomness import Streams

from ..config import PluginSource
from ..errors import DataError
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A batch, with what went wrong and what the worker's handlers cost while it was made."""

    batch: Batch
    unreadable: tuple[tuple[str, str], ...] = ()
    """(path, reason) of each file that another picture stands in for."""
    tallies: Mapping[tuple[str, str, str], Tally] = field(default_factory=dict)

    def pin_memory(self) -> "Loaded":
        """Page-locked copies, so that the copy to the device does not wait; called by torch's pinning thread."""
        batch = replace(
            self.batch,
            pixels=self.batch.pixels.pin_memory(),
            tokens={name: ids.pin_memory() for name, ids in self.batch.tokens.items()},
            weight=self.batch.weight.pin_memory(),
        )
        return replace(self, batch=batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailure:
    """An exception as text and plain values, since not every exception survives the way between processes."""

    kind: Literal["plugin", "data", "bug"]
    text: str
    plugin: str = ""
    signal: str = ""


STAND_IN = 1_000_000
"""`repeat` of a picture that stands in for an unreadable one counts from here, so that its draws are its own."""
STAND_INS_TRIED = 8


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
        self._unreadable: list[tuple[str, str]] = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bus": None}

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, keys: Sequence[SampleKey]) -> Loaded | LoadFailure:
        """Load one batch; a failure comes back as a value and is raised in the training process."""
        self._unreadable = []
        try:
            bus = self._open()
            read = [self._read(key) for key in keys]
            samples = [self._sample(bus, key, image) for key, image in read]
            batch = self._collate(bus, samples, [key for key, _ in read])
            return Loaded(batch=batch, unreadable=tuple(self._unreadable), tallies=_take(bus.tallies))
        except PluginError as error:
            return LoadFailure(kind="plugin", text=_in_full(error), plugin=error.plugin, signal=error.signal)
        except DataError as error:
            return LoadFailure(kind="data", text=str(error))
        except Exception as error:
            return LoadFailure(kind="bug", text=_in_full(error))

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

    def _read(self, key: SampleKey) -> tuple[SampleKey, Image.Image]:
        """The key's picture, or the first readable one of a reserve that follows from the key alone, with its own key.

        Raises DataError when none of the reserve can be read either.
        """
        size = self._sizes[key.item]
        bucket = [index for index, other in enumerate(self._sizes) if other == size and index != key.item]
        item = self._items[key.item]
        Streams(self._settings.seed, "reserve", key.epoch, item.id, key.repeat).py.shuffle(bucket)
        for index in (key.item, *bucket[:STAND_INS_TRIED]):
            path = self._items[index].path
            try:
                image = read_upright(path, self._settings.transparent)
            except Exception as error:  # Pillow raises many kinds for bad bytes
                self._unreadable.append((str(path), f"{type(error).__name__}: {error}"))
                continue
            stands_in = index != key.item
            return (SampleKey(key.epoch, index, STAND_IN + key.item) if stands_in else key), image
        listed = "".join(f"\n  {path}: {reason}" for path, reason in self._unreadable)
        raise DataError(f"neither these pictures nor any that could stand in for them can be read:{listed}")

    def _sample(self, bus: Bus, key: SampleKey, image: Image.Image) -> tuple[Tensor, str, SampleSettings]:
        item, size = self._items[key.item], self._sizes[key.item]
        context = SampleContext(
            epoch=key.epoch, sample_id=item.id, repeat=key.repeat, path=item.path, caption=item.caption,
            size=(item.width, item.height), target=size, extras=item.extras,
            rng=Streams(self._settings.seed, "sample", key.epoch, item.id, key.repeat),
        )  # fmt: skip
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


def _in_full(error: BaseException) -> str:
    """The message, and the traceback of what a plugin or we did wrong."""
    cause = error.__cause__ or error
    return f"{error}\n" + "".join(traceback.format_exception(cause)).rstrip()
