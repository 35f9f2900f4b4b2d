"""One page about the run in a browser, which changes as the run does, with buttons that ask it to save, render or stop."""

import logging
import math
import os
import sys
import webbrowser
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import ClassVar

from pydantic import Field

from core.history.recording import handler_times
from core.run_folder.control_files import forget, hand_over
from core.view.address import Address, new_token
from core.view.child import ViewProcess
from core.view.command import missing_packages
from core.view.now import LaneFacts, Now, NowWriter
from events import Plugin, PluginSettings, on, transform
from events.control import Control
from events.payloads import MetricsContext, Progress, RunStart

log = logging.getLogger("signalbox.plugins.live_view")
LEAST_SECONDS = 0.2
"""A shorter time says nothing of throughput."""
WORKING = ("time/steps", "time/data", "time/device", "time/plugins", "time/lanes_blocked")
"""Shares of the wall time in which training goes on; the rest are previews, validation and checkpoints."""
RATE = "time/images_per_second"


class Throughput:
    """Images a second while training went on, from one report to the next."""

    def __init__(self) -> None:
        self._images = 0.0
        """Of reports since the last rate."""
        self._rated_at: float | None = None

    def take(self, values: Mapping[str, float], now: float) -> float | None:
        """With a report that has come `now`, in seconds; None for the first, and where too little time has passed."""
        if self._rated_at is None:
            self._rated_at = now
            return None
        self._images += values.get("images", 0.0)
        seconds = (now - self._rated_at) * sum(values.get(name, 0.0) for name in WORKING)
        if seconds < LEAST_SECONDS:
            return None
        rate, self._rated_at, self._images = self._images / seconds, now, 0.0
        return rate


class LiveView(Plugin):
    """Serve a page about the run by a process of its own, at an address that the error stream shows.

    The page is made of the run's files, so that training does nothing for it but to note now and then how far it is, in
    `<run>/record/now.json`, and to look for requests in `<run>/control`; others may leave those there too.
    `python run.py view RUN` shows the same page when the run is over.
    """

    note_seconds: ClassVar[float] = 2.0
    """Between two notes of how far the run is."""

    class Settings(PluginSettings):
        host: str = Field("127.0.0.1", description="address to serve on; any but this machine's own is for others too")
        port: int = Field(8765, ge=0, le=65535, description="the next free one where it is taken; 0: any free one")
        token: str = Field("", pattern=r"^([!-~]{8,})?$", description="what the buttons need; empty: another each time")
        open_browser: bool = Field(False, description="open the page in a browser when the run starts")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        """Raises ModuleNotFoundError when the server's packages are not installed."""
        super().__init__(settings, name=name)
        if missing := missing_packages():
            raise ModuleNotFoundError(missing)
        self._view: ViewProcess | None = None
        self._control: Control | None = None
        self._noted_at = -math.inf
        self._writer: NowWriter | None = None
        self._throughput = Throughput()

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        """Start the server, and forget what was asked for when nobody looked."""
        self._control = event.control
        forget(event.run.folder)
        chosen = self.settings
        self._view = ViewProcess(
            event.run.folder, host=chosen.host, port=chosen.port, token=chosen.token or new_token(), tell=self._tell
        )
        self._view.start()

    @transform("metrics.record")
    def rate(self, values: dict[str, float], context: MetricsContext) -> dict[str, float]:
        """Add the throughput while training went on, in images a second, where it is read."""
        if not self.ranks.is_main:
            return values
        rate = self._throughput.take(values, monotonic())
        return values if rate is None else {**values, RATE: round(rate, 2)}

    @on("progress")
    def take_requests(self, event: Progress) -> None:
        if self._control is not None:
            hand_over(event.run.folder, self._control, asker=self.name)

    @on("progress")
    def note(self, event: Progress) -> None:
        """Have it written how far the run is, every two seconds and at its end."""
        now = monotonic()
        if now - self._noted_at < self.note_seconds and event.step < event.steps:
            return
        self._noted_at = now
        if self._writer is None:
            self._writer = NowWriter(event.run.folder)
        self._writer.give(partial(self._now, event))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._view is not None:
            self._view.close()

    def _tell(self, address: Address) -> None:
        """The token is for the screen, not for log files."""
        asked = self.settings.port
        moved = f"; port {asked} is taken" if asked and f":{asked}/" not in address.url else ""
        log.info("live view: %s%s", address.url, moved)
        print(f"live view: {address.with_token}", file=sys.stderr, flush=True)
        if self.settings.open_browser:
            webbrowser.open(address.with_token)

    def _now(self, event: Progress) -> Now:
        lanes = self.bus.lanes
        return Now(
            pid=os.getpid(), time=datetime.now(UTC).isoformat(timespec="seconds"), step=event.step, steps=event.steps,
            loss=event.loss if event.loss is not None and math.isfinite(event.loss) else None,
            images_per_second=round(event.images_per_second, 3), eta_seconds=round(event.eta_seconds, 1),
            data_fraction=round(event.data_fraction, 4), lag_seconds=round(lanes.lag.largest_seconds, 4),
            lanes=tuple(
                LaneFacts(plugin=lane.plugin, blocked_seconds=round(lane.blocked_seconds, 3), dropped=lane.dropped)
                for lane in lanes
            ),
            times=tuple(handler_times(self.bus)),
        )  # fmt: skip
