"""One run's signals: attach plugins, print the plan, seal, trace, time.

The bus owns a blinker namespace with one signal for each entry of the catalogue. Everything that can be wrong with a
plugin is found when it is attached, before the model loads.
"""

import inspect
import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

from blinker import Namespace

from .attach import problem_with_own, problems_of, source_of
from .catalogue import CATALOGUE
from .errors import AttachError, BusSealed, UnknownSignal
from .guards import GuardKind, guarded
from .lanes import Lanes
from .plugin import Plugin, PluginTable, Subscription
from .policy import FailurePolicy
from .ranges import RangeFactory, called_in_range, fired_in_range
from .ranks import ALONE, On, PluginRanks, Ranks
from .signals import BuildSignal, Gate, Handler, NotificationSignal, OwnGate, Receiver, Signal, TransformSignal
from .spec import Build, Context, Event, Notification, Part, SignalSpec, Transform, Value, Where
from .timing import SLOW_SECONDS, Tally, timed
from .trace import Trace
from .watchdog import Running

__all__ = ["SLOW_SECONDS", "Bus", "Tally"]
log = logging.getLogger("signalbox.events")


class Bus:
    """The signals of one process of one run."""

    def __init__(
        self,
        catalogue: Iterable[SignalSpec] = CATALOGUE,
        *,
        lanes: Lanes | None = None,
        running: list[Running] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """`running` may be that of another bus of this thread, so that one watchdog sees both."""
        self.lanes = lanes or Lanes()
        self.ranks = ranks
        """The processes of the run."""
        self.plugins: dict[str, Plugin] = {}
        self._ranks_of: dict[str, PluginRanks] = {}
        """By plugin, each of which has a declaration of its own."""
        self.tallies: dict[tuple[str, str, str], Tally] = {}
        """By (plugin, signal, method); filled once `time_handlers` is called."""
        self.handled = Tally()
        """All that handlers of this bus have cost the thread that emits, each moment once; `tallies` count a handler
        that emits a signal of its own together with those that it calls, and what loader workers told besides."""
        self.running: list[Running] = [] if running is None else running
        """Handlers that go on at this moment, the outermost first; filled once `time_handlers` is called."""
        self._gate = Gate()
        self._policy = FailurePolicy(self._disable)
        self._trace: Trace | None = None
        self._is_closed = False
        self._namespace = Namespace()
        for spec in catalogue:
            self._declare(spec, self._gate)

    # The three overloads give each catalogue entry its typed signal.
    @overload
    def __getitem__(self, spec: Notification[Event]) -> NotificationSignal[Event]: ...
    @overload
    def __getitem__(self, spec: Transform[Value, Context]) -> TransformSignal[Value, Context]: ...
    @overload
    def __getitem__(self, spec: Build[Part, Context]) -> BuildSignal[Part, Context]: ...
    def __getitem__(self, spec: SignalSpec) -> Any:
        try:
            return self._namespace[spec.name]
        except KeyError:
            raise UnknownSignal(f"{spec.name} is no signal of this run; a plugin lists its own in `declares`") from None

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Every signal in firing order, those that plugins declare last."""
        return tuple(signal for signal in self._namespace.values() if isinstance(signal, Signal))

    def where(self, signal: str) -> Where:
        """Where handlers of the signal of this name run."""
        return self._signal(signal).spec.where

    def attach(
        self,
        plugins: Sequence[tuple[Plugin, PluginTable]],
        *,
        where: Sequence[Where] = ("training",),
        validation: bool = False,
    ) -> None:
        """Subscribe the plugins' methods that run in these places; the others are checked and left alone.

        For validation those that are `training_only` are left alone too.
        Raises AttachError with every problem of every plugin, each with file, line and remedy; then none is subscribed.
        """
        if self._gate.sealed:
            raise BusSealed("the bus is sealed; plugins are attached before")
        problems: list[str] = []
        for plugin, table in plugins:
            problems += self._register(plugin, table)
        specs = {signal.name: signal.spec for signal in self.signals}
        wanted: list[tuple[Plugin, PluginTable, tuple[Subscription, ...]]] = []
        for plugin, table in plugins:
            try:
                subscriptions = tuple(plugin.subscriptions())
            except AttachError as error:  # a style of plugins with checks of its own
                problems += error.problems
                continue
            problems += problems_of(plugin, table, subscriptions, specs)
            wanted.append((plugin, table, subscriptions))
        if problems:
            raise AttachError(tuple(dict.fromkeys(problems)))
        for plugin, table, subscriptions in wanted:
            for order, subscription in enumerate(subscriptions):
                signal = self._signal(subscription.mark.signal)
                if signal.spec.where not in where or (validation and subscription.mark.training_only):
                    continue
                handler = self._handler(subscription, plugin, table, order)
                if handler.ranks == "main" and not self.ranks.is_main:
                    signal.leave_to_main(handler)
                else:
                    signal.attach(self._ready(handler, plugin))

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

    def join(self, ranks: Ranks) -> None:
        """The processes of the run have found each other: from now on plugins may exchange with them."""
        self.ranks = ranks
        for own in self._ranks_of.values():
            own.join(ranks)

    def ranks_of(self, plugin: Plugin) -> PluginRanks:
        """What this plugin is told of the processes. Raises LookupError for one that is not attached."""
        for name, attached in self.plugins.items():
            if attached is plugin:
                return self._ranks_of[name]
        raise LookupError(f"{type(plugin).__name__} is not attached to this bus")

    def surface_async_failures(self) -> None:
        """Give the failures of async handlers to their plugins' policy; called at each step boundary."""
        while self.lanes.failures:
            failure = self.lanes.failures.popleft()
            self._policy.handle(
                failure.handler, self._signal(failure.handler.signal).spec, failure.error, failure.event
            )

    def log_async_failures(self) -> None:
        """Log the failures of async handlers, where the run ends anyway."""
        while self.lanes.failures:
            failure = self.lanes.failures.popleft()
            log.error(
                "plugin %s failed in %s: %r", failure.handler.plugin, failure.handler.label, failure.error,
                exc_info=failure.error,
            )  # fmt: skip

    def close(self, *, grace_seconds: float = 10.0) -> None:
        """Drain the lanes within the grace and close every plugin; failures are logged. A second call does nothing.

        A KeyboardInterrupt ends the wait of one plugin and is raised when all are closed.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self.lanes.close(grace_seconds=grace_seconds)
        self.log_async_failures()
        interruption: KeyboardInterrupt | None = None
        for name, plugin in self.plugins.items():
            try:
                plugin.close()
            except KeyboardInterrupt as error:
                interruption = error
            except (Exception, SystemExit) as error:
                log.exception("plugin %s failed while closing: %r", name, error)
        if self._trace is not None:
            self._trace.close()
        if interruption is not None:
            raise interruption

    def time_handlers(self, slow_seconds: Mapping[str, float] | None = None) -> None:
        """Sum the time of every handler and name slow ones. Costs one wrapper a call; nothing when never called."""
        limits = SLOW_SECONDS | dict(slow_seconds or {})
        for signal in self.signals:
            signal.rewrap(partial(self._timed, limit_seconds=limits[signal.spec.pace]))

    def guard(self, *kinds: GuardKind, undeclared: Sequence[GuardKind] = ()) -> None:
        """Look at what some calls of every handler leave behind; call it after `time_handlers`, to stay out of the times.

        `undeclared` look at those alone that do not say they are collective.
        """
        for signal in self.signals:
            signal.rewrap(partial(guarded, kinds=kinds, undeclared=undeclared))

    def add_tally(self, key: tuple[str, str, str], tally: Tally) -> None:
        """Add what a handler has cost in a loader worker."""
        self.tallies.setdefault(key, Tally()).add(tally)

    def trace(self, path: Path) -> None:
        """Write every firing and every call as a JSON line: signal, handler, seconds. For `--trace-events`.

        What the main rank alone fires is not fired on another for being watched.
        """
        if self._trace is not None:
            raise ValueError("this bus is traced already")
        self._trace = Trace(path)
        for signal in self.signals:
            signal.rewrap(self._trace.traced)
            if self.ranks.is_main or not signal.spec.main_only:
                signal.watch(self._trace.watcher(signal.name, passes_on=signal.spec.kind != "notification"))

    def show_ranges(self, range_of: RangeFactory) -> None:
        """Show every firing and in it every call to a profiler, by ranges that `range_of` makes. For `--profile`."""
        for signal in self.signals:
            signal.rewrap(partial(called_in_range, range_of=range_of))
            fired_in_range(signal, range_of)

    def _register(self, plugin: Plugin, table: PluginTable) -> list[str]:
        """Take in a plugin and the signals of its own, which others may subscribe to wherever they stand."""
        if table.name in self.plugins:
            return [f'two plugins are named {table.name}; give one of them a name = "..." of its own']
        self.plugins[table.name], self._ranks_of[table.name] = plugin, PluginRanks(self.ranks)
        plugin.bus = self
        problems: list[str] = []
        for spec in plugin.declares:
            specs = {signal.name: signal.spec for signal in self.signals}
            problem = problem_with_own(plugin, table, spec, specs)
            if problem is not None:
                problems.append(problem)
            elif spec.name not in specs:  # else another instance of the class has declared it
                self._declare(spec, OwnGate(self._gate))
        return problems

    def _declare(self, spec: SignalSpec, gate: Gate | OwnGate) -> None:
        kinds: dict[str, type[Signal]] = {
            "notification": NotificationSignal,
            "transform": TransformSignal,
            "build": BuildSignal,
        }
        self._namespace[spec.name] = kinds[spec.kind](spec, gate, self._policy)

    def _signal(self, name: str) -> Signal:
        signal = self._namespace[name]
        assert isinstance(signal, Signal)
        return signal

    def _handler(self, subscription: Subscription, plugin: Plugin, table: PluginTable, order: int) -> Handler:
        is_async = inspect.iscoroutinefunction(subscription.written)
        spec, is_collective = self._signal(subscription.mark.signal).spec, subscription.mark.collective
        return Handler(
            signal=subscription.mark.signal,
            plugin=table.name,
            function=subscription.method,
            call=subscription.method,
            label=subscription.label,
            source=source_of(subscription.written),
            order=(_priority(subscription, table), table.position, order),
            is_async=is_async,
            on_error="raise" if is_collective else table.on_error or ("disable" if is_async else "raise"),
            ranks=_ranks(subscription, spec),
            is_collective=is_collective,
        )

    def _ready(self, handler: Handler, plugin: Plugin) -> Handler:
        """With the call that the signal makes: into a lane for an async one, with collectives allowed for one that has any."""
        if handler.is_collective:
            return replace(handler, call=partial(self._call_collective, handler))
        if not handler.is_async:
            return handler
        lane = self.lanes.open(handler.plugin, size=plugin.lane_size, full=plugin.lane_full)
        spec = self._signal(handler.signal).spec
        newest_only = isinstance(spec, Notification) and spec.coalesced
        return replace(handler, call=partial(lane.put, handler, newest_only=newest_only))

    def _call_collective(self, handler: Handler, event: Any) -> None:
        is_step = self._signal(handler.signal).spec.pace == "step"
        with self._ranks_of[handler.plugin].opened(f"{handler.label} at {handler.signal}", is_step=is_step):
            handler.function(event)

    def _disable(self, handler: Handler) -> None:
        """Take a handler out, also when timing or tracing wraps it, and its events that still wait in a lane."""
        signal = self._signal(handler.signal)
        for attached in signal.handlers:
            if attached.function == handler.function:
                signal.disconnect(attached.call)
        self.lanes.forget(handler)

    def _timed(self, handler: Handler, *, limit_seconds: float) -> Receiver:
        tally = self.tallies.setdefault((handler.plugin, handler.signal, handler.label), Tally())
        return timed(handler, tally, limit_seconds, self.running, self.handled)


def _ranks(subscription: Subscription, spec: SignalSpec) -> On:
    """Transforms and builds change what is trained, so every rank needs them; a signal that main alone fires has none else.

    Each rank has loader workers of its own, which are all alike.
    """
    if spec.main_only:
        return "main"
    if isinstance(spec, Notification) and spec.where == "training":
        return subscription.mark.ranks or spec.ranks
    return "all"


def _priority(subscription: Subscription, table: PluginTable) -> int:
    if isinstance(table.priority, int):
        return table.priority
    return (table.priority or {}).get(subscription.mark.signal, subscription.mark.priority)
