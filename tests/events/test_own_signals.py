"""A plugin may declare signals under its own name, which any plugin may handle, wherever it stands in the config."""

from dataclasses import dataclass
from typing import Any

import pytest

from events import Notification, Plugin, Transform, on, transform
from events.background import in_thread
from events.bus import Bus
from events.catalogue import METRICS_READY
from events.checks import of_type
from events.errors import AttachError, BusClosed
from events.testing import metrics_ready
from tests.events.conftest import Attach, table_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    value: float


MEASURED = Notification(name="fine_meter.measured", meaning="A value was measured.", payload=Measured)
ROUNDED: Transform[float, None] = Transform(
    name="fine_meter.rounded", meaning="A value.", value="float", context=type(None), check=of_type(float)
)


class FineMeter(Plugin):
    declares = (MEASURED, ROUNDED)

    def measure(self, value: float) -> float:
        rounded = self.bus[ROUNDED].apply(value, None)
        self.bus[MEASURED].emit(Measured(value=rounded))
        return rounded


class Listener(Plugin):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[float] = []

    @on("fine_meter.measured")
    def note(self, event: Measured) -> None:
        self.heard.append(event.value)

    @transform("fine_meter.rounded")
    def whole(self, value: float, context: None) -> float:
        return float(round(value))


@pytest.mark.parametrize("reverse", [False, True])
def test_another_plugin_hears_it_whichever_stands_first(attach: Attach, reverse: bool) -> None:
    meter, listener = FineMeter(), Listener()
    attach(*((listener, meter) if reverse else (meter, listener)))
    assert meter.measure(1.6) == 2.0
    assert listener.heard == [2.0]


def test_it_comes_last_in_the_list_of_signals(attach: Attach) -> None:
    assert [signal.name for signal in attach(FineMeter()).signals][-2:] == ["fine_meter.measured", "fine_meter.rounded"]


def test_two_instances_of_a_plugin_share_it(attach: Attach) -> None:
    one, two, listener = FineMeter(), FineMeter(), Listener()
    attach((one, {"name": "one"}), (two, {"name": "two"}), listener)
    one.measure(1.0)
    two.measure(2.0)
    assert listener.heard == [1.0, 2.0]


def test_an_instance_that_is_attached_later_shares_it_too(attach: Attach) -> None:
    one, two, listener = FineMeter(), FineMeter(), Listener()
    bus = attach((one, {"name": "one"}), listener)
    bus.attach([(two, table_of(two, 2, name="two"))])
    two.measure(2.0)
    assert listener.heard == [2.0]


def test_a_subclass_may_keep_what_it_inherits(attach: Attach) -> None:
    bus = attach(type("FinerMeter", (FineMeter,), {})())
    assert {spec.name for spec in FineMeter.declares} <= {signal.name for signal in bus.signals}


@pytest.mark.parametrize("name", ["fine_meter.x", "FineMeter.x", "the_name.x", "TheName.x"])
def test_the_room_is_the_class_or_the_config_name_in_either_spelling(attach: Attach, name: str) -> None:
    spec = Notification(name=name, meaning="", payload=Measured)
    bus = attach((type("FineMeter", (Plugin,), {"declares": (spec,)})(), {"name": "TheName"}))
    assert bus[spec].name == name


def declaring(*specs: Any, kind: str = "HTTPMeter") -> list[str]:
    plugin = type(kind, (Plugin,), {"declares": specs})()
    with pytest.raises(AttachError) as caught:
        Bus().attach([(plugin, table_of(plugin))])
    return list(caught.value.problems)


@pytest.mark.parametrize("name", ["other.measured", "measured", "http_meter.", "step.end"])
def test_a_name_outside_its_room_is_refused_with_one_inside(name: str) -> None:
    (problem,) = declaring(Notification(name=name, meaning="", payload=Measured))
    rest = name.partition(".")[2] or "something"
    assert f"HTTPMeter declares {name}; a plugin's signal is named after it, such as http_meter.{rest}" in problem


def test_two_plugins_cannot_declare_one_name() -> None:
    class HTTPMeter(Plugin):
        declares = (Notification(name="http_meter.x", meaning="", payload=Measured),)

    class Other(HTTPMeter):
        declares = (Notification(name="http_meter.x", meaning="", payload=Measured),)

    bus = Bus()
    with pytest.raises(AttachError, match=r"Other declares http_meter\.x, which another plugin has declared"):
        bus.attach([(HTTPMeter(), table_of(HTTPMeter(), 0)), (Other(), table_of(Other(), 1))])


def test_a_payload_that_can_be_changed_is_refused() -> None:
    @dataclass
    class Loose:
        value: float

    (problem,) = declaring(Notification(name="http_meter.x", meaning="", payload=Loose))
    assert "with a payload that can be changed; write @dataclass(frozen=True, slots=True, kw_only=True)" in problem


def test_what_is_no_signal_is_refused() -> None:
    (problem,) = declaring("http_meter.x")
    assert problem.endswith("HTTPMeter declares http_meter.x, which is no Notification, Transform or Build")


def test_an_async_signal_of_workers_is_refused() -> None:
    spec = Notification(name="http_meter.x", meaning="", payload=Measured, where="worker", asynchronous=True)
    (problem,) = declaring(spec)
    assert "as asynchronous in workers, which have no background loop" in problem


def test_it_cannot_fire_in_the_closed_step(attach: Attach) -> None:
    meter = FineMeter()
    bus = attach(meter, Listener())
    with bus.closed(), pytest.raises(BusClosed):
        meter.measure(1.0)


@pytest.mark.parametrize("helper", [False, True])
def test_it_never_fires_in_the_background(attach: Attach, helper: bool) -> None:
    """Whether a step is running at that moment would decide it otherwise."""

    class Hasty(FineMeter):
        @on("metrics.ready")
        async def note(self, event: Any) -> None:
            if helper:
                await in_thread(self.measure, 1.0)
            self.measure(1.0)

    listener = Listener()
    bus = attach(Hasty(), listener)
    bus[METRICS_READY].emit(metrics_ready())
    bus.lanes.drain()
    (failure,) = bus.lanes.failures
    bus.lanes.failures.clear()
    assert isinstance(failure.error, BusClosed)
    assert "was emitted by an async handler or a helper of one" in str(failure.error)
    assert listener.heard == []
