"""A plugin that handles every signal of the catalogue and does nothing."""

from collections.abc import Callable, Iterator
from typing import Any

from events import Plugin
from events.catalogue import CATALOGUE
from events.marks import Mark
from events.plugin import Subscription
from events.spec import SignalSpec


class NoOp(Plugin):
    """Looks on, and hands on what it is given."""

    def subscriptions(self) -> Iterator[Subscription]:
        for spec in CATALOGUE:
            handler = handler_of(spec)
            mark = Mark(kind=spec.kind, signal=spec.name, priority=50)  # type: ignore[arg-type]  # declared as a text
            yield Subscription(mark=mark, method=handler, written=handler, label=f"NoOp.{spec.name}")


def handler_of(spec: SignalSpec) -> Callable[..., Any]:
    def look(event: Any) -> None:
        pass

    def hand_on(value: Any, context: Any) -> Any:
        return value

    return look if spec.kind == "notification" else hand_on
