"""The caches of one run: filled before training, read by its workers, and mended when an entry is found damaged."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from events.payloads import Product

from ..data.samples import Missing, Tokenize
from .latent_pass import LatentPass
from .latents import Latents, PictureRoom
from .parts import CacheParts, Makers, Tally
from .store import Store, is_damage
from .text import TextEmbeddings
from .text_pass import TextPass


class Caches:
    """Encoding runs in the training process; pictures are read by workers."""

    def __init__(self, parts: CacheParts, makers: Makers, tokenize: Tokenize) -> None:
        self._parts = parts
        self._makers = makers
        self._latent_pass = LatentPass(parts, makers, Store(store_path(parts.config.cache.dir, "latents")))
        self._text_pass = TextPass(parts, makers, Store(store_path(parts.config.cache.dir, "text")), tokenize)

    def fill(self) -> None:
        """Encode whatever is missing. A stop that is asked for meanwhile ends the pass; the next one goes on there."""
        for one in self.passes:
            _whole(one.store, one.fill)

    @property
    def passes(self) -> "tuple[LatentPass | TextPass, ...]":
        """Those that the config switches on."""
        table = self._parts.config.cache
        switched = ((table.latents, self._latent_pass), (table.text, self._text_pass))
        return tuple(one for is_on, one in switched if is_on)

    def latents(self, name: str) -> Latents | None:
        """What workers read of a data set, where its latents are cached."""
        return self._latent_pass.latents.get(name)

    @property
    def text(self) -> TextEmbeddings | None:
        return self._text_pass.text

    def refill(self, missing: Missing, name: str) -> None:
        """Encode what a batch of a data set needs and a worker did not find whole."""
        if missing.pictures:
            room = PictureRoom(self._makers[name])
            self._latent_pass.encode(name, [room[key] for key in missing.pictures], Tally())
        if missing.captions:
            self._text_pass.encode(missing.captions)

    def close(self) -> None:
        self._latent_pass.store.close()
        self._text_pass.store.close()


def store_path(folder: Path, product: Product) -> Path:
    return folder / f"{product}.sqlite"


def _whole(store: Store, fill: Callable[[], None]) -> None:
    """Fill a store; one that SQLite finds damaged is set aside and made anew."""
    try:
        fill()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        store.set_aside()
        fill()
