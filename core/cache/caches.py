"""The caches of one run: filled before training, read by its workers, and mended when an entry is found damaged.

A cache whose disk is full or fails is done without: the run has the same bits, and takes longer.
"""

import logging
import sqlite3
from functools import partial
from pathlib import Path

from events.payloads import Product

from ..data.samples import Missing, Tokenize
from ..ranks.divided import Divided
from .division import Damaged, OutOfReach, agreed, is_first_here, machine_of
from .latent_pass import LatentPass
from .latents import Latents, PictureRoom
from .parts import CacheParts, Makers, Tally
from .store import Store, is_out_of_reach
from .text import TextEmbeddings
from .text_pass import TextPass

log = logging.getLogger("signalbox.cache")


class Caches:
    """Encoding runs in the training process; pictures are read by workers."""

    def __init__(self, parts: CacheParts, makers: Makers, tokenize: Tokenize) -> None:
        self._parts = parts
        self._makers = makers
        self._latent_pass = LatentPass(parts, makers, Store(store_path(parts.config.cache.dir, "latents")))
        self._text_pass = TextPass(parts, makers, Store(store_path(parts.config.cache.dir, "text")), tokenize)
        self._is_given_up = False

    def fill(self) -> None:
        """Encode whatever is missing. A stop that is asked for meanwhile ends the pass; the next one goes on there.

        Waits for the other ranks, for as long as their parts take them.
        """
        for one in self.passes:
            try:
                self._fill_whole(one)
            except OutOfReach as error:
                one.give_up()
                log.warning("%s", unusable_text(one.store.path, error))

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

    def refill(self, missing: Missing, name: str) -> bool:
        """Encode what a batch of a data set needs and a worker did not find whole.

        False when the disk does not take it; from then on nothing is encoded for a cache any more.
        """
        try:
            if missing.pictures and not self._is_given_up:
                room = PictureRoom(self._makers[name])
                self._latent_pass.encode(name, [room[key] for key in missing.pictures], Tally())
            if missing.captions and not self._is_given_up:
                self._text_pass.encode(missing.captions)
        except (sqlite3.Error, OSError) as error:
            if not is_out_of_reach(error):
                raise
            self._is_given_up = True
            log.warning("%s", unusable_text(self._parts.config.cache.dir, error))
        return not self._is_given_up

    def _fill_whole(self, one: "LatentPass | TextPass") -> None:
        """Fill a store; one that SQLite finds damaged is set aside and made anew."""
        crew = self._parts.crew

        def set_aside(damaged: Damaged, work: Divided) -> None:
            if is_first_here(crew) and machine_of(crew) in damaged.machines:
                one.store.set_aside()

        try:
            one.fill()
        except Damaged as damaged:
            agreed(crew, "leaving a damaged cache", lambda work: one.store.close())
            agreed(crew, "setting aside of a damaged cache", partial(set_aside, damaged))
            one.fill()

    def close(self) -> None:
        self._latent_pass.store.close()
        self._text_pass.store.close()


def store_path(folder: Path, product: Product) -> Path:
    return folder / f"{product}.sqlite"


def unusable_text(place: Path, error: BaseException) -> str:
    return f"{place} cannot be written: {error}; training goes on without what is missing there, and encodes it in each step"
