"""News of the run by HTTP, sent from the background so that training never waits for a server."""

import asyncio
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from core.log.redaction import BY_LOOKS, Redactor
from core.outside.discord_message import message
from core.outside.http_post import Payload, RateLimited, json_payload, multipart_payload, post, split_address
from events import Notification, Plugin, PluginSettings, in_thread, on
from events.payloads import (
    CheckpointSaved,
    ControlApplied,
    DataReady,
    MetricsReady,
    PreviewEnd,
    RunEnd,
    RunError,
    RunStart,
    ValidationEnd,
)
from events.plugin import Subscription

Event = Literal[
    "run.start", "data.ready", "metrics.ready", "control.applied", "validation.end", "preview.end", "checkpoint.saved",
    "run.error", "run.end",
]  # fmt: skip
HANDED_ON = frozenset({"run.start", "preview.end", "run.error", "run.end"})
"""Those whose handlers cannot be async."""
MOST_FILE_BYTES = 8_000_000
"""Larger pictures are not attached; the least that Discord takes is 10 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is to be posted of a signal whose handlers cannot be async."""

    plugin: str
    """Which of several is to post it."""
    event: str
    facts: Mapping[str, Any]
    picture: Path | None


NEWS = Notification(name="webhook.news", meaning="Webhook is about to post.", payload=News, asynchronous=True)


class Webhook(Plugin):
    """POST each chosen event: as JSON, ``{"event": "checkpoint.saved", "run": "demo", ...}``, or as Discord takes it.

    When the server is slow, a newer event takes the place of the last waiting one of its kind; after three failures a
    kind is no longer posted, unless `on_error = "warn"`. What is not posted when the run ends has a minute, five seconds
    after an error. An address that lets whoever knows it post is a secret: keep it in a variable or a file. Proxies are
    not used.
    """

    lane_size = 4
    lane_full = "coalesce"
    declares = (NEWS,)

    class Settings(PluginSettings):
        url: str = Field("", description="where to post; https, and redirects are not followed")
        url_env: str = Field("", description="in place of url, the environment variable that holds it")
        url_file: Path | None = Field(None, description="in place of url, the file whose first line it is")
        allow_private: bool = Field(
            False, description="also http, and servers of your own network; by default public ones by https only"
        )
        events: tuple[Event, ...] = Field(("checkpoint.saved",), min_length=1, description="which signals to post")
        form: Literal["json", "discord"] = Field("json", description="discord: a message that a Discord channel shows")
        every_steps: int = Field(100, ge=1, description="of metrics.ready, post one in each so many steps")
        timeout_seconds: float = Field(
            5.0,
            gt=0,
            description="longest time for a post, from its start to the answer, pauses the server asks for included",
        )

        @model_validator(mode="after")
        def _names_one_address(self) -> Self:
            given = [name for name in ("url", "url_env", "url_file") if getattr(self, name)]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)} are given; leave one of url, url_env and url_file")
            split_address(self.address, allow_private=self.allow_private)
            return self

        @property
        def address(self) -> str:
            """Raises ValueError for a variable or a file that is not there."""
            if self.url_env:
                if self.url_env not in os.environ:
                    raise ValueError(f"url_env: there is no environment variable {self.url_env}")
                return os.environ[self.url_env].strip()
            if self.url_file is None:
                return self.url
            try:
                return self.url_file.read_text(encoding="utf-8").partition("\n")[0].strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"url_file: {self.url_file} cannot be read: {type(error).__name__}") from None

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._posted_step = 0
        """Of the last metrics.ready that was posted."""
        self._redactor = BY_LOOKS
        self._not_before = 0.0
        """When the server wants the next post, on `monotonic`."""

    def subscriptions(self) -> Iterator[Subscription]:
        """Only the signals that the settings choose, and what those need."""
        chosen: set[str] = {*self.settings.events}
        if chosen & HANDED_ON:
            chosen.add(NEWS.name)
        if "run.error" in chosen:
            chosen.add("run.start")
        yield from (one for one in super().subscriptions() if one.mark.signal in chosen)

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        self._redactor = Redactor.of(event.config, os.environ)
        if "run.start" in self.settings.events:
            self._tell("run.start", run=event.run.name, step=event.resumed_step, steps=event.run.steps)

    @on("data.ready")
    async def tell_data(self, event: DataReady) -> None:
        await self._post("data.ready", run=event.run.name, items=len(event.items), problems=list(event.problems))

    @on("metrics.ready")
    async def tell_metrics(self, event: MetricsReady) -> None:
        every = self.settings.every_steps
        if event.step // every == self._posted_step // every:
            return
        self._posted_step = event.step
        values = _finite(event.values)
        await self._post("metrics.ready", run=event.run.name, step=event.step, epoch=event.epoch, values=values)

    @on("control.applied")
    async def tell_control(self, event: ControlApplied) -> None:
        await self._post(
            "control.applied", step=event.step, kind=event.kind, key=event.key, value=str(event.value),
            reason=event.reason, asker=event.asker,
        )  # fmt: skip

    @on("validation.end")
    async def tell_validation(self, event: ValidationEnd) -> None:
        if event.losses:
            await self._post(
                "validation.end", run=event.run.name, step=event.step, epoch=event.epoch, losses=_finite(event.losses)
            )

    @on("preview.end", priority=95)
    def tell_preview(self, event: PreviewEnd) -> None:
        """Of a whole round; the grid is attached where the form has a place for it."""
        if event.paths and len(event.paths) == len(event.prompts):
            prompts, grid = [prompt.text for prompt in event.prompts], event.folder / "grid.png"
            self._tell(
                "preview.end", grid, run=event.run.name, step=event.step, reason=event.reason, grid=str(grid),
                prompts=prompts,
            )  # fmt: skip

    @on("checkpoint.saved")
    async def tell_checkpoint(self, event: CheckpointSaved) -> None:
        await self._post(
            "checkpoint.saved", run=event.run.name, step=event.step, reason=event.reason, path=str(event.path)
        )

    @on("run.error")
    def tell_error(self, event: RunError) -> None:
        said = self._redactor.text(f"{type(event.error).__name__}: {event.error}")
        self._tell("run.error", run=event.run.name, step=event.step, where=event.where, error=said)

    @on("run.end")
    def tell_end(self, event: RunEnd) -> None:
        self._tell("run.end", run=event.run.name, step=event.step, reason=event.reason, seconds=round(event.seconds, 1))

    @on("webhook.news")
    async def tell_news(self, event: News) -> None:
        if event.plugin == self.name:
            await self._post(event.event, event.picture, **event.facts)

    def state_dict(self) -> Mapping[str, Any]:
        return {"posted_step": self._posted_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._posted_step = state["posted_step"]

    def _tell(self, event: Event, picture: Path | None = None, **facts: Any) -> None:
        """Post in the background, from a handler that is not async."""
        self.bus[NEWS].emit(News(plugin=self.name, event=event, facts=facts, picture=picture))

    async def _post(self, event: str, picture: Path | None = None, /, **facts: Any) -> None:
        seconds = self.settings.timeout_seconds
        try:
            await asyncio.wait_for(self._until_taken(event, picture, facts, monotonic() + seconds), seconds)
        except TimeoutError:
            raise TimeoutError(f"the post of {event} timed out after {seconds:g} s") from None

    async def _until_taken(self, event: str, picture: Path | None, facts: Mapping[str, Any], until: float) -> None:
        """Post again where the server asked for a pause that ends in time. Raises OSError where it does not."""
        payload = await in_thread(self._payload, event, picture, facts)
        while True:
            pause = self._not_before - monotonic()
            if self._not_before > until:
                raise OSError(f"the post of {event} was left out: the server wants none for another {pause:.0f} s")
            await asyncio.sleep(max(pause, 0.0))
            seconds, own = self.settings.timeout_seconds, self.settings.allow_private
            try:
                await in_thread(post, self.settings.address, payload, seconds, allow_private=own)
                return
            except RateLimited as error:
                self._not_before = monotonic() + error.seconds

    def _payload(self, event: str, picture: Path | None, facts: Mapping[str, Any]) -> Payload:
        if self.settings.form == "json":
            return json_payload({"event": event} | dict(facts))
        if picture is None or picture.stat().st_size > MOST_FILE_BYTES:
            return json_payload(message(event, facts))
        return multipart_payload(message(event, facts, picture.name), picture, "image/png")


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
