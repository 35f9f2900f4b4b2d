"""Plugins that do what no plugin should, each in one way that its settings choose."""

import asyncio
import ctypes
import importlib
import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from events import Plugin, PluginSettings, on
from events.catalogue import CATALOGUE
from events.marks import Mark
from events.payloads import EpochEnd, EpochStart
from events.plugin import Subscription

SPECS = {spec.name: spec for spec in CATALOGUE}
LONG_SECONDS = 60
IS_MENDED = False
"""Set before a run in which every plugin behaves."""


def fail() -> None:
    raise ValueError("broken on purpose")


def leave() -> None:
    raise SystemExit(3)


def compute() -> None:
    while True:
        pass


def read_pipe() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as stream, os.fdopen(writing, "wb"):
        stream.read(1)


def read_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.recv(1)


def wait_for_lock() -> None:
    lock = threading.Lock()
    with lock, lock:
        pass


def call_into_c() -> None:
    """A call outside Python that a signal ends, as it ends most calls that wait for something."""
    ctypes.CDLL(None).usleep(LONG_SECONDS * 1_000_000)


def sleep_through_errors() -> None:
    while True:
        with suppress(Exception):
            time.sleep(LONG_SECONDS)


KEPT: list[bytes] = []


def draw_from_torch() -> None:
    importlib.import_module("torch").rand(1)


def draw_from_numpy() -> None:
    importlib.import_module("numpy").random.rand()


def leave_grad_off() -> None:
    importlib.import_module("torch").set_grad_enabled(False)


def change_dtype() -> None:
    torch = importlib.import_module("torch")
    torch.set_default_dtype(torch.float64)


def change_threads() -> None:
    torch = importlib.import_module("torch")
    torch.set_num_threads(torch.get_num_threads() + 1)


def take_signal() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def print_much() -> None:
    for _ in range(1024):
        print("x" * 1023)


DEEDS: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "raise": fail,
    "exit": leave,
    "slow": lambda: time.sleep(1),
    "sleep": lambda: time.sleep(LONG_SECONDS),
    "compute": compute,
    "pipe": read_pipe,
    "socket": read_socket,
    "lock": wait_for_lock,
    "c": call_into_c,
    "swallow": sleep_through_errors,
    "leak": lambda: KEPT.append(os.urandom(1 << 20)),
    "torch": draw_from_torch,
    "numpy": draw_from_numpy,
    "random": random.random,
    "grad": leave_grad_off,
    "dtype": change_dtype,
    "threads": change_threads,
    "signal": take_signal,
    "print": print_much,
}


class Misbehaving(Plugin):
    """At one signal, does one thing, from its `at`-th call on, or in that alone."""

    class Settings(PluginSettings):
        signal: str
        does: str = "raise"
        at: int = 1
        again: bool = True
        """In the calls after it too."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._calls = 0

    def subscriptions(self) -> Iterator[Subscription]:
        spec = SPECS[self.settings.signal]
        name = "look_on" if spec.kind == "notification" else "change"
        yield Subscription(
            mark=Mark(kind=spec.kind, signal=spec.name), method=getattr(self, name),
            written=getattr(type(self), name), label=f"{type(self).__name__}.{name}",
        )  # fmt: skip

    def look_on(self, event: Any) -> None:
        if self.is_time():
            DEEDS[self.settings.does]()

    def change(self, value: Any, context: Any) -> Any:
        if self.is_time():
            DEEDS[self.settings.does]()
        return value

    def is_time(self) -> bool:
        self._calls += 1
        is_time = self._calls >= self.settings.at if self.settings.again else self._calls == self.settings.at
        return is_time and not IS_MENDED


def broken_loss(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: loss(*arguments)[:, None]


def broken_noise(noise: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: noise(*arguments)[:, :1]


RETURNED: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "nothing": ("sample.caption", lambda caption: None, "expected str, got None; is there a `return` missing?"),
    "another type": ("sample.caption", lambda caption: 7, "expected str, got int 7"),
    "another shape": (
        "sample.pixels", lambda pixels: pixels[:, 1:],
        "expected Tensor[3, 32, 32] float32 on cpu, got Tensor[3, 31, 32] float32 on cpu",
    ),
    "another dtype": (
        "sample.pixels", lambda pixels: pixels.double(),
        "expected Tensor[3, 32, 32] float32 on cpu, got Tensor[3, 32, 32] float64 on cpu",
    ),
    "another device": (
        "sample.pixels", lambda pixels: pixels.to("meta"),
        "expected Tensor[3, 32, 32] float32 on cpu, got Tensor[3, 32, 32] float32 on meta",
    ),
    "NaN": (
        "sample.pixels", lambda pixels: pixels * float("nan"), "expected finite values, got NaN or infinity"
    ),
    "NaN in place": (
        "batch.host", lambda batch: [batch, batch.pixels.fill_(float("nan"))][0],
        "pixels: expected finite values, got NaN or infinity",
    ),
    "a smaller batch": (
        "batch.host", lambda batch: replace(batch, pixels=batch.pixels[1:]),
        "pixels: expected Tensor[4, 3, 32, 32] float32 on cpu, got Tensor[3, 3, 32, 32] float32 on cpu",
    ),
    "other keys": (
        "batch.device", lambda batch: replace(batch, tokens={}), "tokens: expected the keys 'text_encoder', got dict {}"
    ),
    "a list": ("epoch.plan", list, "expected a tuple of tuple, got list"),
    "a word for a number": (
        "metrics.record", lambda values: values | {"loss": "low"}, "expected a float for 'loss', got str 'low'"
    ),
    "no function": ("build.loss", lambda loss: 0.5, "expected a function, got float 0.5"),
    "a loss that would be broadcast": (
        "build.loss", broken_loss, "expected a number for each of 4 samples, got Tensor[4, 1] float32 on cpu"
    ),
    "noise that would be broadcast": (
        "build.noise", broken_noise, "expected Tensor[1, 4, 8, 8] float32 on cpu, got Tensor[1, 1, 8, 8] float32 on cpu"
    ),
}  # fmt: skip
"""By what is wrong with it: where it is returned, how it is made, and what is said."""
MUTATED: dict[str, tuple[Callable[[Any], object], str]] = {
    "a field": (lambda event: setattr(event, "step", 7), "FrozenInstanceError: cannot assign to field 'step'"),
    "a mapping": (
        lambda event: event.learning_rates.update(unet=1.0), "AttributeError: 'mappingproxy' object has no attribute"
    ),
}  # fmt: skip


class ReturnsWrong(Misbehaving):
    """Returns what its signal does not carry."""

    class Settings(Misbehaving.Settings):
        what: str

    def change(self, value: Any, context: Any) -> Any:
        return RETURNED[self.settings.what][1](value)


class Mutates(Misbehaving):
    """Changes the payload that it is given to look at."""

    class Settings(Misbehaving.Settings):
        what: str

    def look_on(self, event: Any) -> None:
        MUTATED[self.settings.what][0](event)


class Async(Misbehaving):
    """As the base, in the background."""

    async def look_on(self, event: Any) -> None:  # type: ignore[override]  # as a plugin may
        if self.is_time():
            await LATER[self.settings.does]()


class Dropping(Async):
    """Its lane holds few events, and the oldest goes."""

    lane_size = 2
    lane_full = "drop_oldest"


class Blocking(Async):
    """Its lane holds few events, and training waits for room."""

    lane_size = 2


async def wait_forever() -> None:
    await asyncio.Event().wait()


async def wait_against_cancelling() -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG_SECONDS)


async def hold_the_loop() -> None:
    time.sleep(LONG_SECONDS)


async def dawdle() -> None:
    await asyncio.sleep(0.3)


async def fail_later() -> None:
    await asyncio.sleep(0.05)
    fail()


async def leave_later() -> None:
    leave()


LATER = {
    "forever": wait_forever,
    "stubborn": wait_against_cancelling,
    "hold": hold_the_loop,
    "dawdle": dawdle,
    "raise": fail_later,
    "exit": leave_later,
}


class InWorkers(Misbehaving):
    """Holds what cannot be pickled, and fails in loader workers only."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.unpicklable = (threading.Lock(), lambda: None)

    def is_time(self) -> bool:
        return multiprocessing.parent_process() is not None and super().is_time()


class Keeping(Plugin):
    """Counts steps and stores the count, or what it must not."""

    class Settings(PluginSettings):
        gives: str = "count"

    count = 0

    @on("step.end")
    def note(self, event: Any) -> None:
        self.count += 1

    def state_dict(self) -> Mapping[str, Any]:
        return STATES[self.settings.gives](self.count)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


class Epochs(Plugin):
    """Counts which epochs it has been told of, so that one told twice is seen."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.told: list[str] = []

    @on("epoch.start")
    def begin(self, event: EpochStart) -> None:
        self.told.append(f"start {event.epoch}")

    @on("epoch.end")
    def end(self, event: EpochEnd) -> None:
        self.told.append(f"end {event.epoch}")

    def state_dict(self) -> Mapping[str, Any]:
        return {"told": self.told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.told = list(state["told"])


def no_state(count: int) -> Any:
    raise KeyError("means")


STATES: dict[str, Callable[[int], Any]] = {
    "count": lambda count: {"count": count},
    "another key": lambda count: {"steps": count},
    "raise": no_state,
    "exit": lambda count: leave(),
    "nothing": lambda count: None,
    "object": lambda count: {"count": {count}},
}
