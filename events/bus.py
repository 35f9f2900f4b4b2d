"""One run's signals: attach plugins, print the plan, seal, trace, time.

The bus owns a blinker namespace with one signal for each entry of the catalogue. Everything that can be wrong with a
plugin is found when it is attached, before the model loads.
"""

import inspect
import json
import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from time import perf_counter
from typing import Any, overload

from blinker import Namespace

from .catalogue import CATALOGUE
from .errors import AttachError
from .lanes import Lanes
from .plugin import Plugin, PluginTable, Subscription
from .policy import FailurePolicy
from .signals import BuildSignal, Gate, Handler, NotificationSignal, Receiver, Signal, TransformSignal
from .spec import Build, Context, Event, Notification, Part, SignalSpec, Transform, Value, Where

log = logging.getLogger("signalbox.events")
SLOW_SECONDS = {"step": 0.5, "epoch": 5.0, "run": 20.0}


@dataclass(slots=True)
class Tally:
    """What one handler has cost so far."""

    calls: int = 0
    seconds: float = 0.0
    slowest_seconds: float = 0.0

    def add(self, other: "Tally") -> None:
        self.calls += other.calls
        self.seconds += other.seconds
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)


class Bus:
    """The signals of one process of one run."""

    def __init__(self, catalogue: Iterable[SignalSpec] = CATALOGUE) -> None:
        self.lanes = Lanes()
        self.plugins: dict[str, Plugin] = {}
        self.tallies: dict[tuple[str, str, str], Tally] = {}
        """By (plugin, signal, method); filled once `time_handlers` is called."""
        self._gate = Gate()
        self._policy = FailurePolicy(self._disable)
        self._namespace = Namespace()
        for spec in catalogue:
            self._declare(spec)

    # The three overloads give each catalogue entry its typed signal.
    @overload
    def __getitem__(self, spec: Notification[Event]) -> NotificationSignal[Event]: ...
    @overload
    def __getitem__(self, spec: Transform[Value, Context]) -> TransformSignal[Value, Context]: ...
    @overload
    def __getitem__(self, spec: Build[Part, Context]) -> BuildSignal[Part, Context]: ...
    def __getitem__(self, spec: SignalSpec) -> Any:
        return self._namespace[spec.name]

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Every signal in firing order, those that plugins declare last."""
        return tuple(signal for signal in self._namespace.values() if isinstance(signal, Signal))

    def attach(self, plugins: Sequence[tuple[Plugin, PluginTable]], *, where: Sequence[Where] = ("training",)) -> None:
        """Subscribe the plugins' methods that run in these places; the others are checked and left alone.

        Raises AttachError with every problem of every plugin, each with file, line and remedy.
        """
        problems: list[str] = []
        for plugin, table in plugins:
            problems += self._register(plugin, table)
        for plugin, table in plugins:
            for order, subscription in enumerate(plugin.subscriptions()):
                problem = self._problem_with(subscription, table.name)
                if problem:
                    problems.append(problem)
                    continue
                signal = self._signal(subscription.mark.signal)
                if signal.spec.where in where:
                    signal.attach(self._handler(subscription, plugin, table, order))
            problems += self._stray_priorities(plugin, table)
        if problems:
            raise AttachError(tuple(problems))

    def seal(self) -> None:
        """From now on nothing is connected; what fires is what the plan printed."""
        self._gate.sealed = True

    @contextmanager
    def closed(self) -> Generator[None, None, None]:
        """The region of the CUDA step, in which an emit raises BusClosed (P8)."""
        self._gate.closed = True
        try:
            yield
        finally:
            self._gate.closed = False

    def surface_async_failures(self) -> None:
        """Give the failures of async handlers to their plugins' policy; called at each step boundary."""
        while self.lanes.failures:
            failure = self.lanes.failures.popleft()
            self._policy.handle(
                failure.handler, self._signal(failure.handler.signal).spec, failure.error, failure.event
            )

    def close(self, *, grace_seconds: float = 10.0) -> None:
        """Drain the lanes within the grace and close every plugin; failures are logged."""
        self.lanes.close(grace_seconds=grace_seconds)
        while self.lanes.failures:
            failure = self.lanes.failures.popleft()
            log.error("plugin %s failed in %s: %r", failure.handler.plugin, failure.handler.label, failure.error)
        for name, plugin in self.plugins.items():
            try:
                plugin.close()
            except Exception as error:
                log.exception("plugin %s failed while closing: %s", name, error)

    def time_handlers(self, slow_seconds: dict[str, float] | None = None) -> None:
        """Sum the time of every handler and name slow ones. Costs one wrapper a call; nothing when never called."""
        limits = SLOW_SECONDS | (slow_seconds or {})
        for signal in self.signals:
            signal.rewrap(lambda handler, pace=signal.spec.pace: self._timed(handler, limits[pace]))  # type: ignore[misc]  # a default argument binds the loop variable

    def add_tally(self, key: tuple[str, str, str], tally: Tally) -> None:
        """Add what a handler has cost in a loader worker."""
        self.tallies.setdefault(key, Tally()).add(tally)

    def trace(self, path: Path) -> None:
        """Write every firing and every call as a JSON line: signal, handler, seconds. For `--trace-events`."""
        stream = path.open("a", encoding="utf-8", buffering=1)

        def record(signal: str, handler: str, seconds: float) -> None:
            stream.write(json.dumps({"signal": signal, "handler": handler, "seconds": round(seconds, 6)}) + "\n")

        for signal in self.signals:
            signal.rewrap(lambda handler: _traced(handler, record))
            signal.attach(_firing(signal, record))

    def _register(self, plugin: Plugin, table: PluginTable) -> list[str]:
        if table.name in self.plugins:
            return [f'two plugins are named {table.name}; give one of them a name = "..." of its own']
        self.plugins[table.name] = plugin
        plugin.bus = self
        for spec in plugin.declares:
            if spec.name in self._namespace or "." not in spec.name:
                return [f"{table.name} declares {spec.name}; a plugin's signal is named my_plugin.something, and once"]
            self._declare(spec)
        return []

    def _declare(self, spec: SignalSpec) -> None:
        kinds: dict[str, type[Signal]] = {
            "notification": NotificationSignal,
            "transform": TransformSignal,
            "build": BuildSignal,
        }
        self._namespace[spec.name] = kinds[spec.kind](spec, self._gate, self._policy)

    def _signal(self, name: str) -> Signal:
        signal = self._namespace[name]
        assert isinstance(signal, Signal)
        return signal

    def _problem_with(self, subscription: Subscription, plugin: str) -> str | None:
        """Why a method cannot have its signal, with place and remedy, or None (P4)."""
        mark, written = subscription.mark, subscription.written
        at = f"{_source_of(written)}: {plugin}: {subscription.label}"
        if mark.signal not in self._namespace:
            return (
                f"{at} subscribes to {mark.signal!r}, which is no signal{_did_you_mean(mark.signal, self._namespace)}"
            )
        spec = self._signal(mark.signal).spec
        if mark.kind != spec.kind:
            decorator = {"notification": "@on", "transform": "@transform", "build": "@build"}
            return f"{at}: {mark.signal} is a {spec.kind} signal; use {decorator[spec.kind]}"
        if inspect.iscoroutinefunction(written) and not spec.allows_async:
            return f"{at} is async, but {mark.signal} must be handled before training goes on; write a plain def"
        if inspect.isgeneratorfunction(written) or inspect.isasyncgenfunction(written):
            return f"{at} contains a yield, so calling it would do nothing; write a plain def"
        try:
            inspect.signature(subscription.method).bind(*spec.parameters)
        except TypeError as error:
            takes = ", ".join(("self", *spec.parameters))
            return f"{at}: a handler of {mark.signal} takes ({takes}): {error}"
        return None

    def _handler(self, subscription: Subscription, plugin: Plugin, table: PluginTable, order: int) -> Handler:
        name, method = subscription.mark.signal, subscription.method
        is_async = inspect.iscoroutinefunction(subscription.written)
        handler = Handler(
            signal=name,
            plugin=table.name,
            function=method,
            call=method,
            label=subscription.label,
            source=_source_of(subscription.written),
            order=(_priority(subscription, table), table.position, order),
            is_async=is_async,
            on_error=table.on_error or ("disable" if is_async else "raise"),
        )
        if not is_async:
            return handler
        lane = self.lanes.open(table.name, size=plugin.lane_size, full=plugin.lane_full)
        return replace(handler, call=lambda event: lane.put(handler, event))

    def _stray_priorities(self, plugin: Plugin, table: PluginTable) -> list[str]:
        if table.priority is None or isinstance(table.priority, int):
            return []
        handled = {subscription.mark.signal for subscription in plugin.subscriptions()}
        return [
            f"plugins[{table.position}].priority: {table.name} has no handler for {name!r}{_did_you_mean(name, handled)}"
            for name in table.priority
            if name not in handled
        ]

    def _disable(self, handler: Handler) -> None:
        signal = self._signal(handler.signal)
        for attached in signal.handlers:
            if attached.function == handler.function:
                signal.disconnect(attached.call)

    def _timed(self, handler: Handler, limit_seconds: float) -> Receiver:
        tally = self.tallies.setdefault((handler.plugin, handler.signal, handler.label), Tally())
        call = handler.call

        def timed(*arguments: Any) -> Any:
            started = perf_counter()
            try:
                return call(*arguments)
            finally:
                seconds = perf_counter() - started
                tally.calls += 1
                tally.seconds += seconds
                if seconds > tally.slowest_seconds:
                    tally.slowest_seconds = seconds
                    if seconds > limit_seconds:
                        log.warning(
                            "plugin %s is slow: %s took %.2f s at %s",
                            handler.plugin,
                            handler.label,
                            seconds,
                            handler.signal,
                        )

        return timed


def _priority(subscription: Subscription, table: PluginTable) -> int:
    if isinstance(table.priority, int):
        return table.priority
    return (table.priority or {}).get(subscription.mark.signal, subscription.mark.priority)


def _source_of(written: Any) -> str:
    code = getattr(inspect.unwrap(written), "__code__", None)
    if code is None:
        return f"{getattr(written, '__module__', '?')}"
    path = Path(code.co_filename)
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}:{code.co_firstlineno}"


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "; `python run.py events` lists them"


def _traced(handler: Handler, record: Callable[[str, str, float], None]) -> Receiver:
    call = handler.call

    def traced(*arguments: Any) -> Any:
        started = perf_counter()
        try:
            return call(*arguments)
        finally:
            record(handler.signal, f"{handler.plugin}:{handler.label}", perf_counter() - started)

    return traced


def _firing(signal: Signal, record: Callable[[str, str, float], None]) -> Handler:
    """A first receiver of the tracer's own that lets the value pass and notes that the signal fired."""

    def fired(value: Any, context: Any = None) -> Any:
        record(signal.name, "", 0.0)
        return value if signal.spec.kind != "notification" else None

    return Handler(
        signal=signal.name, plugin="trace", function=fired, call=fired, label="fired", source="events/bus.py",
        order=(float("-inf"), -1, 0), is_async=False, on_error="raise",
    )  # fmt: skip
