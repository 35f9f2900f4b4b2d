"""blinker's NamedSignal made ordered, strong and compiled.

blinker keeps its receivers in a set and its order differs from process to process; here `receivers_for` yields them in
the total order of P3, and every change of the receivers compiles them into a tuple that `emit`, `apply` and `compose`
walk. blinker stays the registry: `send`, `connected_to`, `muted` and `receivers_for` work and agree with the tuple.
"""

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from blinker import ANY, NamedSignal

from .background import in_background
from .errors import BusClosed, BusSealed, PluginError, ReturnedWrong
from .ranks import On
from .spec import Build, Context, Event, Notification, Part, SignalSpec, Transform, Value

log = logging.getLogger("signalbox.events")
Receiver = Callable[..., Any]
F = TypeVar("F", bound=Receiver)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One subscription of one plugin, bound and in its place."""

    signal: str
    plugin: str
    function: Receiver
    """What the plugin wrote, bound to its instance."""
    call: Receiver
    """What the signal calls: the function itself, or a hand-over to its lane, or a wrapper that times it."""
    label: str
    """Class and method, as `ShuffleTags.shuffle`."""
    source: str
    """`file:line` of the definition."""
    order: tuple[float, int, int]
    """(priority, position of the plugin in the config, order of definition in the class)."""
    is_async: bool
    on_error: str
    ranks: On = "all"
    """Of several processes those that it runs on."""
    is_collective: bool = False
    """It may wait for the other ranks, so it must neither be left out on one of them nor fail there alone."""

    @property
    def priority(self) -> float:
        return self.order[0]


class Gate:
    """Whether signals may fire: closed in the CUDA step, sealed once the plan is printed. One for a whole bus."""

    __slots__ = ("closed", "sealed")

    def __init__(self) -> None:
        self.closed = False
        self.sealed = False


class OwnGate:
    """The gate of a signal that plugins emit themselves: closed to background threads at any time.

    Their emits would otherwise be refused or not as it happens, depending on whether a step is running.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @property
    def closed(self) -> bool:
        return self._gate.closed or in_background()

    @property
    def sealed(self) -> bool:
        return self._gate.sealed


class Failures:
    """What to do when a handler fails. The bus has the real one; this one raises what was raised."""

    def handle(self, handler: Handler | None, spec: SignalSpec, error: BaseException, about: object) -> None:
        raise error


class Signal(NamedSignal):
    """The ordered registry that the three kinds share."""

    __slots__ = ("_gate", "chain")  # read at each firing, which takes half as long as with blinker's dictionary

    def __init__(self, spec: SignalSpec, gate: Gate | OwnGate | None = None, failures: Failures | None = None) -> None:
        super().__init__(spec.name, spec.meaning)
        self.spec = spec
        self.chain: tuple[Receiver, ...] = ()
        """The compiled receivers, in order; empty when nobody listens or the signal is muted."""
        self._gate = gate or Gate()
        self._failures = failures or Failures()
        self._handlers: dict[Receiver, Handler] = {}
        self._streams: dict[Receiver, str] = {}
        self._watcher: Receiver | None = None
        self._elsewhere: list[Handler] = []

    def attach(self, handler: Handler) -> None:
        """Connect a plugin's handler in its place. Raises BusSealed."""
        self._refuse_if_sealed()
        self._handlers[handler.call] = handler
        self._register(handler.call)

    def leave_to_main(self, handler: Handler) -> None:
        """Note a handler that runs on the main rank, which this process is not."""
        self._elsewhere.append(handler)

    def connect(self, receiver: F, sender: Any = ANY, weak: bool = False) -> F:
        """Subscribe a bare receiver after all plugins. Strong only; `sender=` is refused since ids collide with ANY."""
        self._refuse_sender(sender)
        if weak:
            raise TypeError(f"{self.name}: receivers are held strongly; leave out weak=True")
        self._refuse_if_sealed()
        self._register(receiver)
        return receiver

    def disconnect(self, receiver: Receiver, sender: Any = ANY) -> None:
        """Take a receiver out; allowed on a sealed bus, which takes out a handler that keeps failing."""
        self._refuse_sender(sender)
        super().disconnect(receiver)
        if (taken_out := self._handlers.pop(receiver, None)) is not None:
            self._elsewhere.append(taken_out)
        self._compile()

    @property
    def is_muted(self) -> bool:
        """blinker's flag; setting it, as `muted()` does, compiles the chain anew."""
        return self._muted

    @is_muted.setter
    def is_muted(self, muted: bool) -> None:
        self._muted = muted
        if hasattr(self, "chain"):
            self._compile()

    def receivers_for(self, sender: Any) -> Generator[Receiver, None, None]:
        """As blinker's, in order: plugins by P3, then bare receivers as they were connected.

        Raises BusClosed where `emit` would, so that `send`, which asks here, obeys the gate too.
        """
        if self._gate.closed:
            self._refuse()
        yield from self._ordered()

    @property
    def handlers(self) -> tuple[Handler, ...]:
        """The plugins' handlers, in order."""
        return tuple(sorted(self._handlers.values(), key=lambda handler: handler.order))

    @property
    def planned(self) -> tuple[Handler, ...]:
        """Those of all ranks, in order: the same on each of them, also where one has been disabled on this rank alone."""
        return tuple(sorted((*self._handlers.values(), *self._elsewhere), key=lambda handler: handler.order))

    def watch(self, watcher: Receiver) -> None:
        """Let the tracer see each firing, before every plugin; it is in no plan, so a sealed bus allows it."""
        self._watcher = watcher
        self._register(watcher)

    def rewrap(self, wrap: Callable[[Handler], Receiver]) -> None:
        """Swap every handler's call for a wrapper around it, as timing and tracing do; who listens stays the same."""
        for handler in self.handlers:
            wrapped = replace(handler, call=wrap(handler))
            super().disconnect(handler.call)
            del self._handlers[handler.call]
            self._handlers[wrapped.call] = wrapped
            super().connect(wrapped.call, weak=False)
        self._compile()

    def owner_of(self, call: Receiver) -> Handler | None:
        return self._handlers.get(call)

    def _register(self, receiver: Receiver) -> None:
        super().connect(receiver, weak=False)
        self._compile()

    def _ordered(self) -> list[Receiver]:
        handlers, first, last = self._handlers, (float("-inf"), -1, 0), (float("inf"), 0, 0)

        def place(call: Receiver) -> tuple[float, int, int]:
            return handlers[call].order if call in handlers else first if call is self._watcher else last

        return sorted(self.receivers.values(), key=place)

    def _compile(self) -> None:
        self.chain = () if self.is_muted else tuple(self._ordered())
        self._streams = {call: self._stream_of(handler) for call, handler in self._handlers.items()}

    def _stream_of(self, handler: Handler) -> str:
        """Whose random draws a handler makes: its plugin's, and a stream of its own if it is the plugin's second here."""
        own = sorted(other.order[2] for other in self._handlers.values() if other.plugin == handler.plugin)
        number = own.index(handler.order[2])
        return f"{handler.plugin}#{number + 1}" if number else handler.plugin

    def _refuse(self) -> None:
        if in_background():
            raise BusClosed(
                f"{self.name} was emitted by an async handler or a helper of one; they run beside training, so emit it"
                " from a plain handler"
            )
        raise BusClosed(f"{self.name} was emitted between the first forward and the end of optimizer.step()")

    def _refuse_if_sealed(self) -> None:
        if self._gate.sealed:
            raise BusSealed(f"{self.name}: the bus is sealed, name the plugin in the config instead")

    def _refuse_sender(self, sender: Any) -> None:
        if sender is not ANY:
            raise TypeError(f"{self.name}: receivers hear every sender; leave out sender=")


class NotificationSignal(Signal, Generic[Event]):
    """Guard with ``if signal.chain:`` so that the event is built only when somebody listens (P6)."""

    spec: Notification[Event]

    def emit(self, event: Event) -> None:
        """Call every handler with the event, in order.

        Raises PluginError as the failing plugin's `on_error` says, once the others have been told, so that their
        states go on together; where training relies on the handlers, at once. BusClosed inside the closed step.
        """
        if self._gate.closed:
            self._refuse()
        chain, call = self.chain, None
        try:
            for call in chain:
                call(event)
        except BaseException as error:
            if call is None:  # interrupted before the first
                raise
            self._emit_to_rest(chain, call, error, event)

    def _emit_to_rest(self, chain: tuple[Receiver, ...], call: Receiver, error: BaseException, event: Event) -> None:
        """Tell those behind one that failed; raises what there is to be raised then."""
        failed = self._failure_of(call, error, event, None)
        for later in chain[chain.index(call) + 1 :]:
            try:
                later(event)
            except BaseException as another:
                failed = self._failure_of(later, another, event, failed)
        if failed is not None:
            raise failed

    def _failure_of(
        self, call: Receiver, error: BaseException, event: Event, before: PluginError | None
    ) -> PluginError | None:
        """What to raise when every handler has been told, given what was to be raised before: the first failure."""
        try:
            self._failures.handle(self.owner_of(call), self.spec, error, event)
        except PluginError as failure:
            if self.spec.on_failure == "raise":
                raise
            if before is not None:
                log.error("%s", failure)
            return before or failure
        return before


class TransformSignal(Signal, Generic[Value, Context]):
    spec: Transform[Value, Context]

    def apply(self, value: Value, context: Context) -> Value:
        """Chain the value through every handler, in order; each result is checked.

        Raises PluginError when a handler fails, returns None (the forgotten `return`) or a wrong value (P5).
        """
        if self._gate.closed:
            self._refuse()
        bind, call = self.spec.bind, None
        try:
            for call in self.chain:
                stream = self._streams.get(call) if bind is not None else None
                own = context if bind is None or stream is None else bind(context, stream, self.name)
                before, value = value, call(value, own)
                _check(self.spec, before, value)
        except BaseException as error:
            if call is None:
                raise
            self._failures.handle(self.owner_of(call), self.spec, error, context)
            raise
        return value

    def send(self, sender: Any = None, /, **_: Any) -> Any:
        """Refused: blinker would hand the same value to every handler, and these build on each other."""
        raise TypeError(f"{self.name} is a transform signal, whose handlers build on each other; use apply")


class BuildSignal(Signal, Generic[Part, Context]):
    spec: Build[Part, Context]

    def compose(self, part: Part, context: Context) -> Part:
        """Hand the part through every handler, once, before the first step.

        Raises PluginError when a handler fails or returns no such part.
        """
        if self._gate.closed:
            self._refuse()
        bind, call = self.spec.bind, None
        try:
            for call in self.chain:
                before, part = part, call(part, context)
                _check(self.spec, before, part)
                if bind is not None and part is not before and call in self._streams:
                    part = bind(part, self._streams[call])
        except BaseException as error:
            if call is None:
                raise
            self._failures.handle(self.owner_of(call), self.spec, error, context)
            raise
        return part

    def send(self, sender: Any = None, /, **_: Any) -> Any:
        """Refused: blinker would hand the same part to every handler, and these build on each other."""
        raise TypeError(f"{self.name} is a build signal, whose handlers build on each other; use compose")


def _check(spec: Transform[Any, Any] | Build[Any, Any], before: object, after: object) -> None:
    if after is None:
        carried = spec.value if isinstance(spec, Transform) else spec.part
        raise ReturnedWrong(f"expected {carried}, got None; is there a `return` missing?")
    wrong = spec.check(before, after)
    if wrong is not None:
        raise ReturnedWrong(wrong)
