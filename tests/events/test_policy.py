"""A failing handler is named with plugin, signal and place; whether the run goes on follows signal and `on_error`.

Nothing is swallowed without a line.
"""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from events import Notification, Plugin, on, transform
from events.catalogue import BATCH_HOST, CHECKPOINT_START, EPOCH_END, METRICS_READY, MODEL_READY, RUN_CLOSE, RUN_ERROR
from events.errors import PluginError
from events.testing import (
    batch_context,
    checkpoint_start,
    epoch_end,
    metrics_ready,
    model_ready,
    run_close,
    run_error,
)
from tests.events.conftest import Attach


def failing(signal: str = "epoch.end", error: BaseException | None = None, name: str = "Failing") -> Plugin:
    def handle(self: Any, event: Any) -> None:
        self.calls += 1
        raise error or ValueError("broken")

    return type(name, (Plugin,), {"handle": on(signal)(handle), "calls": 0})()


def listening(signal: str = "epoch.end", name: str = "Listening") -> Any:
    def handle(self: Any, event: Any) -> None:
        self.calls += 1

    return type(name, (Plugin,), {"handle": on(signal, priority=90)(handle), "calls": 0})()


PLACE = f"tests/events/test_policy.py:{failing.__code__.co_firstlineno + 1}"


def test_a_handler_raises_by_default_and_is_named(attach: Attach) -> None:
    error = ValueError("broken")
    with pytest.raises(PluginError) as caught:
        attach(failing(error=error))[EPOCH_END].emit(epoch_end(epoch=3, step=40))
    said = f"plugin Failing failed in Failing.handle ({PLACE}) at epoch.end (step 40, epoch 3)"
    assert str(caught.value) == f"{said}: ValueError: broken"
    assert (caught.value.plugin, caught.value.signal) == ("Failing", "epoch.end")
    assert caught.value.__cause__ is error
    assert error.__notes__ == [said]


def test_an_error_that_is_raised_again_is_noted_once(attach: Attach) -> None:
    error = ValueError("kept")
    bus = attach(failing(error=error), on_error="warn")
    for _ in range(3):
        bus[EPOCH_END].emit(epoch_end())
    assert len(error.__notes__) == 1


def test_warn_logs_each_failure_and_goes_on_with_the_next_handler(attach: Attach, caplog: Any) -> None:
    plugin, listener = failing(), listening()
    bus = attach((plugin, {"on_error": "warn"}), listener)
    for _ in range(5):
        bus[EPOCH_END].emit(epoch_end())
    assert (plugin.calls, listener.calls) == (5, 5)
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 5
    assert "plugin Failing failed in Failing.handle" in caplog.records[0].getMessage()


def test_the_traceback_is_logged_once_for_each_kind_of_error(attach: Attach, caplog: Any) -> None:
    class Moody(Plugin):
        errors = iter([ValueError(1), ValueError(2), KeyError(3), ValueError(4)])

        @on("epoch.end")
        def handle(self, event: Any) -> None:
            raise next(self.errors)

    bus = attach(Moody(), on_error="warn")
    for _ in range(4):
        bus[EPOCH_END].emit(epoch_end())
    assert [record.exc_info is not None for record in caplog.records] == [True, False, True, False]


def test_disable_takes_the_handler_out_after_three_failures(attach: Attach, caplog: Any) -> None:
    plugin, listener = failing(), listening()
    bus = attach((plugin, {"on_error": "disable"}), listener)
    bus.seal()
    for _ in range(5):
        bus[EPOCH_END].emit(epoch_end())
    assert (plugin.calls, listener.calls) == (3, 5)
    assert [handler.plugin for handler in bus[EPOCH_END].handlers] == ["Listening"]
    assert "plugin Failing: Failing.handle is disabled after 3 failures" in caplog.text


def test_a_handler_that_is_disabled_on_one_rank_stays_in_the_plan_which_is_the_same_on_each(attach: Attach) -> None:
    """By which ranks know whether they exchange, so that one does not wait for another."""
    bus = attach(failing(), on_error="disable")
    planned = bus[EPOCH_END].planned
    for _ in range(3):
        bus[EPOCH_END].emit(epoch_end())
    assert bus[EPOCH_END].handlers == ()
    assert [handler.label for handler in bus[EPOCH_END].planned] == [handler.label for handler in planned]


def test_disable_finds_the_handler_beneath_timing_and_tracing(attach: Attach, tmp_path: Any) -> None:
    plugin = failing()
    bus = attach(plugin, on_error="disable")
    bus.time_handlers()
    bus.trace(tmp_path / "trace.jsonl")
    bus.seal()
    for _ in range(5):
        bus[EPOCH_END].emit(epoch_end())
    assert plugin.calls == 3


def test_the_others_are_told_before_the_run_ends(attach: Attach) -> None:
    """So that what they keep goes on together, and a checkpoint taken now is whole."""
    first, last = listening(name="First"), listening(name="Last")
    with pytest.raises(PluginError, match="plugin Failing failed"):
        attach((first, {"priority": 1}), failing(), last)[EPOCH_END].emit(epoch_end())
    assert (first.calls, last.calls) == (1, 1)


def test_of_two_failures_the_first_ends_the_run_and_the_other_is_logged(attach: Attach, caplog: Any) -> None:
    with pytest.raises(PluginError, match="plugin One failed"):
        attach(failing(name="One"), failing(name="Two"))[EPOCH_END].emit(epoch_end())
    assert [record.getMessage().split(" in ")[0] for record in caplog.records] == ["plugin Two failed"]


def test_where_training_relies_on_handlers_the_first_failure_ends_it_at_once(attach: Attach) -> None:
    last = listening("checkpoint.start")
    with pytest.raises(PluginError):
        attach(failing("checkpoint.start"), last)[CHECKPOINT_START].emit(checkpoint_start())
    assert last.calls == 0


def test_an_interrupt_tells_nobody_further(attach: Attach) -> None:
    last = listening()
    with pytest.raises(KeyboardInterrupt):
        attach(failing(error=KeyboardInterrupt()), last)[EPOCH_END].emit(epoch_end())
    assert last.calls == 0


def test_each_handler_has_its_own_count_of_failures(attach: Attach) -> None:
    class Twice(Plugin):
        @on("epoch.end")
        def one(self, event: Any) -> None:
            raise ValueError

        @on("epoch.end")
        def two(self, event: Any) -> None:
            raise ValueError

    bus = attach(Twice(), on_error="disable")
    for _ in range(2):
        bus[EPOCH_END].emit(epoch_end())
    assert len(bus[EPOCH_END].handlers) == 2


def test_disable_takes_out_one_handler_not_its_plugin(attach: Attach) -> None:
    class Mixed(Plugin):
        heard = 0

        @on("epoch.end")
        def good(self, event: Any) -> None:
            self.heard += 1

        @on("epoch.end")
        def bad(self, event: Any) -> None:
            raise ValueError

    plugin = Mixed()
    bus = attach(plugin, on_error="disable")
    for _ in range(5):
        bus[EPOCH_END].emit(epoch_end())
    assert plugin.heard == 5


@pytest.mark.parametrize(
    ("spec", "event"),
    [(MODEL_READY, model_ready()), (CHECKPOINT_START, checkpoint_start())],
    ids=["model", "checkpoint"],
)
@pytest.mark.parametrize("on_error", ["warn", "disable"])
def test_signals_that_training_relies_on_raise_whatever_on_error_says(
    attach: Attach, spec: Any, event: Any, on_error: str
) -> None:
    with pytest.raises(PluginError):
        attach(failing(spec.name), on_error=on_error)[spec].emit(event)


@pytest.mark.parametrize(
    ("spec", "event"), [(RUN_ERROR, run_error()), (RUN_CLOSE, run_close())], ids=["error", "close"]
)
def test_the_last_signals_call_every_handler_and_log_failures(
    attach: Attach, spec: Any, event: Any, caplog: Any
) -> None:
    listener = listening(spec.name)
    bus = attach(failing(spec.name), failing(spec.name, SystemExit(3), "Exiting"), listener, on_error="raise")
    bus[spec].emit(event)
    assert listener.calls == 1
    assert [record.getMessage().split(" failed")[0] for record in caplog.records] == [
        "plugin Failing",
        "plugin Exiting",
    ]


def test_the_last_signals_log_failures_of_bare_receivers_and_nested_signals(attach: Attach, caplog: Any) -> None:
    listener = listening("run.close")
    nested = PluginError("named elsewhere", plugin="Other", signal="other.signal")
    bus = attach(failing("run.close", nested), listener)
    bus[RUN_CLOSE].connect(lambda event: 1 / 0)
    bus[RUN_CLOSE].emit(run_close())
    assert listener.calls == 1
    assert "named elsewhere" in caplog.text
    assert "a receiver failed at run.close: ZeroDivisionError" in caplog.text


def test_an_exit_of_a_handler_is_its_failure(attach: Attach) -> None:
    with pytest.raises(PluginError, match="SystemExit: 3"):
        attach(failing(error=SystemExit(3)))[EPOCH_END].emit(epoch_end())


@pytest.mark.parametrize("spec", [EPOCH_END, RUN_CLOSE], ids=["epoch", "close"])
def test_an_interrupt_by_the_user_passes(attach: Attach, spec: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        attach(failing(spec.name, KeyboardInterrupt()), on_error="warn")[spec].emit(epoch_end())


def test_a_failure_is_named_once_where_it_happened(attach: Attach) -> None:
    """A plugin whose own signal fails in another's handler is not to blame."""
    spec = Notification(name="outer.fired", meaning="", payload=object)

    class Outer(Plugin):
        declares = (spec,)

        @on("epoch.end")
        def fire(self, event: Any) -> None:
            self.bus[spec].emit(event)

    with pytest.raises(PluginError) as caught:
        attach(Outer(), failing("outer.fired"))[EPOCH_END].emit(epoch_end())
    assert (caught.value.plugin, caught.value.signal) == ("Failing", "outer.fired")


def test_changing_a_payload_is_the_handlers_failure(attach: Attach) -> None:
    class Meddler(Plugin):
        @on("epoch.end")
        def meddle(self, event: Any) -> None:
            event.mean_loss = 0.0

        @on("metrics.ready")
        def meddle_within(self, event: Any) -> None:
            event.values["loss"] = 0.0

    bus = attach(Meddler())
    with pytest.raises(PluginError, match="plugin Meddler") as caught:
        bus[EPOCH_END].emit(epoch_end())
    assert isinstance(caught.value.__cause__, FrozenInstanceError)
    with pytest.raises(PluginError, match="this belongs to the event, which cannot be changed"):
        bus[METRICS_READY].emit(metrics_ready())


def test_a_failing_transform_of_a_batch_names_its_samples(attach: Attach) -> None:
    class Bad(Plugin):
        @transform("batch.host")
        def change(self, batch: Any, context: Any) -> Any:
            raise ValueError

    ids = tuple(f"{number}.png" for number in range(10))
    with pytest.raises(PluginError) as caught:
        attach(Bad())[BATCH_HOST].apply(object(), batch_context(sample_ids=ids))  # type: ignore[arg-type]
    assert "samples 0.png, 1.png, 2.png, 3.png, 4.png, 5.png, 6.png, 7.png and 2 more" in str(caught.value)


def test_a_plugin_that_fails_while_closing_is_logged_and_the_others_are_closed(attach: Attach, caplog: Any) -> None:
    closed: list[str] = []

    class Bad(Plugin):
        def close(self) -> None:
            raise SystemExit(1)

    class Good(Plugin):
        def close(self) -> None:
            closed.append(self.name)

    bus = attach(Bad(), Good())
    bus.close()
    bus.close()
    assert closed == ["Good"]
    assert caplog.text.count("plugin Bad failed while closing: SystemExit(1)") == 1


def test_an_interruption_of_one_that_closes_comes_when_all_others_are_closed(attach: Attach) -> None:
    closed: list[str] = []

    class Waiting(Plugin):
        def close(self) -> None:
            raise KeyboardInterrupt

    class Good(Plugin):
        def close(self) -> None:
            closed.append(self.name)

    with pytest.raises(KeyboardInterrupt):
        attach(Waiting(), Good()).close()
    assert closed == ["Good"]


def test_a_state_that_nobody_takes_back_is_refused() -> None:
    class Keeper(Plugin):
        def state_dict(self) -> Any:
            return {"count": 1}

    Plugin().load_state_dict({})
    with pytest.raises(ValueError, match="Keeper stored a state but has no load_state_dict"):
        Keeper().load_state_dict(Keeper().state_dict())
