"""What a disk says that is full, fails or may not be written, and how often a run speaks of it."""

import errno
from collections import Counter
from time import monotonic

TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
MINUTE_SECONDS = 60.0


def is_disk_trouble(error: BaseException) -> bool:
    """Whether it is the disk's fault, and not that of whoever was writing."""
    return isinstance(error, OSError) and error.errno in TROUBLE


class OncePerMinute:
    """Counts what happens by subject, and says when it is time to speak of it."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._times: Counter[str] = Counter()

    def is_due(self, subject: str = "") -> bool:
        """Count one more; True at the first, and then after a minute at the earliest."""
        self._times[subject] += 1
        now, last = monotonic(), self._last.get(subject)
        if last is not None and now - last < MINUTE_SECONDS:
            return False
        self._last[subject] = now
        return True

    def times(self, subject: str = "") -> str:
        """How often so far, as the end of a sentence; nothing for the first time."""
        return f" ({self._times[subject]} times so far)" if self._times[subject] > 1 else ""
