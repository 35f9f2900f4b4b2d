"""Batches in the order of the plan, made by worker processes that outlive the epoch."""

import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from events.bus import Bus
from events.errors import PluginError
from events.payloads import Batch, SampleKey

from ..config import DataTable
from ..errors import DataError
from .samples import LoadFailure, Missing, Result, SampleRoom

log = logging.getLogger("signalbox.data")


Keys = tuple[SampleKey, ...]


class PlanSampler(Sampler[Keys]):
    """The batches that are still to come of one epoch."""

    def __init__(self) -> None:
        self.batches: Sequence[Keys] = ()

    def __iter__(self) -> Iterator[Keys]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@dataclass(slots=True)
class Waiting:
    """How long the loop waited for batches."""

    since: float = field(default_factory=perf_counter)
    seconds: float = 0.0


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
    waiting: Waiting = field(default_factory=Waiting)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Reason by path of the files that others stood in for."""
    _sampler: PlanSampler = field(default_factory=PlanSampler)
    _loader: "DataLoader[Result] | None" = None

    def batches(self, plan: Sequence[Keys]) -> Iterator[Batch]:
        """The plan's batches, in order.

        Raises PluginError or DataError for what failed while a batch was made, naming the plugin or the file.
        """
        self._sampler.batches = plan
        if self._loader is None:
            self._loader = open_workers(self.room, self._sampler, self.settings, pin_memory=self.pin_memory)
        iterator = iter(self._loader)
        while True:
            started = perf_counter()
            try:
                loaded = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:
                raise DataError(f"a loader worker ended or took over data.timeout_seconds: {error}") from error
            self.waiting.seconds += perf_counter() - started
            yield self._accept(loaded)

    def close(self) -> None:
        """End the workers."""
        self._loader = None
        self.room.close()

    def _accept(self, loaded: Result) -> Batch:
        if isinstance(loaded, Missing) and self.refill is not None:
            log.warning("a cache no longer holds %d entries whole; they are made anew", _count(loaded))
            self.refill(loaded)
            loaded = self.room[loaded.keys]
        if isinstance(loaded, Missing):
            raise DataError(f"the caches cannot be filled: {_count(loaded)} entries are missing after they were made")
        if isinstance(loaded, LoadFailure):
            if loaded.kind == "plugin":
                raise PluginError(loaded.text, plugin=loaded.plugin, signal=loaded.signal)
            raise DataError(loaded.text) if loaded.kind == "data" else RuntimeError(loaded.text)
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
        log.warning("another picture stands in for %s, which cannot be read any more: %s", path, reason)
        most = self.settings.max_bad_fraction * len(self.room)
        if len(self.unreadable) > most:
            listed = "".join(f"\n  {bad}: {why}" for bad, why in self.unreadable.items())
            raise DataError(
                f"{len(self.unreadable)} of {len(self.room)} pictures cannot be read, more than data.max_bad_fraction ="
                f" {self.settings.max_bad_fraction} allows:{listed}"
            )


def open_workers(
    room: Any, sampler: Any, settings: DataTable, *, pin_memory: bool = False, persistent: bool = True
) -> "DataLoader[Any]":
    """A DataLoader of worker processes that hands each value of the sampler to the room."""
    workers, context = settings.workers, None
    if workers:
        context = multiprocessing.get_context(settings.start_method)
        if settings.start_method == "forkserver":
            context.set_forkserver_preload([SampleRoom.__module__])
    return DataLoader(
        room,
        batch_size=None,  # the sampler yields whole batches of keys
        sampler=sampler,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=settings.prefetch if workers else None,
        persistent_workers=persistent and workers > 0,
        multiprocessing_context=context,
        timeout=settings.timeout_seconds if workers else 0,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_training,
        generator=torch.Generator(),  # else each epoch draws a seed for the workers from the global one
    )


def _leave_signals_to_training(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the training process finishes its step and then ends the workers."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _count(missing: Missing) -> int:
    return len(missing.pictures) + len(missing.captions)
