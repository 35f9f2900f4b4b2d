"""A word with the run while it goes on: by keys where it has a terminal, by files from anywhere."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Literal

from pydantic import Field

from core.outside.keyboard import Keyboard, terminal_of_input
from core.run_folder.control_files import FOLDER, forget, hand_over
from events import Plugin, PluginSettings, on
from events.control import Control
from events.payloads import Progress, RunClose, RunStart

KEYS: Mapping[str, tuple[Literal["save", "preview", "evaluate", "export"], str]] = {
    "s": ("save", "a checkpoint"),
    "p": ("preview", "previews"),
    "v": ("evaluate", "a validation"),
    "e": ("export", "an export"),
}
"""What a key asks for, and how it is said."""
HELP = "keys: s save, p preview, v validate, e export, q stop, h help"
CONFIRM_SECONDS = 5.0
"""Within which q comes twice to stop the run."""


class Interactive(Plugin):
    """Ask the running run for previews, a checkpoint, a validation, an export, or to stop.

    By keys, without Enter: s save, p preview, v validate, e export, q twice stop, h help. By files:
    ``touch runs/demo/control/preview``, or `save`, `evaluate`, `export`, `stop`; the text in a file is kept as the
    reason. What is asked for is done at the next boundary between two steps.
    """

    class Settings(PluginSettings):
        keys: bool = Field(True, description="listen to single keys, where standard input is a terminal")
        files: bool = Field(True, description="look for files in the run's control folder, a few times a second")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._control = Control()
        self._keyboard: Keyboard | None = None
        self._first_q = float("-inf")
        """When q was pressed and waits for the second, on `monotonic`."""

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        self._control = event.control
        if self.settings.files:
            (event.run.folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
            forget(event.run.folder)
        terminal = terminal_of_input() if self.settings.keys else None
        if terminal is not None:
            self._keyboard = Keyboard(terminal, self.press)
            self._keyboard.start()
            _say(HELP)

    @on("progress")
    def look(self, event: Progress) -> None:
        if self.settings.files:
            hand_over(event.run.folder, self._control, asker=self.name)

    @on("run.close")
    def end(self, event: RunClose) -> None:
        self.close()

    def press(self, key: str) -> None:
        """Do what a key stands for; any thread may call it."""
        key, now = key.lower(), monotonic()
        if key == "q":
            self._quit(now)
        elif key in KEYS:
            wish, words = KEYS[key]
            getattr(self._control, wish)(reason="asked by a key", asker=self.name)
            _say(f"{words} after this step")
        elif key in ("h", "?"):
            _say(HELP)

    def close(self) -> None:
        keyboard, self._keyboard = self._keyboard, None
        if keyboard is not None:
            keyboard.close()

    def _quit(self, now: float) -> None:
        if now - self._first_q > CONFIRM_SECONDS:
            self._first_q = now
            _say(f"press q once more within {CONFIRM_SECONDS:.0f} s to stop the run")
            return
        self._first_q = float("-inf")
        self._control.stop("stopped by a key", asker=self.name)
        _say("the run stops after this step, with a checkpoint")


def _say(words: str) -> None:
    """On the error stream, in one piece, so that it stands above a progress bar."""
    with suppress(OSError, ValueError):  # nobody reads it any more
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()
