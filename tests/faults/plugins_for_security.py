"""Plugins that the security rows name in their configs."""

import logging
import os
from pathlib import Path

from pydantic import Field

from events import Plugin, PluginSettings, on, transform
from events.payloads import ExportContext, RunStart, StepEnd

log = logging.getLogger("signalbox.plugins.tattler")


class Tattler(Plugin):
    """Says its secrets wherever a plugin can: log lines, tracebacks, headers of exports, errors."""

    class Settings(PluginSettings):
        api_key: str = ""
        url: str = ""
        headers: dict[str, str] = Field(default_factory=dict)
        use_cls_token: bool = True
        num_memory_tokens: int = 4
        fails_at: int = 0

    @on("run.start")
    def tell(self, event: RunStart) -> None:
        log.debug("settings %s, token %s", self.settings, os.environ["CANARY_TOKEN"])
        log.info("posting to %s with %r", self.settings.url, self.settings.headers)
        try:
            raise ValueError(f"key {self.settings.api_key!r}")
        except ValueError:
            log.exception("a failure of %s", os.environ["CANARY_TOKEN"], extra={"api_key": self.settings.api_key})

    @on("step.end")
    def fail(self, event: StepEnd) -> None:
        if event.step == self.settings.fails_at:
            raise RuntimeError(f"{self.settings.url} says no to {os.environ['CANARY_TOKEN']}")

    @transform("checkpoint.metadata")
    def sign(self, header: dict[str, str], context: ExportContext) -> dict[str, str]:
        return header | {"posted.to": self.settings.url, "api_key": self.settings.api_key}


class Marker(Plugin):
    """Importing its module leaves a folder, where the environment names one."""


if place := os.environ.get("SIGNALBOX_TEST_MARKER"):
    Path(place).mkdir(exist_ok=True)
