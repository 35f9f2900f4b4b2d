"""A bus with the plugins of a test and no trainer."""

from typing import Self, TypeVar

from ..bus import Bus
from ..plugin import OnError, Plugin, PluginTable
from ..signals import BuildSignal, NotificationSignal, Signal, TransformSignal

Value = TypeVar("Value")
SignalKind = TypeVar("SignalKind", bound=Signal)


class Harness:
    """The plugins attached in this order, as a config would attach them. Leave it by `close`, or use it in a `with`."""

    def __init__(self, *plugins: Plugin, on_error: OnError | None = None) -> None:
        """`on_error` is every plugin's; None is the default of each handler. Raises AttachError as a run would."""
        self.bus = Bus()
        self.bus.attach(
            [(plugin, _table(plugin, position, on_error)) for position, plugin in enumerate(plugins)],
            where=("training", "worker"),
        )

    def emit(self, signal: str, event: object) -> None:
        """Fire a notification: ``harness.emit("epoch.end", epoch_end(epoch=3))``."""
        found = self._signal(signal, NotificationSignal)
        _expect(signal, event, found.spec.payload)
        found.emit(event)

    def apply(self, signal: str, value: Value, context: object) -> Value:
        """Hand a value through a transform: ``harness.apply("sample.caption", "a, b", sample_context())``."""
        found = self._signal(signal, TransformSignal)
        _expect(signal, context, found.spec.context)
        result: Value = found.apply(value, context)
        return result

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
        """Stop the lanes and close the plugins, as the end of a run does."""
        self.bus.close(grace_seconds=10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _signal(self, name: str, kind: type[SignalKind]) -> SignalKind:
        found = next((signal for signal in self.bus.signals if signal.name == name), None)
        if found is None:
            raise KeyError(f"there is no signal {name!r}; `python run.py events` lists them")
        if not isinstance(found, kind):
            method = {"notification": "emit", "transform": "apply", "build": "compose"}[found.spec.kind]
            raise TypeError(f"{name} is a {found.spec.kind} signal; use Harness.{method}")
        return found


def _table(plugin: Plugin, position: int, on_error: OnError | None) -> PluginTable:
    kind = type(plugin)
    return PluginTable(
        use=f"{kind.__module__}.{kind.__qualname__}", name=plugin.name, position=position,
        settings=plugin.settings.model_dump(), on_error=on_error,
    )  # fmt: skip


def _expect(signal: str, given: object, kind: type) -> None:
    if not isinstance(given, kind):
        raise TypeError(f"{signal} carries a {kind.__name__}, got a {type(given).__name__}")
