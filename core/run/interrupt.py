"""Ctrl-C and the system's requests to end: the first finishes the step and saves, the second ends at once."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from events.control import Control

from ..ranks.crew import Crew

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interruption:
    """Which signal asked the run to end, if any."""

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM and SIGHUP, 0 when nobody interrupted."""
        if self.number is None:
            return 0
        return 130 if self.number == signal.SIGINT else 143

    def exit_code_after(self, error: BaseException) -> int:
        """As `exit_code`, where the error is that of a second signal; else 0."""
        return self.exit_code if isinstance(error, KeyboardInterrupt) else 0

    def agree(self, crew: Crew) -> None:
        """Of several processes each ends with the same exit code, whichever of them was interrupted. Waits for all."""
        numbers = crew.outcomes("the end of the run", self.number)
        self.number = next((number for number in numbers if number is not None), None)


@contextmanager
def stop_on_signals(control: Control, interruption: Interruption) -> Generator[None, None, None]:
    """Turn the first signal into `control.stop`, the second into KeyboardInterrupt, and note which it was.

    The handlers that were there before come back at the end. Only the main thread can take signals; elsewhere this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if interruption.number is not None:
            raise KeyboardInterrupt
        interruption.number = number
        control.stop(f"interrupted by {signal.Signals(number).name}", asker="the terminal")

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
