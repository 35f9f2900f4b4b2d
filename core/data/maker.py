"""What one process makes of an item: the picture and the caption after every plugin, at their place in the run.

A process gets (settings, plugin tables) and builds its plugins itself; live plugins are never pickled. The same code
runs in every process, so a sample's bytes do not depend on how many workers there are (P12).
"""

from collections.abc import Callable, Mapping, MutableSequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from events.bus import Bus, Tally
from events.catalogue import SAMPLE_CAPTION, SAMPLE_CROP, SAMPLE_IMAGE, SAMPLE_PIXELS, SAMPLE_SETTINGS
from events.payloads import Crop, Item, SampleContext, SampleKey, SampleSettings
from events.ranks import ALONE, Ranks
from events.watchdog import Running

from ..attached.guards import handler_guards
from ..config.tables import DataTable, PluginSource
from ..errors import DataError
from ..pictures.facts import FileFacts
from ..pictures.images import Box, Picture, corner, crop_box, mask_values, read_picture, resize, to_pixels
from .buckets import Geometry, Size
from .draws import CROP, SampleDraws
from .table import ItemTable

Watch = Callable[[str], None]
"""Told what a handler of pictures reads of its sample beyond the picture itself."""
NOWHERE = -1
"""In the place of an item's number, between samples."""
BEYOND_THE_PICTURE = frozenset({"caption", "sample_id", "path", "epoch", "repeat", "settings", "extras"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MakerSettings:
    """What the config says about making samples."""

    seed: int
    data: DataTable
    latent_scale: int
    """Sides of pictures over those of their latents."""
    time_plugins: bool = False
    guard_plugins: bool = False
    slow_seconds: Mapping[str, float] = field(default_factory=dict)
    trace: Path | None = None
    ranks: Ranks = ALONE
    """What plugins are told of the processes of the run, of which this one belongs to one."""
    validation: bool = False
    """Without augmentation and dropout: centre crop, no mirroring, no handler that is `training_only`."""

    def flip_p(self, item: Item) -> float:
        own = item.settings.flip_p
        return 0.0 if self.validation else self.data.flip_p if own is None else own

    def random_choices(self, item: Item) -> str:
        """Which key of the config makes the trainer's own choices random; empty when none does."""
        if self.data.variations or self.validation:
            return ""
        if self.data.crop != "centre":
            return f"data.crop = {self.data.crop!r}"
        return "flip_p" if 0 < self.flip_p(item) < 1 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encodable:
    """A picture as the image encoder takes it."""

    pixels: Tensor
    """(3, H, W) float32 in [-1, 1]."""
    mask: Tensor | None
    """(1, h, w) float32 in [0, 1], in the latents' size."""
    geometry: tuple[int, ...]
    """Upright original height and width, top and left of the crop, height and width of the bucket, in pixels."""
    box: Box
    """What is shown of the picture, as it was before it was turned over."""
    mirrored: bool
    upside_down: bool


class WatchedContext(SampleContext):
    """Tells what a handler reads of it, so that a cached latent is keyed on that too."""

    __slots__ = ("_watch",)

    def watched_by(self, watch: Watch) -> "WatchedContext":
        object.__setattr__(self, "_watch", watch)
        return self

    def __getattribute__(self, name: str) -> Any:
        if name in BEYOND_THE_PICTURE:
            object.__getattribute__(self, "_watch")(name)
        return object.__getattribute__(self, name)

    def for_handler(self, plugin: str, signal: str) -> "WatchedContext":
        get = object.__getattribute__
        own = {name: get(self, name) for name in SampleContext.__dataclass_fields__}
        own["rng"] = own["rng"].of(plugin, signal)
        return WatchedContext(**own).watched_by(get(self, "_watch"))


class SampleMaker:
    """Builds the plugins of this process on first use and hands samples through them."""

    def __init__(
        self,
        items: ItemTable,
        geometry: Geometry,
        settings: MakerSettings,
        plugins: PluginSource,
        running: list[Running] | None = None,
    ) -> None:
        """`running` is the list of the training process's bus, whose watchdog then sees handlers that run there."""
        self.items, self.geometry, self.settings = items, geometry, settings
        self.plugins = plugins
        self._running = running
        self._bus: Bus | None = None
        self.drawn: set[str] = set()
        """Plugins that have drawn without `variations` since this was last cleared."""
        self.read: set[str] = set()
        """What handlers of pictures have read of their samples beyond the picture."""
        self.at_work: MutableSequence[int] = [NOWHERE]
        """The number of the item that is being made, which a worker shares with the training process."""

    def __getstate__(self) -> dict[str, Any]:
        unset: dict[str, Any] = {"_bus": None, "_running": None, "drawn": set(), "read": set(), "at_work": [NOWHERE]}
        return self.__dict__ | unset

    @property
    def bus(self) -> Bus:
        """This process's own, with plugins built here."""
        if self._bus is None:
            bus, settings = Bus(running=self._running, ranks=self.settings.ranks), self.settings
            plugins = self.plugins.build(self.plugins.tables, self.plugins.folder)
            bus.attach(plugins, where=("worker",), validation=settings.validation)
            if settings.time_plugins:
                bus.time_handlers(dict(settings.slow_seconds))
            if settings.guard_plugins:
                bus.guard(*handler_guards())
            if settings.trace is not None:
                bus.trace(settings.trace)
            bus.seal()
            self._bus = bus
        return self._bus

    def close(self) -> None:
        if self._bus is not None:
            self._bus.close()

    def makes_choices(self) -> bool:
        """Whether the trainer itself chooses crops or mirrors at random."""
        if self.settings.validation:
            return False
        return self.settings.data.crop != "centre" or any(0 < self.settings.flip_p(item) < 1 for item in self.items)

    def size_of(self, key: SampleKey) -> Size:
        return self.geometry.size_of(key.item, key.epoch, key.repeat)

    def shown(self, key: SampleKey) -> int:
        """How often the run has shown the item at this size before, which variations count by."""
        return self.geometry.variation(key.item, key.epoch, key.repeat)

    def read_file(self, item: Item, target: Size, known: FileFacts | None = None) -> Picture:
        """The item's file. Raises whatever Pillow finds wrong with it, and Refused where it is not what is `known`."""
        data = self.settings.data
        wanted = target if data.decode == "scaled" else None
        return read_picture(item.path, transparent=data.transparent, mask=item.mask, target=wanted, known=known)

    def picture(self, key: SampleKey, item: Item, picture: Picture) -> Encodable:
        """The picture after `sample.image`, `sample.crop`, the crop itself and `sample.pixels`."""
        target, bus = self.size_of(key), self.bus
        context = self._context(WatchedContext, key, item, target).watched_by(self.read.add)
        image = bus[SAMPLE_IMAGE].apply(picture.image, context)
        is_resized = image.size != picture.image.size
        if picture.mask is not None and is_resized:
            raise DataError(
                f"a sample.image plugin made {item.id} {image.size} from {picture.image.size}, and its mask no longer"
                " fits; leave the size as it is and choose a part by sample.crop, or set data.masks = 'none'"
            )
        size, whole = (image.size, None) if is_resized else (picture.size, picture.size)
        crop = bus[SAMPLE_CROP].apply(self._own_crop(item, size, target, context), context)
        box = Box(max(0.0, crop.left), max(0.0, crop.top), crop.right, crop.bottom)

        def shown(image: Image.Image) -> Image.Image:
            return resize(image, box, target, mirror=crop.mirrored, upside_down=crop.upside_down, whole=whole)

        pixels = bus[SAMPLE_PIXELS].apply(to_pixels(shown(_rgb(image))), context)
        top, left = corner(box, size, target, mirrored=crop.mirrored, upside_down=crop.upside_down)
        return Encodable(
            pixels=pixels,
            mask=None if picture.mask is None else self._mask(shown(picture.mask), target),
            geometry=(picture.size[1], picture.size[0], top, left, target[1], target[0]),
            box=box,
            mirrored=crop.mirrored,
            upside_down=crop.upside_down,
        )

    def caption(self, key: SampleKey, item: Item) -> str:
        """The caption after `sample.caption`."""
        return self.bus[SAMPLE_CAPTION].apply(item.caption, self._context(SampleContext, key, item, self.size_of(key)))

    def sample_settings(self, key: SampleKey, item: Item) -> SampleSettings:
        """Loss scale and extras after `sample.settings`."""
        settings = SampleSettings(loss_scale=item.settings.loss_scale, extras=item.extras)
        return self.bus[SAMPLE_SETTINGS].apply(settings, self._context(SampleContext, key, item, self.size_of(key)))

    def take_tallies(self) -> dict[tuple[str, str, str], Tally]:
        """What each handler has cost since the last call."""
        tallies = self.bus.tallies
        taken = {key: replace(tally) for key, tally in tallies.items() if tally.calls}
        for tally in tallies.values():
            tally.calls, tally.seconds = 0, 0.0
        return taken

    def _context(self, kind: Any, key: SampleKey, item: Item, target: Size) -> Any:
        variations = {table.name: table.variations for table in self.plugins.tables if table.variations}
        draws = SampleDraws(
            self.settings.seed, key, item.id, shown=self.shown(key), note=self.drawn.add,
            variations=variations | ({CROP: self.settings.data.variations} if self.settings.data.variations else {}),
        )  # fmt: skip
        return kind(
            epoch=key.epoch, sample_id=item.id, repeat=key.repeat, path=item.path, caption=item.caption,
            size=(item.width, item.height), target=target, settings=item.settings, extras=item.extras, rng=draws,
        )  # fmt: skip

    def _own_crop(self, item: Item, size: Size, target: Size, context: WatchedContext) -> Crop:
        """What the config says of crop and mirroring."""
        random = object.__getattribute__(context, "rng").of(CROP, "crop").py
        crop = "centre" if self.settings.validation else self.settings.data.crop
        box = crop_box(size, target, crop, random)
        flip_p = self.settings.flip_p(item)
        mirrored = flip_p > 0 and (flip_p >= 1 or random.random() < flip_p)
        return Crop(left=box.left, top=box.top, right=box.right, bottom=box.bottom, mirrored=mirrored)

    def _mask(self, mask: Image.Image, target: Size) -> Tensor:
        scale = self.settings.latent_scale
        return mask_values(mask, (target[0] // scale, target[1] // scale))


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")
