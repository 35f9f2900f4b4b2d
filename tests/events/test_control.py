"""A handler asks, the loop acts later: requests are noted in order, refused to the asker when they cannot be, and taken once."""

import threading

import pytest

from events.control import Control
from events.errors import ControlError


@pytest.fixture
def control() -> Control:
    return Control()


def test_requests_are_taken_in_order_and_once(control: Control) -> None:
    control.stop("enough", asker="Watch")
    control.save()
    control.preview(reason="curious")
    taken = control.take("stop", "save", "preview")
    assert [(request.kind, request.reason, request.asker) for request in taken] == [
        ("stop", "enough", "Watch"),
        ("save", "asked", ""),
        ("preview", "curious", ""),
    ]
    assert control.take("stop", "save", "preview") == []


def test_only_the_named_kinds_are_taken(control: Control) -> None:
    control.stop("enough")
    control.skip_batch("blank picture")
    assert [request.reason for request in control.take("skip_batch")] == ["blank picture"]
    assert [request.reason for request in control.take("stop")] == ["enough"]


def test_a_setting_is_taken_with_its_value(control: Control) -> None:
    control.set("train.accumulate", 4, asker="Ramp")
    (request,) = control.take("set")
    assert (request.key, request.value, request.asker) == ("train.accumulate", 4, "Ramp")


@pytest.mark.parametrize("value", [0, -1, 2.0, "2", None, True])
def test_a_value_that_a_setting_cannot_have_is_refused_to_the_asker(control: Control, value: object) -> None:
    with pytest.raises(ControlError, match=r"train\.accumulate: expected a whole number of at least 1, got"):
        control.set("train.accumulate", value)
    assert control.take("set") == []


def test_each_setting_has_its_own_least_value(control: Control) -> None:
    control.set("checkpoint.every_steps", 0)
    assert [request.value for request in control.take("set")] == [0]


def test_a_setting_that_cannot_be_set_is_refused_with_a_hint(control: Control) -> None:
    with pytest.raises(ControlError, match=r"train\.acumulate cannot be set .* did you mean 'train\.accumulate'\?"):
        control.set("train.acumulate", 4)
    with pytest.raises(
        ControlError, match=r"these can: checkpoint\.every_steps, preview\.every_steps, train\.accumulate"
    ):
        control.set("model.path", "x")


def test_any_thread_may_ask(control: Control) -> None:
    threads = [threading.Thread(target=lambda: [control.save() for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    taken = 0
    while any(thread.is_alive() for thread in threads):
        taken += len(control.take("save"))
    for thread in threads:
        thread.join()
    assert taken + len(control.take("save")) == 2000


def test_a_signal_may_ask_while_the_thread_that_it_interrupts_looks_at_what_is_asked_for(control: Control) -> None:
    """Its handler runs in the middle of whatever that thread is doing; here, of a comparison."""

    class Interrupting(str):
        __hash__ = str.__hash__
        has_asked = False

        def __eq__(self, other: object) -> bool:
            if not self.has_asked:
                self.has_asked = True
                control.stop("interrupted", asker="the terminal")
            return str.__eq__(self, other)

    control.save()
    assert not control.is_asked(Interrupting("export"))  # type: ignore[arg-type]  # an export, as far as it knows
    assert control.take(Interrupting("preview")) == []  # type: ignore[arg-type]  # likewise
    assert control.is_asked("export", "save")
    assert [request.kind for request in control.take("stop", "save")] == ["save", "stop", "stop"]
