"""News of the run by HTTP, sent from the background so that training never waits for a server."""

import json
import math
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPMessage
from typing import IO, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from events import Plugin, PluginSettings, in_thread, on
from events.payloads import CheckpointSaved, ControlApplied, DataReady, MetricsReady
from events.plugin import Subscription

Signal = Literal["data.ready", "metrics.ready", "control.applied", "checkpoint.saved"]


class Webhook(Plugin):
    """POST a JSON object for each chosen event; ``{"event": "checkpoint.saved", "run": "demo", "step": 500, ...}``.

    The last checkpoint's `reason` tells how the run ended. When the server is slow, a newer event takes the place of
    the last waiting one of its kind; after three failures a kind is no longer posted, unless `on_error = "warn"`.
    """

    lane_size = 4
    lane_full = "coalesce"

    class Settings(PluginSettings):
        url: str = Field(description="where to post, http or https; redirects are not followed")
        events: tuple[Signal, ...] = Field(("checkpoint.saved",), min_length=1, description="which signals to post")
        every_steps: int = Field(100, ge=1, description="of metrics.ready, post one in each so many steps")
        timeout_seconds: float = Field(5.0, gt=0, description="longest wait for the server to connect or to answer")

        @field_validator("url")
        @classmethod
        def _is_web_address(cls, url: str) -> str:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("not a web address; it begins with http:// or https:// and a host")
            return url

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._posted_step = 0
        """Of the last metrics.ready that was posted."""

    def subscriptions(self) -> Iterator[Subscription]:
        """Only the signals that the settings choose."""
        chosen = self.settings.events
        yield from (one for one in super().subscriptions() if one.mark.signal in chosen)

    @on("data.ready")
    async def tell_data(self, event: DataReady) -> None:
        await self._post("data.ready", run=event.run.name, items=len(event.items), problems=list(event.problems))

    @on("metrics.ready")
    async def tell_metrics(self, event: MetricsReady) -> None:
        every = self.settings.every_steps
        if event.step // every == self._posted_step // every:
            return
        self._posted_step = event.step
        values = {name: value if math.isfinite(value) else None for name, value in event.values.items()}
        await self._post("metrics.ready", run=event.run.name, step=event.step, epoch=event.epoch, values=values)

    @on("control.applied")
    async def tell_control(self, event: ControlApplied) -> None:
        await self._post(
            "control.applied", step=event.step, kind=event.kind, key=event.key, value=str(event.value),
            reason=event.reason, asker=event.asker,
        )  # fmt: skip

    @on("checkpoint.saved")
    async def tell_checkpoint(self, event: CheckpointSaved) -> None:
        await self._post(
            "checkpoint.saved", run=event.run.name, step=event.step, reason=event.reason, path=str(event.path)
        )

    def state_dict(self) -> Mapping[str, Any]:
        return {"posted_step": self._posted_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._posted_step = state["posted_step"]

    async def _post(self, event: str, **facts: Any) -> None:
        await in_thread(post_json, self.settings.url, {"event": event} | facts, self.settings.timeout_seconds)


def post_json(url: str, body: Mapping[str, Any], timeout_seconds: float) -> None:
    """Raises OSError for any answer but 2xx, also a redirect, and when there is none; HTTPException for gibberish."""
    request = urllib.request.Request(  # noqa: S310  # the settings allow http and https only
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    opener = urllib.request.build_opener(_RefuseRedirects)
    try:
        opener.open(request, timeout=timeout_seconds).close()
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"{urlsplit(url).hostname} answered {error.code} {error.reason}") from None


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead the news to anywhere; without a new request urllib raises the answer as an HTTPError."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None
