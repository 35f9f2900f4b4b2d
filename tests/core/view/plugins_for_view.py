"""Plugins for tests of the live view."""

import logging
import time

from events import Plugin, on
from events.payloads import RunStart, StepEnd

log = logging.getLogger("signalbox.plugins.for_view")
MARKUP = "<img src=x onerror=alert(1)><b id=markup>bold</b>"


class Slowly(Plugin):
    """Steps that take a little while, and a line in the log that a page must not take for markup."""

    @on("run.start")
    def say(self, event: RunStart) -> None:
        log.warning("plugin %s says %s", self.name, MARKUP)

    @on("step.end")
    def wait(self, event: StepEnd) -> None:
        time.sleep(0.03)
