"""How late the background loop does what is due on it."""

from dataclasses import dataclass


@dataclass(slots=True)
class LoopLag:
    """Measured where something happens anyway: no timer wakes the loop for it. Noted by the loop's thread, read by any.

    Late is what a hand-over that wakes an idle lane waits until the loop begins with it. A handler that holds the loop
    without awaiting makes whatever comes meanwhile as late as it takes.
    """

    hand_overs: int = 0
    seconds: float = 0.0
    """Of all hand-overs together."""
    largest_seconds: float = 0.0
    """Of a hand-over, or of a stretch between two awaits of a handler."""
    _newest_seconds: float = 0.0

    @property
    def mean_seconds(self) -> float:
        """Of a hand-over."""
        return self.seconds / max(self.hand_overs, 1)

    def note_start(self, seconds: float) -> None:
        """The loop began with a hand-over so long after it was made."""
        self.hand_overs += 1
        self.seconds += seconds
        self.note_held(seconds)

    def note_held(self, seconds: float) -> None:
        """A handler has held the loop for so long."""
        self._newest_seconds = max(self._newest_seconds, seconds)
        self.largest_seconds = max(self.largest_seconds, seconds)

    def take_newest(self) -> float:
        """The largest, in seconds, since this was asked last."""
        newest, self._newest_seconds = self._newest_seconds, 0.0
        return newest
