"""A handler asks, the loop acts later: requests are noted in order, validated by their owner and taken once."""

import threading
from typing import Any

import pytest

from events.control import Control
from events.errors import ControlError


def positive(value: Any) -> int:
    if value < 1:
        raise ControlError(f"expected at least 1, got {value}")
    return int(value)


@pytest.fixture
def control() -> Control:
    return Control({"train.accumulate": positive, "preview.every_steps": positive})


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


def test_a_setting_is_taken_as_its_owner_validated_it(control: Control) -> None:
    control.set("train.accumulate", 4.0)
    (request,) = control.take("set")
    assert (request.key, request.value) == ("train.accumulate", 4)
    assert type(request.value) is int


def test_a_value_that_its_owner_refuses_is_refused_to_the_asker(control: Control) -> None:
    with pytest.raises(ControlError, match="expected at least 1, got 0"):
        control.set("train.accumulate", 0)
    assert control.take("set") == []


def test_a_setting_that_cannot_be_set_is_refused_with_a_hint(control: Control) -> None:
    with pytest.raises(ControlError, match=r"train\.acumulate cannot be set .* did you mean 'train\.accumulate'\?"):
        control.set("train.acumulate", 4)
    with pytest.raises(ControlError, match=r"these can: preview\.every_steps, train\.accumulate"):
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
