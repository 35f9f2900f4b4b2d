"""blinker's NamedSignal made ordered, strong and compiled.

blinker keeps its receivers in a set and its order differs from process to process; here `receivers_for` yields them in
the total order of P3, and every change of the receivers compiles them into a tuple that `emit`, `apply` and `compose`
walk. blinker stays the registry: `send`, `connected_to`, `muted` and `receivers_for` work and agree with the tuple.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from blinker import ANY, NamedSignal

from .errors import BusClosed, BusSealed, ReturnedWrong
from .spec import Build, Context, Event, Notification, Part, SignalSpec, Transform, Value

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
    """Class and method, as `captions.ShuffleTags.shuffle`."""
    source: str
    """`file:line` of the definition."""
    order: tuple[float, int, int]
    """(priority, position of the plugin in the config, order of definition in the class)."""
    is_async: bool
    on_error: str

    @property
    def priority(self) -> float:
        return self.order[0]


class Gate:
    """Whether signals may fire: closed in the CUDA step, sealed once the plan is printed. One for a whole bus."""

    __slots__ = ("closed", "sealed")

    def __init__(self) -> None:
        self.closed = False
        self.sealed = False


class Failures:
    """What to do when a handler fails. The bus has the real one; this one raises what was raised."""

    def handle(self, handler: Handler | None, spec: SignalSpec, error: BaseException, about: object) -> None:
        raise error


class Signal(NamedSignal):
    """The ordered registry that the three kinds share."""

    def __init__(self, spec: SignalSpec, gate: Gate | None = None, failures: Failures | None = None) -> None:
        super().__init__(spec.name, spec.meaning)
        self.spec = spec
        self.chain: tuple[Receiver, ...] = ()
        """The compiled receivers, in order; empty when nobody listens or the signal is muted."""
        self._gate = gate or Gate()
        self._failures = failures or Failures()
        self._handlers: dict[Receiver, Handler] = {}

    def attach(self, handler: Handler) -> None:
        """Connect a plugin's handler in its place."""
        self._handlers[handler.call] = handler
        self.connect(handler.call)

    def connect(self, receiver: F, sender: Any = ANY, weak: bool = False) -> F:
        """Subscribe a bare receiver after all plugins. Strong only; `sender=` is refused since ids collide with ANY."""
        if sender is not ANY:
            raise TypeError(f"{self.name}: receivers hear every sender; leave out sender=")
        if weak:
            raise TypeError(f"{self.name}: receivers are held strongly; leave out weak=True")
        if self._gate.sealed:
            raise BusSealed(f"{self.name}: the bus is sealed, name the plugin in the config instead")
        super().connect(receiver, weak=False)
        self._compile()
        return receiver

    def disconnect(self, receiver: Receiver, sender: Any = ANY) -> None:
        super().disconnect(receiver, sender)
        self._handlers.pop(receiver, None)
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
        """As blinker's, in order: plugins by P3, then bare receivers as they were connected."""
        last = (float("inf"), 0, 0)
        handlers = self._handlers
        yield from sorted(self.receivers.values(), key=lambda call: handlers[call].order if call in handlers else last)

    @property
    def handlers(self) -> tuple[Handler, ...]:
        """The plugins' handlers, in order."""
        return tuple(sorted(self._handlers.values(), key=lambda handler: handler.order))

    def rewrap(self, wrap: Callable[[Handler], Receiver]) -> None:
        """Swap every handler's call for a wrapper around it, as timing and tracing do."""
        for handler in self.handlers:
            self.disconnect(handler.call)
            self.attach(replace(handler, call=wrap(handler)))

    def owner_of(self, call: Receiver) -> Handler | None:
        return self._handlers.get(call)

    def _compile(self) -> None:
        self.chain = () if self.is_muted else tuple(self.receivers_for(ANY))

    def _refuse(self) -> None:
        raise BusClosed(f"{self.name} was emitted between the first forward and the end of optimizer.step()")


class NotificationSignal(Signal, Generic[Event]):
    """Guard with ``if signal.chain:`` so that the event is built only when somebody listens (P6)."""

    spec: Notification[Event]

    def emit(self, event: Event) -> None:
        """Call every handler with the event, in order.

        Raises PluginError as the failing plugin's `on_error` says, BusClosed inside the closed step.
        """
        if self._gate.closed:
            self._refuse()
        calls = iter(self.chain)
        call: Receiver | None = None
        while True:  # goes round again only after a failure that the policy lets pass
            try:
                for call in calls:
                    call(event)
                return
            except BaseException as error:
                assert call is not None
                self._failures.handle(self.owner_of(call), self.spec, error, event)


class TransformSignal(Signal, Generic[Value, Context]):
    spec: Transform[Value, Context]

    def apply(self, value: Value, context: Context) -> Value:
        """Chain the value through every handler, in order; each result is checked.

        Raises PluginError when a handler fails, returns None (the forgotten `return`) or a wrong value (P5).
        """
        if self._gate.closed:
            self._refuse()
        spec, call = self.spec, None
        try:
            for call in self.chain:
                before, value = value, self._call(call, value, context)
                if value is None:
                    raise ReturnedWrong("returned None; is there a `return` missing?")
                wrong = spec.check(before, value)
                if wrong is not None:
                    raise ReturnedWrong(wrong)
        except BaseException as error:
            assert call is not None
            self._failures.handle(self.owner_of(call), spec, error, context)
            raise
        return value

    def _call(self, call: Receiver, value: Value, context: Context) -> Any:
        bind = self.spec.bind
        handler = self.owner_of(call) if bind else None
        if bind is None or handler is None:
            return call(value, context)
        return call(value, bind(context, handler.plugin, self.name))


class BuildSignal(Signal, Generic[Part, Context]):
    spec: Build[Part, Context]

    def compose(self, part: Part, context: Context) -> Part:
        """Hand the part through every handler, once, before the first step.

        Raises PluginError when a handler fails or returns no such part.
        """
        if self._gate.closed:
            self._refuse()
        spec, call = self.spec, None
        try:
            for call in self.chain:
                before, part = part, call(part, context)
                if part is None:
                    raise ReturnedWrong("returned None; is there a `return` missing?")
                wrong = spec.check(before, part)
                if wrong is not None:
                    raise ReturnedWrong(wrong)
                handler = self.owner_of(call)
                if spec.bind is not None and handler is not None and part is not before:
                    part = spec.bind(part, handler.plugin)
        except BaseException as error:
            assert call is not None
            self._failures.handle(self.owner_of(call), spec, error, context)
            raise
        return part
