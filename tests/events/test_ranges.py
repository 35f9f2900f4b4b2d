"""A profiler sees each firing as a range of the signal's name, and in it each call; off, nothing is in its way."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from events import Plugin, build, on, transform
from events.bus import Bus
from events.catalogue import BUILD_LOSS, EPOCH_END, METRICS_READY, SAMPLE_CAPTION, STEP_END
from events.errors import PluginError
from events.testing import epoch_end, metrics_ready, sample_context, step_parts
from tests.events.conftest import Attach


class Watcher(Plugin):
    @on("epoch.end")
    def note(self, event: Any) -> None: ...

    @on("epoch.end")
    def note_again(self, event: Any) -> None: ...

    @transform("sample.caption")
    def shout(self, caption: str, sample: Any) -> str:
        return caption.upper()

    @build("loss")
    def compose(self, loss: Any, parts: Any) -> Any:
        return loss

    @on("metrics.ready")
    async def send(self, event: Any) -> None: ...


class Seen:
    """A profiler that writes down its ranges as they open and close."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def range_of(self, name: str) -> Generator[None, None, None]:
        self.lines.append(f"> {name}")
        try:
            yield
        finally:
            self.lines.append(f"< {name}")


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def bus(attach: Attach, seen: Seen) -> Bus:
    """With a watcher, its handlers timed and its firings shown."""
    bus = attach(Watcher())
    bus.seal()
    bus.time_handlers()
    bus.show_ranges(seen.range_of)
    return bus


def test_a_firing_holds_its_calls_in_order(bus: Bus, seen: Seen) -> None:
    bus[EPOCH_END].emit(epoch_end())
    assert seen.lines == [
        "> epoch.end",
        "> Watcher: Watcher.note",
        "< Watcher: Watcher.note",
        "> Watcher: Watcher.note_again",
        "< Watcher: Watcher.note_again",
        "< epoch.end",
    ]


def test_transforms_and_builds_are_shown_and_give_what_they_gave(bus: Bus, seen: Seen) -> None:
    assert bus[SAMPLE_CAPTION].apply("a", sample_context()) == "A"

    def loss(*_: Any) -> Any: ...

    assert bus[BUILD_LOSS].compose(loss, step_parts()) is loss
    opened = [line[2:] for line in seen.lines if line[0] == ">"]
    assert opened == ["sample.caption", "Watcher: Watcher.shout", "build.loss", "Watcher: Watcher.compose"]


def test_of_an_async_handler_the_hand_over_is_shown(bus: Bus, seen: Seen) -> None:
    bus[METRICS_READY].emit(metrics_ready())
    assert "> Watcher: Watcher.send" in seen.lines


def test_a_signal_that_nobody_handles_has_no_range(bus: Bus, seen: Seen) -> None:
    bus[STEP_END].emit(None)  # type: ignore[arg-type]  # nobody looks at it
    assert seen.lines == []


def test_a_range_is_closed_when_a_handler_fails(attach: Attach, seen: Seen) -> None:
    class Failing(Plugin):
        @on("epoch.end")
        def note(self, event: Any) -> None:
            raise ValueError

    bus = attach(Failing())
    bus.show_ranges(seen.range_of)
    with pytest.raises(PluginError):
        bus[EPOCH_END].emit(epoch_end())
    assert seen.lines[-2:] == ["< Failing: Failing.note", "< epoch.end"]


def test_the_calls_are_timed_all_the_same(bus: Bus) -> None:
    bus[EPOCH_END].emit(epoch_end())
    assert bus.tallies["Watcher", "epoch.end", "Watcher.note"].calls == 1


def test_off_an_emit_is_the_method_of_the_class(attach: Attach) -> None:
    bus = attach(Watcher())
    assert "emit" not in vars(bus[EPOCH_END])
    assert "apply" not in vars(bus[SAMPLE_CAPTION])


def test_another_bus_is_not_shown(attach: Attach, bus: Bus, seen: Seen) -> None:
    attach(Watcher())[EPOCH_END].emit(epoch_end())
    assert seen.lines == []
