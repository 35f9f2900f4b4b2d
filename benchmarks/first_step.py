"""A plugin that notes when the first step has been taken, and ends the run."""

from pathlib import Path
from time import time

from events import Plugin, PluginSettings, on
from events.payloads import StepEnd


class FirstStep(Plugin):
    """Writes the moment, in seconds since the epoch of `time`, to a file."""

    class Settings(PluginSettings):
        path: Path

    @on("step.end", priority=0)
    def note(self, event: StepEnd) -> None:
        self.settings.path.write_text(str(time()))
        event.control.stop("the first step has been taken", asker="first_step")
