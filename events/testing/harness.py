"""A bus with the plugins of a test and no trainer."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Self, TypeVar

from ..bus import Bus
from ..control import Request
from ..plugin import OnError, Plugin, PluginTable
from ..ranks import ALONE, Ranks
from ..signals import BuildSignal, NotificationSignal, Signal, TransformSignal
from .recorder import NotedControl, Recorder
from .worker import Both, StartMethod, WorkerProcess

Value = TypeVar("Value")
SignalKind = TypeVar("SignalKind", bound=Signal)
Priority = int | Mapping[str, int]
"""As in a plugin's table of a config: for all its handlers, or by signal."""
AS_DECORATED: Mapping[str, Priority] = MappingProxyType({})


class Harness:
    """The plugins attached in this order, as a config would attach them. Leave it by `close`, or use it in a `with`."""

    def __init__(
        self,
        *plugins: Plugin,
        on_error: OnError | None = None,
        priorities: Mapping[str, Priority] = AS_DECORATED,
        ranks: Ranks = ALONE,
    ) -> None:
        """`on_error` is every plugin's; None is the default of each handler. `priorities` are by name of the plugin.

        `ranks` are the processes of which this is to be one, such as ``GivenRanks(1, 2)``: handlers that run on the main
        rank alone are not called then.

        Raises AttachError as a run would, and ValueError for a priority of no plugin.
        """
        names = [plugin.name for plugin in plugins]
        if strangers := [name for name in priorities if name not in names]:
            raise ValueError(f"priorities: no plugin is named {strangers[0]!r}; these are: {', '.join(names)}")
        self.tables = tuple(
            _table(plugin, position, on_error, priorities.get(plugin.name)) for position, plugin in enumerate(plugins)
        )
        self.bus = Bus(ranks=ranks)
        self.bus.attach(list(zip(plugins, self.tables, strict=True)), where=("training", "worker"))
        self._controls: list[NotedControl] = []
        self._worker: WorkerProcess | None = None

    def order(self, signal: str) -> list[str]:
        """Who handles a signal, in order, each as `PluginName.method`: ``["Affix.affix", "ShuffleTags.shuffle"]``."""
        handlers = self._signal(signal, Signal).handlers
        return [f"{handler.plugin}.{handler.label.rpartition('.')[2]}" for handler in handlers]

    def record(self, *signals: str) -> Recorder:
        """Note what these signals carry from now on, also where a plugin emits them: ``record("loss_alarm.jump")``."""
        recorder = Recorder()
        for name in signals:
            signal = self._signal(name, Signal)
            signal.connect(recorder.receiver(signal.spec))
        return recorder

    @property
    def asked(self) -> list[Request]:
        """What was asked of the run, oldest first, through the `control` of the events that were fired here."""
        noted = [entry for control in self._controls for entry in control.noted]
        return [request for _, request in sorted(noted, key=lambda entry: entry[0])]

    def emit(self, signal: str, event: object) -> None:
        """Fire a notification: ``harness.emit("epoch.end", epoch_end(epoch=3))``."""
        found = self._signal(signal, NotificationSignal)
        _expect(signal, event, found.spec.payload)
        control = getattr(event, "control", None)
        if isinstance(control, NotedControl) and control not in self._controls:
            self._controls.append(control)
        found.emit(event)

    def emit_and_wait(self, signal: str, event: object, *, limit_seconds: float = 10.0) -> None:
        """Fire a notification and drive the async handlers to their end; raises as `drain` does."""
        self.emit(signal, event)
        self.drain(limit_seconds=limit_seconds)

    def apply(self, signal: str, value: Value, context: object) -> Value:
        """Hand a value through a transform: ``harness.apply("sample.caption", "a, b", sample_context())``."""
        found = self._signal(signal, TransformSignal)
        _expect(signal, context, found.spec.context)
        result: Value = found.apply(value, context)
        return result

    def apply_in_both(
        self,
        signal: str,
        value: Value,
        context: object,
        *,
        start_method: StartMethod = "spawn",
        limit_seconds: float = 60.0,
    ) -> Both[Value]:
        """Hand a value through a transform here and in a worker process, which builds the plugins anew as a run does.

        The process is started by the first call, which takes a second or more, and ended by `close`. Raises ValueError
        for a plugin that is not at the top of a module, PluginError for a handler that fails in the worker, RuntimeError
        when the plugins cannot be built there or a value cannot travel, TimeoutError past the limit.
        """
        found = self._signal(signal, TransformSignal)
        _expect(signal, context, found.spec.context)
        if found.spec.where != "worker":
            raise TypeError(f"{signal} is handled in the training process alone; use Harness.apply")
        worker = self._worker_process(start_method)
        worker.give(signal, value, context)
        try:
            here = self.apply(signal, value, context)
        finally:
            answer = worker.take(limit_seconds)
        return Both(here=here, worker=answer.result())

    def compose(self, part: str, value: Value, context: object) -> Value:
        """Compose a part, named as in the decorator: ``harness.compose("weight", plain, step_parts())``."""
        found = self._signal(f"build.{part.removeprefix('build.')}", BuildSignal)
        _expect(found.name, context, found.spec.context)
        result: Value = found.compose(value, context)
        return result

    def drain(self, *, limit_seconds: float = 10.0) -> None:
        """Wait for the async handlers and raise what they raised: the error itself, or an exception group of several.

        Raises TimeoutError naming a plugin whose handlers do not end in time.
        """
        for lane in self.bus.lanes:
            if not lane.wait_idle(limit_seconds):
                raise TimeoutError(f"the async handlers of {lane.plugin} did not end within {limit_seconds} s")
        errors = [failure.error for failure in self.bus.lanes.failures]
        self.bus.lanes.failures.clear()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup(f"{len(errors)} async handlers failed", errors)

    def close(self) -> None:
        """Stop the lanes and the worker process and close the plugins, as the end of a run does."""
        if self._worker is not None:
            self._worker.close()
        self.bus.close(grace_seconds=10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _worker_process(self, start_method: StartMethod) -> WorkerProcess:
        """The one that there is, or a new one when another kind is wanted."""
        if self._worker is not None and self._worker.start_method != start_method:
            self._worker.close()
        if self._worker is None or self._worker.is_over:
            self._worker = WorkerProcess(self.tables, start_method)
        return self._worker

    def _signal(self, name: str, kind: type[SignalKind]) -> SignalKind:
        found = next((signal for signal in self.bus.signals if signal.name == name), None)
        if found is None:
            raise KeyError(f"there is no signal {name!r}; the command `events` lists them")
        if not isinstance(found, kind):
            method = {"notification": "emit", "transform": "apply", "build": "compose"}[found.spec.kind]
            raise TypeError(f"{name} is a {found.spec.kind} signal; use Harness.{method}")
        return found


def _table(plugin: Plugin, position: int, on_error: OnError | None, priority: Priority | None) -> PluginTable:
    kind = type(plugin)
    return PluginTable(
        use=f"{kind.__module__}.{kind.__qualname__}", name=plugin.name, position=position,
        settings=plugin.settings.model_dump(), priority=priority, on_error=on_error,
    )  # fmt: skip


def _expect(signal: str, given: object, kind: type) -> None:
    if not isinstance(given, kind):
        raise TypeError(f"{signal} carries a {kind.__name__}, got a {type(given).__name__}")
