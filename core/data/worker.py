"""What a loader worker does, in a process of its own: make a result of each task, and leave a note of what it is at."""

import faulthandler
import random
import signal
from collections.abc import Iterator, MutableSequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

import numpy
import torch

from .failures import LoadFailure, failure_of
from .maker import NOWHERE, SampleMaker

READY = -1
"""Sent in the place of a task's number when a worker has begun."""
T = TypeVar("T", contravariant=True)
R = TypeVar("R", covariant=True)


class Room(Protocol[T, R]):
    """Makes a result of a task; picklable. Its maker's `at_work` tells which item it is at."""

    @property
    def maker(self) -> SampleMaker: ...
    def __getitem__(self, task: T, /) -> R: ...


def work(pipe: "Connection[Any, Any]", stacks: "Connection[Any, Any]", at_work: MutableSequence[int]) -> None:
    """Receive a room and then tasks with their numbers; send each number back with its result, in order.

    Ends when the training process closes the pipe or is no more. When it crashes, and at SIGUSR1, it writes what each of
    its threads is doing to `stacks`.
    """
    _leave_signals_to_training()
    faulthandler.enable(file=stacks.fileno())
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, file=stacks.fileno())
    torch.set_num_threads(1)
    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(0)  # what draws from them all the same does so alike in every run
    with suppress(EOFError, OSError):
        room = _room(pipe, at_work)
        pipe.send(READY)
        for number, task in _tasks(pipe):
            _answer(pipe, number, _made(room, task))
            at_work[0] = NOWHERE


def _room(pipe: "Connection[Any, Any]", at_work: MutableSequence[int]) -> "Room[Any, Any] | LoadFailure":
    try:
        room: Room[Any, Any] = pipe.recv()
        room.maker.at_work = at_work
        return room
    except (EOFError, OSError):
        raise
    except BaseException as error:  # whatever importing a plugin's module may do
        return failure_of(error)


def _tasks(pipe: "Connection[Any, Any]") -> Iterator[tuple[int, Any]]:
    while True:
        yield pipe.recv()


def _made(room: "Room[Any, Any] | LoadFailure", task: Any) -> Any:
    if isinstance(room, LoadFailure):
        return room
    try:
        return room[task]
    except BaseException as error:  # a plugin that calls sys.exit() too
        return failure_of(error)


def _answer(pipe: "Connection[Any, Any]", number: int, result: Any) -> None:
    pipe.send(number)
    try:
        pipe.send(result)
    except OSError:
        raise
    except Exception as error:  # a result that cannot travel; none of it has been sent
        pipe.send(failure_of(error))


def _leave_signals_to_training() -> None:
    """Ctrl-C reaches the whole process group; the training process finishes its step and then ends the workers."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
