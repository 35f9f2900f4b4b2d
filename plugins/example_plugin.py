"""A plugin in the class style to copy from: it says what the run is doing."""

import logging
from typing import Any

from .plugins import BasePlugin

log = logging.getLogger("signalbox.plugins.example")


class ExampleLoggingPlugin(BasePlugin):
    """A log line when training begins and ends, and at the end of each epoch."""

    def on_training_start(self, **kwargs: Any) -> None:
        log.info("%s begins at step %d", kwargs["project_name"], kwargs["global_step"])

    def on_epoch_end(self, **kwargs: Any) -> None:
        log.info("epoch %d of %d steps is over", kwargs["epoch"], kwargs["epoch_length"])

    def on_training_end(self, **kwargs: Any) -> None:
        log.info("%s ends at step %d: %s", kwargs["project_name"], kwargs["global_step"], kwargs["reason"])
