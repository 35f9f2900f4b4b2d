"""What one firing of a signal costs, by number of handlers that do nothing, and what the wrappers around handlers add.

All call the same bound methods and take turns in one process. The bare loop is `for f in fns: f(event)`, for transforms
`value = f(value, context)`; blinker's `send` and pluggy's hook call are as their users write them.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from benchmarks.figures import Figure, Options, Point, Section, figure, ratios
from benchmarks.racing import Lap, race
from core.attached.guards import handler_guards
from events import Plugin, build, on, transform
from events.bus import Bus
from events.catalogue import BUILD_WEIGHT, EPOCH_END, METRICS_RECORD, SAMPLE_CAPTION
from events.guards import EVERY, Guard
from events.payloads import EpochEnd, MetricsContext, SampleContext, StepParts
from events.plugin import PluginTable
from events.testing import epoch_end, sample_context, step_parts

COUNTS = (0, 1, 5, 20)
SECONDS, QUICK_SECONDS = 0.05, 0.002
"""How long a turn lasts."""
STEP_SECONDS = 0.2
"""A step of the demo on two cores, for the shares of a step."""
CALLS = 4
"""Calls of handlers in the training process a step of the demo: `step.end`, `progress`, and one in ten metrics."""
Times = Mapping[str, list[float]]


class Idle(Plugin):
    """Handles one signal of each kind, and does nothing."""

    @on("epoch.end")
    def note(self, event: EpochEnd) -> None:
        pass

    @transform("metrics.record")
    def keep(self, value: dict[str, float], context: MetricsContext) -> dict[str, float]:
        return value

    @transform("sample.caption")
    def say(self, value: str, sample: SampleContext) -> str:
        return value

    @build("weight")
    def weigh(self, weight: Any, parts: StepParts) -> Any:
        return weight


def measure(options: Options) -> list[Figure]:
    """Firings, then wrappers, then a look of the guards."""
    seconds, rounds = (QUICK_SECONDS if options.is_quick else SECONDS), options.rounds
    times = race({name: lap for count in COUNTS for name, lap in firings(count).items()}, rounds, seconds)
    return [
        *budget(times),
        *(
            figure(name, [1e9 * one for one in taken], "ns", point=point_of(name))
            for name, taken in times.items() if not name.startswith("bare loop of")
        ),
        *wrappers(rounds, seconds),
        *looks(rounds, seconds),
    ]  # fmt: skip


def firings(count: int) -> dict[str, Lap]:
    """Of a signal with so many handlers, by who fires it."""
    bus = bus_of(count)
    plugins = [plugin for plugin in bus.plugins.values() if isinstance(plugin, Idle)]
    notes, keeps = tuple(one.note for one in plugins), tuple(one.keep for one in plugins)
    says, weighs = tuple(one.say for one in plugins), tuple(one.weigh for one in plugins)
    event, sample, parts, numbers = epoch_end(), sample_context(), step_parts(), {"loss": 0.5}
    metrics = MetricsContext(step=1, epoch=0)
    weight, loop = (lambda t, batch: t), "v = value\nfor f in fns: v = f(v, context)"
    laps = {
        "emit": Lap("if signal.chain: signal.emit(event)", {"signal": bus[EPOCH_END], "event": event}),
        "bare loop": Lap("for f in fns: f(event)", {"fns": notes, "event": event}),
        "blinker send": Lap("send(event)", {"send": blinker_signal(notes).send, "event": event}),
        "apply": Lap("apply(value, context)", {"apply": bus[METRICS_RECORD].apply, "value": numbers, "context": metrics}),
        "bare loop of transforms": Lap(loop, {"fns": keeps, "value": numbers, "context": metrics}),
        "apply, with random streams": Lap("apply(value, context)", {"apply": bus[SAMPLE_CAPTION].apply, "value": "a cat", "context": sample}),
        "bare loop of captions": Lap(loop, {"fns": says, "value": "a cat", "context": sample}),
        "compose": Lap("compose(value, context)", {"compose": bus[BUILD_WEIGHT].compose, "value": weight, "context": parts}),
        "bare loop of builds": Lap(loop, {"fns": weighs, "value": weight, "context": parts}),
    }  # fmt: skip
    if importlib.util.find_spec("pluggy"):
        laps["pluggy hook"] = Lap("note(event=event)", {"note": pluggy_hook(count), "event": event})
    return {name_of(kind, count): lap for kind, lap in laps.items()}


def budget(times: Times) -> list[Figure]:
    """What the design allows, and the other ratios to a bare loop."""

    def against(kind: str, loop: str, count: int, at_most: float | None = None) -> Figure:
        ours, bare = times[name_of(kind, count)], times[name_of(loop, count)]
        return figure(f"{kind} / {loop}, {handlers(count)}", ratios(ours, bare), "ratio", at_most=at_most)

    def micro(count: int, at_most: float) -> Figure:
        taken = [1e6 * one for one in times[name_of("emit", count)]]
        return figure(f"a guarded emit, {handlers(count)}", taken, "us", at_most=at_most)

    others = [kind for kind in ("blinker send", "pluggy hook") if name_of(kind, 1) in times]
    return [
        micro(0, 0.1),
        micro(1, 0.2),
        against("emit", "bare loop", 20, at_most=1.3),
        *(against("emit", "bare loop", count) for count in (1, 5)),
        *(against("emit", other, count, at_most=1.0) for other in others for count in COUNTS),
        against("apply", "bare loop of transforms", 20),
        against("apply, with random streams", "bare loop of captions", 20),
        against("compose", "bare loop of builds", 20),
    ]


def wrappers(rounds: int, seconds: float) -> list[Figure]:
    """Microseconds that each wrapper adds to a call, looks of the guards included as often as they come."""
    count = COUNTS[-1]
    buses = {
        "none": bus_of(count), "time_handlers": bus_of(count, timed=True), "guard": bus_of(count, guarded=True),
        "both": bus_of(count, timed=True, guarded=True),
    }  # fmt: skip
    event = epoch_end()
    laps = {name: Lap("emit(event)", {"emit": bus[EPOCH_END].emit, "event": event}) for name, bus in buses.items()}
    times = race(laps, rounds, seconds, multiple=EVERY)
    added = {
        name: [(one - bare) / count * 1e6 for one, bare in zip(taken, times["none"], strict=True)]
        for name, taken in times.items()
        if name != "none"
    }
    share = [CALLS * each * 1e-6 / STEP_SECONDS for each in added["guard"]]
    return [
        *(figure(f"added to a call by {name}", each, "us") for name, each in added.items()),
        figure(f"guards in a step of the demo, {CALLS} calls", [100 * one for one in share], "%", at_most=1.0),
    ]


def looks(rounds: int, seconds: float) -> list[Figure]:
    """One call that the guards look at; after the first few it is one in `EVERY`."""
    laps = {
        kind.__name__: Lap("guard.after(guard.before())", {"guard": guard_of(kind)}) for kind in handler_guards()
    }  # fmt: skip
    times = race(laps, rounds, seconds)
    whole = [sum(round_) for round_ in zip(*times.values(), strict=True)]
    return [
        *(figure(f"a look of {name}", [1e6 * one for one in taken], "us") for name, taken in times.items()),
        figure(f"a look of all guards, one call in {EVERY}", [1e6 * one for one in whole], "us"),
    ]


def guard_of(kind: Any) -> Guard:
    guard: Guard = kind()
    return guard


def bus_of(count: int, *, timed: bool = False, guarded: bool = False) -> Bus:
    """A sealed bus with so many idle plugins."""
    bus = Bus()
    tables = [
        PluginTable(use="benchmarks.dispatch.Idle", name=f"idle{n}", position=n, settings={}) for n in range(count)
    ]
    bus.attach([(Idle(name=table.name), table) for table in tables], where=("training", "worker"))
    if timed:
        bus.time_handlers()
    if guarded:
        bus.guard(*handler_guards())
    bus.seal()
    return bus


def blinker_signal(handlers: tuple[Any, ...]) -> Any:
    import blinker

    signal = blinker.Signal()
    for handler in handlers:
        signal.connect(handler, weak=False)
    return signal


def pluggy_hook(count: int) -> Any:
    """A hook that takes an event, with so many implementations."""
    pluggy: Any = importlib.import_module("pluggy")
    declare, implement = pluggy.HookspecMarker("benchmarks"), pluggy.HookimplMarker("benchmarks")

    class Declared:
        @declare  # type: ignore[untyped-decorator]  # pluggy may not be there
        def note(self, event: EpochEnd) -> None: ...

    class Implemented:
        @implement  # type: ignore[untyped-decorator]  # likewise
        def note(self, event: EpochEnd) -> None:
            pass

    manager = pluggy.PluginManager("benchmarks")
    manager.add_hookspecs(Declared)
    for _ in range(count):
        manager.register(Implemented())
    return manager.hook.note


def name_of(kind: str, count: int) -> str:
    return f"{kind}, {handlers(count)}"


def handlers(count: int) -> str:
    return f"{count} handler{'' if count == 1 else 's'}"


def point_of(name: str) -> Point:
    kind, _, count = name.rpartition(", ")
    return Point(line=kind, at=float(count.split()[0]), along="handlers")


SECTION = Section(
    name="dispatch", question="What does a firing cost, and what do the wrappers add?", measure=measure
)  # fmt: skip
