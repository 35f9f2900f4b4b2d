"""The harness runs plugins without a trainer: it fires any signal, with payloads that one call makes."""

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from events import Plugin, build, on, testing, transform
from events.catalogue import CATALOGUE
from events.checks import of_type
from events.errors import AttachError, PluginError
from events.payloads import CheckpointSaved, EpochEnd, RunStart, SampleContext, StepParts
from events.spec import Notification, Transform
from events.testing import GivenRanks, Harness, checkpoint_saved, epoch_end, epoch_start, sample_context, step_parts


class Listener(Plugin):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []

    @on("epoch.end")
    def hear(self, event: EpochEnd) -> None:
        self.heard.append(event)


class Append(Plugin):
    @transform("sample.caption")
    def append(self, caption: str, sample: SampleContext) -> str:
        return f"{caption}, {self.name}"


def appending(name: str) -> Append:
    return Append(name=name)


class Double(Plugin):
    @build("schedule")
    def double(self, factor: Any, parts: Any) -> Any:
        return lambda step: 2 * factor(step)


class Saver(Plugin):
    @on("checkpoint.saved")
    async def save(self, event: CheckpointSaved) -> None:
        await asyncio.sleep(0)
        raise OSError(f"no room at step {event.step}")


def test_it_fires_a_notification() -> None:
    listener = Listener()
    event = epoch_end(epoch=3)
    Harness(listener).emit("epoch.end", event)
    assert listener.heard == [event]


def test_it_applies_a_transform_through_the_plugins_in_order() -> None:
    harness = Harness(appending("one"), appending("two"))
    assert harness.apply("sample.caption", "zero", sample_context()) == "zero, one, two"


def test_it_composes_a_build_part_by_its_short_name() -> None:
    factor = Harness(Double()).compose("schedule", lambda step: 1.0 * step, testing.model_context())
    assert factor(3) == 6


def test_drain_raises_what_an_async_handler_raised() -> None:
    with Harness(Saver()) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved(step=7))
        with pytest.raises(OSError, match="no room at step 7"):
            harness.drain()


def test_drain_raises_several_errors_as_a_group() -> None:
    with Harness(Saver()) as harness:
        for step in (1, 2):
            harness.emit("checkpoint.saved", checkpoint_saved(step=step))
        with pytest.raises(ExceptionGroup) as caught:
            harness.drain()
    assert [str(error) for error in caught.value.exceptions] == ["no room at step 1", "no room at step 2"]


def test_drain_names_the_plugin_that_does_not_end() -> None:
    class Stuck(Plugin):
        @on("checkpoint.saved")
        async def wait(self, event: CheckpointSaved) -> None:
            while not gate.is_set():
                await asyncio.sleep(0.001)

    gate = threading.Event()
    with Harness(Stuck()) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved())
        with pytest.raises(TimeoutError, match="Stuck"):
            harness.drain(limit_seconds=0.01)
        gate.set()
        harness.drain()


def test_a_plugin_that_does_not_fit_is_refused_as_in_a_run() -> None:
    class Wrong(Plugin):
        @on("epoch.ends")
        def hear(self, event: EpochEnd) -> None: ...

    with pytest.raises(AttachError, match="did you mean 'epoch"):
        Harness(Wrong())


def test_a_failing_handler_is_named_as_in_a_run() -> None:
    class Failing(Plugin):
        @on("epoch.end")
        def fail(self, event: EpochEnd) -> None:
            raise RuntimeError("oh")

    with pytest.raises(PluginError, match=r"Failing failed in Failing\.fail"):
        Harness(Failing()).emit("epoch.end", epoch_end())
    Harness(Failing(), on_error="warn").emit("epoch.end", epoch_end())


def test_a_payload_of_another_signal_is_refused() -> None:
    with pytest.raises(TypeError, match=r"epoch\.end carries a EpochEnd, got a EpochStart"):
        Harness().emit("epoch.end", epoch_start())
    with pytest.raises(TypeError, match=r"sample\.caption carries a SampleContext, got a StepParts"):
        Harness().apply("sample.caption", "a", step_parts())


def test_a_signal_of_another_kind_is_refused_with_the_right_method() -> None:
    with pytest.raises(TypeError, match=r"use Harness\.apply"):
        Harness().emit("sample.caption", sample_context())


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(KeyError, match=r"epoch\.ends"):
        Harness().emit("epoch.ends", epoch_end())


def test_leaving_it_closes_the_plugins() -> None:
    class Closing(Plugin):
        closed = False

        def close(self) -> None:
            self.closed = True

    plugin = Closing()
    with Harness(plugin):
        pass
    assert plugin.closed


@pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.name)
def test_every_signal_of_the_catalogue_has_a_payload_in_one_call(spec: Any) -> None:
    kind = spec.payload if isinstance(spec, Notification) else spec.context
    make = getattr(testing, re.sub(r"(?<!^)([A-Z])", r"_\1", kind.__name__).lower())
    needed = [one for one in inspect.signature(make).parameters.values() if one.default is one.empty]
    needed = [one for one in needed if one.kind is not one.VAR_POSITIONAL]
    assert isinstance(make(*(object() for _ in needed)), kind)


def test_a_batch_is_made_of_its_pixels() -> None:
    import torch

    batch = testing.batch(torch.zeros(2, 3, 8, 8))
    event = testing.step_end(batch)
    assert event.sample_ids == ("pictures/0.png", "pictures/1.png")
    assert batch.weight.tolist() == [1, 1]


def test_the_cosine_schedules_snr_is_that_of_its_noise() -> None:
    import torch

    t = torch.tensor([0, 500, 999])
    schedule = testing.CosineSchedule()
    signal = schedule.add_noise(torch.ones(3, 1), torch.zeros(3, 1), t)
    noise = schedule.add_noise(torch.zeros(3, 1), torch.ones(3, 1), t)
    torch.testing.assert_close(schedule.snr(t), (signal / noise).square().flatten())


def test_what_only_a_run_has_says_how_to_give_it() -> None:
    with pytest.raises(AttributeError, match="give sampler="):
        testing.preview_end().sampler.render(())


def test_a_request_of_a_plugin_can_be_read_from_the_payload() -> None:
    class Stopper(Plugin):
        @on("epoch.end")
        def stop(self, event: EpochEnd) -> None:
            event.control.stop("enough", asker=self.name)

    event = epoch_end()
    Harness(Stopper()).emit("epoch.end", event)
    assert [(request.reason, request.asker) for request in event.control.take("stop")] == [("enough", "Stopper")]


def test_the_order_of_a_signals_handlers_can_be_read() -> None:
    harness = Harness(appending("one"), appending("two"), Listener())
    assert harness.order("sample.caption") == ["one.append", "two.append"]
    assert harness.order("epoch.end") == ["Listener.hear"]
    assert harness.order("build.loss") == []
    with pytest.raises(KeyError, match=r"sample\.captions"):
        harness.order("sample.captions")


def test_priorities_are_those_that_a_config_would_give() -> None:
    plugins = (appending("one"), appending("two"), appending("three"))
    harness = Harness(*plugins, priorities={"one": 70, "three": {"sample.caption": 5}})
    assert harness.order("sample.caption") == ["three.append", "two.append", "one.append"]
    assert harness.apply("sample.caption", "zero", sample_context()) == "zero, three, two, one"


def test_a_priority_of_no_plugin_or_no_handler_is_refused() -> None:
    with pytest.raises(ValueError, match="no plugin is named 'another'; these are: one, two"):
        Harness(appending("one"), appending("two"), priorities={"another": 5})
    with pytest.raises(AttachError, match=r"one has no handler for 'sample\.captions'; did you mean"):
        Harness(appending("one"), priorities={"one": {"sample.captions": 5}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    step: int


JUMP = Notification(name="jumper.jump", meaning="It jumped.", payload=Jump)
HEIGHT: Transform[int, Jump] = Transform(
    name="jumper.height", meaning="How high.", value="int", context=Jump, check=of_type(int)
)


class Jumper(Plugin):
    declares = (JUMP, HEIGHT)

    @on("epoch.end")
    def jump(self, event: EpochEnd) -> None:
        if self.bus[JUMP].chain:
            self.bus[JUMP].emit(Jump(step=event.step))
        self.bus[HEIGHT].apply(1, Jump(step=event.step))

    @transform("jumper.height")
    def higher(self, height: int, jump: Jump) -> int:
        return height + jump.step


def test_what_a_plugin_emits_is_recorded_in_order() -> None:
    harness = Harness(Jumper())
    recorded = harness.record("jumper.jump", "jumper.height", "epoch.end")
    alone = harness.record("jumper.jump")
    harness.emit("epoch.end", epoch_end(step=3))
    assert recorded.signals == ["jumper.jump", "jumper.height", "epoch.end"]
    assert recorded.events[:2] == [Jump(step=3), 4]
    assert [jump.step for jump in alone.events] == [3]


def test_recording_changes_nothing() -> None:
    harness = Harness(appending("one"))
    recorded = harness.record("sample.caption")
    assert harness.apply("sample.caption", "zero", sample_context()) == "zero, one"
    assert recorded.fired == [testing.Fired("sample.caption", "zero, one")]


class Asking(Plugin):
    """Asks the control it was given at the start too, and from the background."""

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        self.control = event.control

    @on("epoch.end")
    def ask(self, event: EpochEnd) -> None:
        event.control.save(asker=self.name)
        self.control.set("train.accumulate", 2, asker=self.name)
        event.control.stop("enough", asker=self.name)

    @on("checkpoint.saved")
    async def look(self, event: CheckpointSaved) -> None:
        await asyncio.sleep(0)
        self.control.preview(reason="saved")


def test_what_was_asked_of_the_run_is_noted_in_order_also_when_it_was_taken() -> None:
    with Harness(Asking()) as harness:
        harness.emit("run.start", testing.run_start())
        event = epoch_end()
        harness.emit("epoch.end", event)
        assert len(event.control.take("save", "stop")) == 2
        harness.emit("epoch.end", event)
        harness.emit_and_wait("checkpoint.saved", checkpoint_saved())
        assert [request.kind for request in harness.asked] == ["save", "set", "stop"] * 2 + ["preview"]
    assert harness.asked[1].value == 2


def test_it_can_be_one_of_several_processes() -> None:
    """Who is called there is told in tests/events/test_ranks.py."""
    listener = Listener()
    Harness(listener, ranks=GivenRanks(1, 2)).emit("epoch.end", epoch_end())
    assert listener.heard == []


def test_what_the_others_say_is_given_by_rank_and_what_it_told_them_is_kept() -> None:
    ranks = GivenRanks(1, 3, [[1], [3]], ["a", "c"])
    assert ranks.gather((2,)) == [[1], [2], [3]]
    assert ranks.outcomes("a word", "b") == ["a", "b", "c"]
    assert ranks.told == [[2], "b"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: GivenRanks(2, 2), "rank 2 is none of 2"),
        (lambda: GivenRanks(0, 3, [1, 2], [3]), r"an answer has one value of each other rank, 2; got \[3\]"),
        (lambda: GivenRanks(0, 2, [1]).gather(object()), "not JSON serializable"),
        (lambda: [GivenRanks(0, 2).gather(1)], "gather is called for the 1. time, and 0 answers are given"),
    ],
)
def test_an_exchange_that_cannot_be_is_refused(make: Any, said: str) -> None:
    with pytest.raises((ValueError, LookupError, TypeError), match=said):
        make()


def test_emit_and_wait_drives_async_handlers_to_their_end_and_raises_what_they_raise() -> None:
    with Harness(Saver()) as harness, pytest.raises(OSError, match="no room at step 7"):
        harness.emit_and_wait("checkpoint.saved", checkpoint_saved(step=7))


def test_it_loads_without_torch() -> None:
    told = "import sys, events.testing; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"


def test_step_parts_carry_the_prediction_asked_for() -> None:
    parts: StepParts = step_parts(prediction="v_prediction")
    assert parts.prediction == "v_prediction"
