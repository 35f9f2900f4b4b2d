"""Batches in the order of the plan, made by worker processes that outlive the epoch."""

import logging
import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch.utils.data import DataLoader, Sampler

from events.bus import Bus
from events.errors import PluginError
from events.payloads import Batch, SampleKey

from ..config import DataTable
from ..errors import DataError
from .plan import Plan
from .samples import Loaded, LoadFailure, SampleRoom

log = logging.getLogger("signalbox.data")


class PlanSampler(Sampler[tuple[SampleKey, ...]]):
    """The batches that are still to come of one epoch."""

    def __init__(self) -> None:
        self.batches: Plan = ()

    def __iter__(self) -> Iterator[tuple[SampleKey, ...]]:
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
    waiting: Waiting = field(default_factory=Waiting)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Reason by path of the files that others stood in for."""
    _sampler: PlanSampler = field(default_factory=PlanSampler)
    _loader: "DataLoader[Loaded | LoadFailure] | None" = None

    def batches(self, plan: Plan) -> Iterator[Batch]:
        """The plan's batches, in order.

        Raises PluginError or DataError for what failed while a batch was made, naming the plugin or the file.
        """
        self._sampler.batches = plan
        if self._loader is None:
            self._loader = self._open()
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

    def _open(self) -> "DataLoader[Loaded | LoadFailure]":
        workers = self.settings.workers
        context = None
        if workers:
            context = multiprocessing.get_context(self.settings.start_method)
            if self.settings.start_method == "forkserver":
                context.set_forkserver_preload([SampleRoom.__module__])
        return DataLoader(
            self.room,
            batch_size=None,  # the sampler yields whole batches of keys
            sampler=self._sampler,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # without a batch size it gets one value, not a list
            num_workers=workers,
            prefetch_factor=self.settings.prefetch if workers else None,
            persistent_workers=workers > 0,
            multiprocessing_context=context,
            timeout=self.settings.timeout_seconds if workers else 0,
            pin_memory=self.pin_memory,
            worker_init_fn=_leave_signals_to_training,
            generator=torch.Generator(),  # else each epoch draws a seed for the workers from the global one
        )

    def _accept(self, loaded: Loaded | LoadFailure) -> Batch:
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


def _leave_signals_to_training(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the training process finishes its step and then ends the workers."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _as_it_is(loaded: Loaded | LoadFailure) -> Loaded | LoadFailure:
    return loaded
