"""A watch over handlers that hang: their stack is logged, and past a limit they are broken off as if they had raised.

The wrappers of `Bus.time_handlers` say on a list which handlers are running; a daemon thread looks at it twice a second.
What hangs is broken off by SIGALRM, whose handler raises in the training thread between two bytecodes: sleeping,
computing in Python, reading a file or a socket, waiting for a lock. A call into C that never returns to Python cannot be
broken off, and one that keeps the interpreter lock cannot even be seen.
"""

import logging
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from time import perf_counter
from types import FrameType

from .errors import HandlerHung
from .signals import Handler

log = logging.getLogger("signalbox.events")
Running = tuple[Handler, float]
"""A handler and when its call began, on `perf_counter`."""
LONGEST_PERIOD_SECONDS = 0.5
STOP_SECONDS = 5.0
CAN_BREAK_OFF = hasattr(signal, "SIGALRM") and hasattr(signal, "pthread_kill")


class Watchdog:
    """Looks at the running calls of one thread; `stack_after_seconds` and `limit_seconds` of 0 mean never."""

    def __init__(self, running: Sequence[Running], stack_after_seconds: float, limit_seconds: float) -> None:
        """`running` holds the calls that go on, the outermost first: a handler may emit signals of its own."""
        self._running = running
        self._soft, self._hard = stack_after_seconds or float("inf"), limit_seconds or float("inf")
        self._thread = threading.get_ident()
        self._ended = threading.Event()
        self._told: Running | None = None
        self._times: Counter[str] = Counter()
        self._broken: Running | None = None
        self._broken_at = float("-inf")

        period = min(LONGEST_PERIOD_SECONDS, self._soft / 4, self._hard / 4)
        self._watch = threading.Thread(target=self._look_on, args=(period,), name="signalbox-watchdog", daemon=True)

    def start(self) -> None:
        self._watch.start()

    def stop(self) -> None:
        """Afterwards no alarm comes any more."""
        self._ended.set()
        self._watch.join(STOP_SECONDS)

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        """Raise HandlerHung in the call that was to be broken off, if it still goes on. Runs in the training thread."""
        call, self._broken = self._broken, None
        if call is not None and any(one is call for one in self._running):
            handler = call[0]
            raise HandlerHung(
                f"it had not ended after {self._hard:g} s (log.hang_limit_seconds)",
                plugin=handler.plugin, signal=handler.signal, label=handler.label,
            )  # fmt: skip

    def _look_on(self, period_seconds: float) -> None:
        while not self._ended.wait(period_seconds):
            calls = tuple(self._running)
            if (call := self._longer_than(self._soft, calls)) is not None and call is not self._told:
                self._told = call
                self._tell(call[0])
            if (call := self._longer_than(self._hard, calls)) is not None:
                self._broken, self._broken_at = call, perf_counter()
                signal.pthread_kill(self._thread, signal.SIGALRM)

    def _longer_than(self, limit_seconds: float, calls: Sequence[Running]) -> Running | None:
        """If one has gone on for longer, the innermost that took most of that time.

        A call that was broken off, and those around it, have the whole time once more: they may be about to end.
        """
        now = perf_counter()
        seconds = [now - max(began, self._broken_at if limit_seconds == self._hard else began) for _, began in calls]
        if not any(taken > limit_seconds for taken in seconds):
            return None
        return next(
            call for call, taken in reversed(list(zip(calls, seconds, strict=True))) if taken > limit_seconds / 2
        )

    def _tell(self, handler: Handler) -> None:
        """The stack of the training thread, the 1st, 2nd, 4th, 8th, ... time that this handler takes so long."""
        self._times[f"{handler.plugin} {handler.label}"] += 1
        if self._times[f"{handler.plugin} {handler.label}"].bit_count() != 1:
            return
        frame = sys._current_frames().get(self._thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        end = (
            "" if self._hard == float("inf") else f" (after {self._hard:g} s it is broken off, log.hang_limit_seconds)"
        )
        log.warning(
            "plugin %s hangs: %s has taken over %g s at %s%s; the training thread is here:\n%s",
            handler.plugin, handler.label, self._soft, handler.signal, end, stack.rstrip(),
        )  # fmt: skip


@contextmanager
def watching(
    running: Sequence[Running], *, stack_after_seconds: float, limit_seconds: float
) -> Generator[None, None, None]:
    """Watch the handlers that this thread runs; whoever handled SIGALRM before does so again at the end.

    Only the main thread can break handlers off; elsewhere, and where there is no SIGALRM, they are only told.
    """
    can_break_off = CAN_BREAK_OFF and threading.current_thread() is threading.main_thread()
    watchdog = Watchdog(running, stack_after_seconds, limit_seconds if can_break_off else 0.0)
    before = signal.signal(signal.SIGALRM, watchdog.on_alarm) if can_break_off else None
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()
        if can_break_off:
            signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
