"""Worker processes that turn tasks into results, in the order of the tasks. One that dies is replaced, one that hangs is named.

Each has a pipe of its own, so that nothing half-written by one that was killed stands in the way of the others, and what
it had still to do can be given to the one that takes its place. Results follow from their tasks alone, so neither the
number of workers nor a death among them changes any.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing.connection import wait
from time import monotonic
from typing import Any, Generic, TypeVar

import torch

from events.payloads import SampleKey

from ..config.tables import DataTable
from ..errors import DataError
from .failures import LoadFailure, failure_of, raise_failure
from .fork_server import context_of
from .maker import NOWHERE
from .processes import STACK_SECONDS, Worker, ask_for_stack, ending_of, send, stack_of, start, wait_for_all
from .worker import READY, Room

log = logging.getLogger("signalbox.data")
START_SECONDS = 120.0
"""What a worker may take for its start beyond data.timeout_seconds: it imports torch."""
CLOSE_SECONDS = 1.0
"""What workers are given to end by themselves."""
MOST_NAMED = 3
T = TypeVar("T")
R = TypeVar("R")


class Workers(Generic[T, R]):
    """Processes that outlive the epoch, one room in each; without any, results are made here."""

    def __init__(self, room: Room[T, R], settings: DataTable, *, pin_memory: bool = False) -> None:
        """`pin_memory` has results page-locked, so that their copy to the current CUDA device does not wait."""
        self._room, self._settings, self._pin = room, settings, pin_memory
        self._workers: list[Worker] = []
        self._next = 0
        """The number of the task that is given out next."""
        self._deaths: set[int] = set()
        """Numbers of the tasks that a worker has died at."""
        self._results: dict[int, R | LoadFailure] = {}
        self._first = 0
        """Results of tasks with lower numbers are no longer wanted."""
        self._news = threading.Condition()
        """Guards results, `_first` and what is heard of workers."""
        self._is_closing = False
        self._broken: Exception | None = None
        """What ended the receiving thread, if anything did."""
        self._receiver: threading.Thread | None = None

    def begin(self) -> None:
        """Start the processes, which get ready by themselves; `over` does it where nobody has."""
        if self._settings.workers and not self._workers:
            self._open()

    def over(self, tasks: Iterable[T]) -> Iterator[R]:
        """The result of each task, in order; what was asked before and not taken is dropped.

        Raises PluginError, DataError or RuntimeError for what failed while a result was made, and DataError when a
        worker dies twice at one task or takes over data.timeout_seconds for it.
        """
        if not self._settings.workers:
            for task in tasks:
                yield self._taken(self._pinned(self._room[task]))
            return
        self.begin()
        with self._news:
            self._first = self._next
            self._results.clear()
        remaining, most = iter(tasks), self._settings.workers * self._settings.prefetch
        awaited: deque[int] = deque()
        while True:
            awaited.extend(self._give(task) for task in islice(remaining, most - len(awaited)))
            if not awaited:
                return
            yield self._taken(self._await(awaited.popleft()))

    def close(self) -> None:
        """End the processes; one that does not is killed."""
        if self._receiver is None:
            return
        with self._news:
            self._is_closing = True
        self._wake()
        self._receiver.join(CLOSE_SECONDS)
        for worker in self._workers:
            worker.pipe.close()
        wait_for_all([worker.process.sentinel for worker in self._workers], CLOSE_SECONDS)
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            worker.stacks.close()
        self._receiver.join()
        self._waker.close()
        self._woken.close()
        self._workers.clear()
        self._receiver = None

    def _open(self) -> None:
        self._context = context_of(self._settings)
        self._woken, self._waker = self._context.Pipe(duplex=False)
        self._is_closing = False
        self._workers = [start(self._context) for _ in range(self._settings.workers)]
        for worker in self._workers:
            send(worker, self._room)
        device = torch.cuda.current_device() if self._pin else None
        self._receiver = threading.Thread(
            target=self._receive, args=(device,), name="batches from workers", daemon=True
        )
        self._receiver.start()

    def _give(self, task: T) -> int:
        """Hand a task to the worker whose turn it is; returns its number."""
        number, self._next = self._next, self._next + 1
        worker = self._of(number)
        with self._news:
            worker.outstanding.append((number, task))
        send(worker, (number, task))
        return number

    def _of(self, number: int) -> Worker:
        return self._workers[number % len(self._workers)]

    def _await(self, number: int) -> R | LoadFailure:
        """The result of a task; workers that have died meanwhile are replaced. Raises DataError, see `over`."""
        begun = monotonic()
        while True:
            with self._news:
                if number in self._results:
                    return self._results.pop(number)
                if self._broken is not None:
                    raise self._broken
                gone = [place for place, worker in enumerate(self._workers) if worker.is_gone]
                left = self._seconds_left(self._of(number), begun)
                if not gone and left > 0:
                    self._news.wait(min(left, 1.0))
                    continue
            if not gone:
                self._give_up(self._of(number))
            for place in gone:
                self._replace(place)

    def _seconds_left(self, worker: Worker, begun: float) -> float:
        if not self._settings.timeout_seconds:
            return 1.0
        limit = self._settings.timeout_seconds + (0 if worker.is_ready else START_SECONDS)
        return max(begun, worker.heard) + limit - monotonic()

    def _taken(self, result: R | LoadFailure) -> R:
        if isinstance(result, LoadFailure):
            raise_failure(result)
        return result

    def _pinned(self, result: R) -> R:
        pin = getattr(result, "pin_memory", None) if self._pin else None
        return pin() if pin is not None else result

    # what the receiving thread does

    def _receive(self, device: int | None) -> None:
        """On `device`, where results are pinned: CUDA begins each thread on device 0, which is another rank's."""
        try:
            if device is not None:
                torch.cuda.set_device(device)
            self._receive_all()
        except Exception as error:
            with self._news:
                self._broken = error
                self._news.notify_all()

    def _receive_all(self) -> None:
        """Take in what workers have made, as soon as it is there, and note which of them are gone."""
        while True:
            with self._news:
                if self._is_closing:
                    return
                known = [worker for worker in self._workers if not worker.is_gone]
            watched: dict[Any, Worker] = {worker.pipe: worker for worker in known}
            watched |= {worker.process.sentinel: worker for worker in known}
            ready = wait([self._woken, *watched])
            if self._woken in ready:
                self._woken.recv_bytes()
            for worker in {id(watched[one]): watched[one] for one in ready if one is not self._woken}.values():
                self._hear(worker)

    def _hear(self, worker: Worker) -> None:
        is_over = False
        try:
            is_over = bool(wait([worker.process.sentinel], 0))  # asked first: what it sent before is still in the pipe
            while worker.pipe.poll():
                self._take_in(worker)
        except (EOFError, OSError):
            is_over = True
        if is_over:
            with self._news:
                worker.is_gone = True
                self._news.notify_all()

    def _take_in(self, worker: Worker) -> None:
        """One result. Raises EOFError or OSError when the worker is gone."""
        number: int = worker.pipe.recv()
        result: R | LoadFailure | None = None if number == READY else self._received(worker)
        with self._news:
            worker.heard, worker.is_ready = monotonic(), True
            if result is not None:
                worker.outstanding.popleft()
                if number >= self._first:
                    self._results[number] = result
            self._news.notify_all()

    def _received(self, worker: Worker) -> R | LoadFailure:
        try:
            return self._pinned(worker.pipe.recv())
        except Exception as error:
            if isinstance(error, EOFError | OSError) and wait([worker.process.sentinel], 0.1):
                raise
            return failure_of(error)

    def _wake(self) -> None:
        self._waker.send_bytes(b"!")

    # death and sleep

    def _replace(self, place: int) -> None:
        """Start another in the place of one that died, with what that one had still to do.

        Raises DataError when another has died at the same task before.
        """
        worker = self._workers[place]
        worker.process.join()
        died = f"a loader worker (pid {worker.process.pid}) {ending_of(worker.process.exitcode)}"
        number = worker.outstanding[0][0] if worker.outstanding else self._next
        at, stack = self._name(worker), stack_of(worker, 0)
        if number in self._deaths:
            raise DataError(
                f"{died} while it was at {at}, and so did the one before it; take that picture out, or look at the"
                f" plugins that change samples{stack}"
            )
        self._deaths.add(number)
        log.warning("%s while it was at %s; another takes its place and goes on there%s", died, at, stack)
        worker.pipe.close()
        worker.stacks.close()
        new = start(self._context)
        send(new, self._room)
        with self._news:
            new.outstanding.extend(task for task in worker.outstanding if task[0] >= self._first)
            self._workers[place] = new
        for task in tuple(new.outstanding):
            send(new, task)
        self._wake()

    def _give_up(self, worker: Worker) -> None:
        """Raises DataError with what a worker that hangs is at, after killing all of them."""
        pid, seconds = worker.process.pid, self._settings.timeout_seconds
        ask_for_stack(worker)
        at, stack = self._name(worker), stack_of(worker, STACK_SECONDS)
        for one in self._workers:
            one.process.kill()
        raise DataError(
            f"a loader worker (pid {pid}) has been at {at} for longer than data.timeout_seconds = {seconds}; take that"
            f" picture out, look at the plugins that change samples, or allow for more time{stack}"
        )

    def _name(self, worker: Worker) -> str:
        """What a worker is at: a picture, or all those of its batch when it is between them."""
        items, at = self._room.maker.items, worker.at_work[0]
        if at != NOWHERE:
            return str(items[at].path)
        if not worker.outstanding:
            return "its start" if not worker.is_ready else "nothing"
        task: Any = worker.outstanding[0][1]
        keys = (task,) if isinstance(task, SampleKey) else tuple(task)
        more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
        return f"the batch of {', '.join(str(items[key.item].path) for key in keys[:MOST_NAMED])}{more}"
