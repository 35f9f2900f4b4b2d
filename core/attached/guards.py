"""What a handler may not leave behind: another state of a global generator or of the process, and ever more memory."""

import ctypes
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from events.guards import GuardKind

KEPT_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name)
)
STATM = Path("/proc/self/statm")
TWISTER_BYTES = 625 * 4
"""Of numpy's Mersenne Twister: 624 words and the place among them."""
LEAK_SAMPLES = 8
LEAST_LEAK_BYTES = 64 << 10
"""A call that adds less to the process is not looked at."""


def handler_guards() -> tuple[GuardKind, ...]:
    """The guards that every handler gets."""
    return (GlobalRandomness, ProcessState, *((Growth,) if STATM.exists() else ()))


class GlobalRandomness:
    """Notices draws from the generators that everybody shares; whether they happen shifts what others draw."""

    def before(self) -> dict[str, bytes | tuple[Any, ...]]:
        return generator_states()

    def after(self, token: dict[str, bytes | tuple[Any, ...]]) -> str | None:
        moved = [name for name, state in generator_states().items() if name in token and token[name] != state]
        if not moved:
            return None
        return (
            f"draws from the global generator of {' and '.join(moved)}, so that a resumed run may differ; draw from"
            " context.rng, or in a notification from events.randomness.Streams"
        )


class ProcessState:
    """Notices what a call changed for the whole process, and puts it back."""

    def before(self) -> dict[str, Any]:
        return {name: read() for name, (read, _) in settings_of_process().items()}

    def after(self, token: dict[str, Any]) -> str | None:
        changed = []
        for name, (read, write) in settings_of_process().items():
            if name in token and (now := read()) != token[name]:
                write(token[name])
                was = token[name]
                changed.append(name if callable(was) else f"{name} ({now} instead of {was})")
        return f"has changed {', '.join(changed)}, which is the trainer's and has been put back" if changed else None


class Growth:
    """Notices a handler by which the process grows at every call, and that does not give the memory back in between."""

    def __init__(self) -> None:
        self._grown: list[int] = []
        self._kept_from = 0
        self._is_told = False

    def before(self) -> int:
        return 0 if self._is_told else resident_bytes()

    def after(self, token: int) -> str | None:
        if self._is_told:
            return None
        after = resident_bytes()
        grown = after - token
        if grown < LEAST_LEAK_BYTES or token < self._kept_from:
            self._grown.clear()
        if grown >= LEAST_LEAK_BYTES:
            self._grown.append(grown)
        self._kept_from = after - grown // 2
        if len(self._grown) < LEAK_SAMPLES:
            return None
        self._is_told = True
        mean = sum(self._grown) / LEAK_SAMPLES / 2**20
        return (
            f"made the process grow by {mean:.1f} MB a call, {LEAK_SAMPLES} times in a row, and kept it; is it a leak?"
        )


class UndeclaredCollective:
    """Notices a handler that takes part in a collective and does not say so: where one rank leaves it out, the others hang."""

    def before(self) -> int:
        return collectives_begun()

    def after(self, token: int) -> str | None:
        if collectives_begun() == token:
            return None
        return (
            "exchanges something between ranks without saying so; a rank that does not call it keeps the others waiting"
            ' for ever. Write @on(..., ranks="all", collective=True), and leave out what only some ranks come to'
        )


def collectives_begun() -> int:
    """How many torch has begun in its default group so far, by all of its backends; 0 where there is no group.

    torch offers no public way to ask. Exchanges in groups that a plugin has made for itself are not among them.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_initialized():
        return 0
    group = distributed.group.WORLD
    backends = {id(backend): backend for backend in map(group._get_backend, group._device_types)}
    return sum(int(backend._get_sequence_number_for_group()) for backend in backends.values())


def generator_states() -> dict[str, bytes | tuple[Any, ...]]:
    """Of the global generators of the libraries that are loaded, by name."""
    states: dict[str, bytes | tuple[Any, ...]] = {"random": random.getstate()}
    if (numpy := sys.modules.get("numpy")) is not None:
        states["numpy.random"] = _numpy_state(numpy.random)
    if (torch := sys.modules.get("torch")) is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
        if torch.cuda.is_initialized():
            generators = torch.cuda.default_generators
            states["torch.cuda"] = tuple(generator.get_state().numpy().tobytes() for generator in generators)
    return states


def _numpy_state(library: Any) -> bytes:
    """Of its global generator, read where it lies: `get_state` takes forty times as long, as it copies word by word.

    The second of two normal numbers is kept elsewhere, so that a call which draws nothing but that is not noticed.
    """
    generator = library.get_bit_generator()
    if type(generator) is library.MT19937:
        return ctypes.string_at(generator.ctypes.state_address, TWISTER_BYTES)
    return repr(generator.state).encode()


def settings_of_process() -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """(how to read, how to write) by name, of what belongs to the trainer and not to a handler."""
    settings: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in KEPT_SIGNALS:
            settings[f"the handler of {number.name}"] = partial(signal.getsignal, number), partial(_set_signal, number)
    if (torch := sys.modules.get("torch")) is not None:
        settings["grad mode"] = (torch.is_grad_enabled, torch.set_grad_enabled)
        settings["torch's default dtype"] = (torch.get_default_dtype, torch.set_default_dtype)
        settings["torch's threads"] = (torch.get_num_threads, torch.set_num_threads)
    return settings


def resident_bytes() -> int:
    """The memory of this process that is in RAM."""
    return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _set_signal(number: signal.Signals, value: Any) -> None:
    if value is not None:  # None: not installed by Python, which cannot put it back
        signal.signal(number, value)
