"""Batches in the order of the plan, made by worker processes that outlive the epoch."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from events.bus import Bus
from events.payloads import Batch, SampleKey

from ..config.tables import DataTable
from ..errors import DataError
from .failures import LoadFailure, raise_failure
from .samples import Missing, Result, SampleRoom
from .workers import Workers

log = logging.getLogger("signalbox.data")


Keys = tuple[SampleKey, ...]


@dataclass(slots=True)
class Loader:
    """Loads the batches of one plan after another."""

    room: SampleRoom
    settings: DataTable
    pin_memory: bool
    bus: Bus
    """The training process's, which learns what the workers' handlers cost."""
    refill: Callable[[Missing], None] | None = None
    """Puts into the caches what a batch needs and they do not hold whole."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Reason by path of the files that others stood in for."""
    _workers: "Workers[Keys, Result] | None" = None

    def batches(self, plan: Iterable[Keys]) -> Iterator[Batch]:
        """The plan's batches, in order.

        Raises PluginError or DataError for what failed while a batch was made, naming the plugin or the file.
        """
        for loaded in self._opened().over(plan):
            yield self._accept(loaded)

    def begin(self) -> None:
        """Start the workers, so that they are ready when the first batch is asked for."""
        self._opened().begin()

    def close(self) -> None:
        """End the workers."""
        if self._workers is not None:
            self._workers.close()
        self._workers = None
        self.room.close()

    def _opened(self) -> "Workers[Keys, Result]":
        if self._workers is None:
            self._workers = Workers(self.room, self.settings, pin_memory=self.pin_memory)
        return self._workers

    def _accept(self, loaded: Result) -> Batch:
        if isinstance(loaded, Missing) and self.refill is not None:
            log.warning("a cache no longer holds %d entries whole; they are made anew", _count(loaded))
            self.refill(loaded)
            loaded = self.room[loaded.keys]
        if isinstance(loaded, Missing):
            raise DataError(f"the caches cannot be filled: {_count(loaded)} entries are missing after they were made")
        if isinstance(loaded, LoadFailure):
            raise_failure(loaded)
        for path, reason in loaded.unreadable:
            self._set_aside(path, reason)
        for key, tally in loaded.tallies.items():
            self.bus.add_tally(key, tally)
        return loaded.batch

    def _set_aside(self, path: str, reason: str) -> None:
        """Name a file that another stands in for; too many of them end the run."""
        if path in self.unreadable:
            return
        self.unreadable[path] = reason
        if len(self.unreadable) > self.settings.most_bad * len(self.room):
            listed = "".join(f"\n  {bad}: {why}" for bad, why in self.unreadable.items())
            raise DataError(
                f"{len(self.unreadable)} of {len(self.room)} pictures cannot be read, more than {self.settings.bad_key}"
                f" allows:{listed}"
            )
        log.warning("another picture stands in for %s, which cannot be used any more: %s", path, reason)


def _count(missing: Missing) -> int:
    return len(missing.pictures) + len(missing.captions)
