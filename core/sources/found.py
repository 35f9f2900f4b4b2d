"""A picture file before its header has been read: the hand-over from the sources to the scan."""

from dataclasses import dataclass
from pathlib import Path

from events.payloads import PLAIN, ItemSettings, Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A picture with its caption and settings."""

    id: str
    """Data set name and relative path: stable, never a position."""
    path: Path
    caption: str
    caption_from: str
    mask: Mask = ""
    settings: ItemSettings = PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file that cannot be used, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
