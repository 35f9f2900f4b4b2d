"""A signal is a blinker signal whose receivers are held strongly, run in order, and compiled into a tuple.

`send`, `connected_to`, `muted` and `receivers_for` are blinker's, and agree with `emit`.
"""

import gc
import sys
import weakref
from typing import Any

import blinker
import pytest

from events import Plugin, on, transform
from events.bus import Bus
from events.catalogue import BUILD_WEIGHT, EPOCH_END, SAMPLE_CAPTION, STEP_END
from events.errors import BusClosed, BusSealed, UnknownSignal
from events.spec import Notification
from events.testing import epoch_end, step_end
from tests.events.conftest import Attach


class Early(Plugin):
    """Takes note of each epoch, before Late."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self.heard = heard

    @on("epoch.end", priority=10)
    def note(self, event: Any) -> None:
        self.heard.append(type(self).__name__)


class Late(Early):
    @on("epoch.end", priority=90)
    def note(self, event: Any) -> None:
        self.heard.append(type(self).__name__)


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def bus(attach: Attach, heard: list[str]) -> Bus:
    return attach(Late(heard), Early(heard))


def test_a_signal_is_a_named_signal_of_blinker(bus: Bus) -> None:
    assert all(isinstance(signal, blinker.NamedSignal) for signal in bus.signals)


def test_two_runs_share_no_signal(attach: Attach) -> None:
    assert attach()[EPOCH_END] is not attach()[EPOCH_END]


def test_the_compiled_tuple_is_the_bare_bound_methods(attach: Attach, heard: list[str]) -> None:
    early, late = Early(heard), Late(heard)
    assert attach(late, early)[EPOCH_END].chain == (early.note, late.note)


def test_a_plugin_that_only_the_bus_knows_is_called(attach: Attach, heard: list[str]) -> None:
    bus = attach(Early(heard))
    gc.collect()
    bus[EPOCH_END].emit(epoch_end())
    assert heard == ["Early"]


def test_a_bare_receiver_is_held_strongly(bus: Bus) -> None:
    def receiver(event: Any) -> None: ...

    reference = weakref.ref(bus[EPOCH_END].connect(receiver))
    del receiver
    gc.collect()
    assert reference() is not None


def test_bare_receivers_come_after_all_plugins_as_they_were_connected(bus: Bus, heard: list[str]) -> None:
    for name in ("one", "two"):
        bus[EPOCH_END].connect(lambda event, name=name: heard.append(name))
    bus[EPOCH_END].emit(epoch_end())
    assert heard == ["Early", "Late", "one", "two"]


def test_receivers_for_yields_what_emit_calls_in_its_order(bus: Bus) -> None:
    bus[EPOCH_END].connect(print)
    assert tuple(bus[EPOCH_END].receivers_for(None)) == bus[EPOCH_END].chain


def test_blinkers_send_calls_what_emit_calls_in_its_order(bus: Bus, heard: list[str]) -> None:
    signal = bus[EPOCH_END]
    signal.emit(epoch_end())
    results = signal.send(epoch_end())
    assert heard == ["Early", "Late"] * 2
    assert results == [(receiver, None) for receiver in signal.chain]


def test_connected_to_adds_a_receiver_for_a_while(bus: Bus, heard: list[str]) -> None:
    with bus[EPOCH_END].connected_to(lambda event: heard.append("guest")):
        bus[EPOCH_END].emit(epoch_end())
    bus[EPOCH_END].emit(epoch_end())
    assert heard == ["Early", "Late", "guest", "Early", "Late"]


def test_a_muted_signal_calls_nobody_and_then_all_again(bus: Bus, heard: list[str]) -> None:
    with bus[EPOCH_END].muted():
        bus[EPOCH_END].emit(epoch_end())
        bus[EPOCH_END].send(epoch_end())
        assert bus[EPOCH_END].chain == ()
    assert heard == []
    bus[EPOCH_END].emit(epoch_end())
    assert heard == ["Early", "Late"]


def test_a_disconnected_receiver_is_called_no_more(bus: Bus, heard: list[str]) -> None:
    bus[EPOCH_END].disconnect(bus[EPOCH_END].handlers[0].call)
    bus[EPOCH_END].emit(epoch_end())
    assert heard == ["Late"]
    assert [handler.plugin for handler in bus[EPOCH_END].handlers] == ["Late"]


@pytest.mark.parametrize("sender", [0, None, object()])
def test_a_sender_is_refused(bus: Bus, sender: object) -> None:
    """blinker takes `sender=0` for every sender, since ids collide."""
    with pytest.raises(TypeError, match=r"epoch\.end: receivers hear every sender"):
        bus[EPOCH_END].connect(print, sender=sender)
    with pytest.raises(TypeError, match=r"epoch\.end: receivers hear every sender"):
        bus[EPOCH_END].disconnect(bus[EPOCH_END].chain[0], sender=sender)
    assert len(bus[EPOCH_END].chain) == 2


def test_a_weak_receiver_is_refused(bus: Bus) -> None:
    with pytest.raises(TypeError, match="held strongly"):
        bus[EPOCH_END].connect(print, weak=True)


def test_a_sealed_bus_takes_no_receiver(bus: Bus) -> None:
    bus.seal()
    with pytest.raises(BusSealed, match="name the plugin in the config"):
        bus[EPOCH_END].connect(print)
    with pytest.raises(BusSealed), bus[EPOCH_END].connected_to(print):
        pass
    assert print not in bus[EPOCH_END].chain


def test_a_sealed_bus_takes_no_plugin(bus: Bus) -> None:
    bus.seal()
    with pytest.raises(BusSealed):
        bus.attach([])


def test_a_sealed_bus_can_still_be_muted(bus: Bus, heard: list[str]) -> None:
    bus.seal()
    with bus[EPOCH_END].muted():
        bus[EPOCH_END].emit(epoch_end())
    assert heard == []


def test_an_emit_in_the_closed_step_raises(bus: Bus, heard: list[str]) -> None:
    with bus.closed(), pytest.raises(BusClosed, match=r"epoch\.end was emitted between the first forward"):
        bus[EPOCH_END].emit(epoch_end())
    assert heard == []


def test_a_send_in_the_closed_step_raises(bus: Bus, heard: list[str]) -> None:
    with bus.closed(), pytest.raises(BusClosed):
        bus[EPOCH_END].send(epoch_end())
    assert heard == []


def test_apply_and_compose_in_the_closed_step_raise(bus: Bus) -> None:
    with bus.closed():
        with pytest.raises(BusClosed):
            bus[SAMPLE_CAPTION].apply("a", None)  # type: ignore[arg-type]
        with pytest.raises(BusClosed):
            bus[BUILD_WEIGHT].compose(print, None)  # type: ignore[arg-type]


def test_the_bus_is_open_again_after_a_step_that_failed(bus: Bus, heard: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), bus.closed():
        raise ZeroDivisionError
    bus[EPOCH_END].emit(epoch_end())
    assert heard == ["Early", "Late"]


def test_a_transform_cannot_be_sent(attach: Attach) -> None:
    """blinker would give every handler the first value."""
    bus = attach()
    with pytest.raises(TypeError, match="use apply"):
        bus[SAMPLE_CAPTION].send("a")
    with pytest.raises(TypeError, match="use compose"):
        bus[BUILD_WEIGHT].send(print)


def test_a_signal_that_nobody_declared_is_named(bus: Bus) -> None:
    with pytest.raises(
        UnknownSignal, match=r"my\.signal is no signal of this run; a plugin lists its own in `declares`"
    ):
        bus[Notification(name="my.signal", meaning="", payload=int)]


def test_nobody_listening_leaves_nothing_to_walk(attach: Attach) -> None:
    class Shout(Plugin):
        @transform("sample.caption")
        def shout(self, caption: str, sample: Any) -> str:
            return caption.upper()

    bus = attach(Shout(), where=("training",))
    assert [signal.name for signal in bus.signals if signal.chain] == []


@pytest.mark.parametrize("count", [1, 20])
def test_an_emit_makes_no_python_call_but_the_handlers(attach: Attach, count: int) -> None:
    """The budget as a count: a bare loop over the handlers, and one frame of `emit`."""
    methods = {f"handle_{number}": on("step.end")(lambda self, event: None) for number in range(count)}
    signal, event = attach(type("Many", (Plugin,), methods)())[STEP_END], step_end()
    calls: list[str] = []
    sys.setprofile(lambda frame, kind, argument: calls.append(kind))
    signal.emit(event)
    sys.setprofile(None)
    assert calls.count("call") == count + 1
    assert calls.count("c_call") == 1, "the setprofile that ends the count"
