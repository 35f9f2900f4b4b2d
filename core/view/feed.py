"""What a follower finds, handed to everyone who listens, so that a reconnect neither loses nor doubles anything."""

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .follow import Follower

log = logging.getLogger("signalbox.view")
POLL_SECONDS = 0.5
"""Between two looks at the run's files; nobody looks while nobody listens."""
BEAT_SECONDS = 15.0
"""A listener that hears nothing for so long is sent a comment, so that both sides notice a lost connection."""
KEPT = 500
"""Events that a listener may be behind; who is further behind reads the state anew."""


@dataclass(frozen=True, slots=True)
class Event:
    """Of a stream of server-sent events."""

    kind: str
    """`change`: parts of the state. `reset`: read the state anew. `bye`: this server ends."""
    data: str = "{}"


class Feed:
    """Numbers each change; a cursor names the newest that somebody has, and this feed."""

    def __init__(self, follower: Follower, *, beat_seconds: float = BEAT_SECONDS) -> None:
        self._follower = follower
        self._beat_seconds = beat_seconds
        self._name = secrets.token_hex(4)
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._count = 0
        """Events so far; the newest has this number."""
        self._came = asyncio.Condition()
        self._looking = asyncio.Lock()
        self._has_looked = False
        self._poller: asyncio.Task[None] | None = None
        self.listeners = 0
        self.is_over = False

    @property
    def is_looking(self) -> bool:
        """Whether the run's files are looked at by themselves; that ends soon after the last listener is gone."""
        return self._poller is not None

    async def state(self) -> dict[str, Any]:
        """Everything as of now, with the `cursor` from which to listen."""
        async with self._looking:
            await self._look()
            return self._follower.everything() | {"cursor": self._cursor(self._count)}

    async def curve(self, name: str, first: int, last: int, *, most: int) -> dict[str, Any] | None:
        """The points of these steps; None for a metric that is not there."""
        async with self._looking:
            curve = self._follower.curves.get(name)
            return curve.between(first, last, most=most) if curve else None

    async def listen(self, cursor: str) -> AsyncGenerator[str, None]:
        """The text of an event stream, from what came after the cursor on."""
        self.listeners += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            async for text in self._stream(self._number(cursor)):
                yield text
        finally:
            self.listeners -= 1

    async def end(self) -> None:
        """Tell the listeners what has changed and that this was all."""
        async with self._looking:
            await self._look()
        self.is_over = True
        await self._publish(Event("bye"))

    async def _stream(self, number: int | None) -> AsyncGenerator[str, None]:
        """What came after event `number`; where that is not known any more, a word to read the state anew."""
        yield "retry: 2000\n\n"
        while True:
            if number is None or not self._count - len(self._events) <= number <= self._count:
                number = self._count
                yield _text(Event("reset"), self._cursor(number))
            for event in [*islice(self._events, len(self._events) - (self._count - number), None)]:
                number += 1
                yield _text(event, self._cursor(number))
            if self.is_over:
                return
            if not await self._wait_beyond(number):
                yield ": still here\n\n"

    async def _wait_beyond(self, number: int) -> bool:
        """Whether something came within the time of a heartbeat."""
        async with self._came:
            try:
                await asyncio.wait_for(
                    self._came.wait_for(lambda: self._count > number or self.is_over), self._beat_seconds
                )
            except TimeoutError:
                return False
        return True

    async def _poll(self) -> None:
        while self.listeners and not self.is_over:
            try:
                async with self._looking:
                    await self._look()
            except Exception:  # whatever is in the files, the page goes on with what it has
                log.exception("%s cannot be read", self._follower.folder)
            await asyncio.sleep(POLL_SECONDS)
        self._poller = None

    async def _look(self) -> None:
        """Look, in a thread, and publish what is new; the lock is held."""
        change = await asyncio.to_thread(self._follower.look)
        first, self._has_looked = not self._has_looked, True
        if first:  # whoever reads the state has it all
            return
        if change.is_reset:
            await self._publish(Event("reset"))
        elif change.parts:
            await self._publish(Event("change", json.dumps(change.parts)))

    async def _publish(self, event: Event) -> None:
        async with self._came:
            self._events.append(event)
            self._count += 1
            self._came.notify_all()

    def _cursor(self, number: int) -> str:
        return f"{self._name}-{number}"

    def _number(self, cursor: str) -> int | None:
        """None for the cursor of another feed, and for none at all."""
        name, _, number = cursor.rpartition("-")
        return int(number) if name == self._name and number.isdecimal() else None


def _text(event: Event, cursor: str) -> str:
    return f"id: {cursor}\nevent: {event.kind}\ndata: {event.data}\n\n"
