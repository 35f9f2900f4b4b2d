"""A payload is a frozen, slotted, keyword-only dataclass with documented fields that never holds the trainer (P6)."""

import ast
import copy
import inspect
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, fields, is_dataclass
from types import MappingProxyType
from typing import Any

import pytest

from events import payloads, testing
from events.catalogue import CATALOGUE
from events.payloads.read_only import ReadOnly
from events.spec import Build, Notification, Transform

PAYLOADS = [
    kind for name in payloads.__all__ if isinstance(kind := getattr(payloads, name), type) and is_dataclass(kind)
]
CARRIED = [
    spec.payload if isinstance(spec, Notification) else spec.context
    for spec in CATALOGUE
    if isinstance(spec, Notification | Transform | Build)
]
SELF_EVIDENT = {
    "run", "step", "epoch", "control", "live", "schedule", "optimizer", "groups", "prompt", "prompts", "items", "text",
    "width", "path", "repeat", "batch_size", "sample_ids", "seed", "error",
}  # fmt: skip
"""Names that mean the same everywhere: `step` is optimizer steps taken, `epoch` counts from 0."""
each_payload = pytest.mark.parametrize("kind", PAYLOADS, ids=lambda kind: kind.__name__)


def test_whatever_the_catalogue_carries_is_a_payload() -> None:
    assert set(CARRIED) <= set(PAYLOADS)


@each_payload
def test_it_is_frozen(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen
    with pytest.raises(FrozenInstanceError):
        setattr(object.__new__(kind), fields(kind)[0].name, None)


@each_payload
def test_it_is_slotted(kind: Any) -> None:
    assert set(kind.__slots__) == {field.name for field in fields(kind)}
    assert not hasattr(object.__new__(kind), "__dict__")


@each_payload
def test_its_fields_are_given_by_name(kind: Any) -> None:
    assert all(field.kw_only for field in fields(kind))


@each_payload
def test_it_does_not_hold_the_trainer(kind: Any) -> None:
    held = {f"{field.name} {field.type}".lower() for field in fields(kind)}
    assert not [field for field in held if any(word in field for word in ("trainer", "session", "core.", "bus"))]


@each_payload
def test_it_and_its_fields_are_documented(kind: Any) -> None:
    (node,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(node, ast.ClassDef)
    assert ast.get_docstring(node)
    documented = {
        before.target.id
        for before, after in zip(node.body, node.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr)
    }
    assert {field.name for field in fields(kind)} - documented <= SELF_EVIDENT


SHARED: dict[str, Callable[[Any], Mapping[Any, Any]]] = {
    "RunStart.config": lambda given: testing.run_start(config=given).config,
    "MetricsReady.values": lambda given: testing.metrics_ready(values=given).values,
    "StepEnd.learning_rates": lambda given: testing.step_end(learning_rates=given).learning_rates,
    "DataReady.buckets": lambda given: testing.data_ready(buckets=given).buckets,
    "Item.extras": lambda given: testing.item(extras=given).extras,
    "SampleSettings.extras": lambda given: payloads.SampleSettings(extras=given).extras,
}
each_shared = pytest.mark.parametrize("field", SHARED)


@each_shared
def test_a_mapping_that_handlers_share_cannot_be_changed(field: str) -> None:
    shared: Any = SHARED[field]({"a": 1.0})
    for change in (
        lambda: shared.update(a=2.0),
        lambda: shared.setdefault("b", 1.0),
        lambda: shared.pop("a"),
        lambda: shared.popitem(),
        lambda: shared.clear(),
        lambda: shared.__setitem__("a", 2.0),
        lambda: shared.__delitem__("a"),
        lambda: shared.__ior__({"a": 2.0}),
    ):
        with pytest.raises(TypeError, match="this belongs to the event"):
            change()
    assert shared == {"a": 1.0}


@each_shared
def test_a_mapping_that_handlers_share_does_not_follow_its_origin(field: str) -> None:
    origin: dict[Any, Any] = {"a": 1.0}
    shared = SHARED[field](origin)
    origin["a"] = 2.0
    assert shared == {"a": 1.0}


def test_nested_mappings_are_read_only_too() -> None:
    config: Any = testing.run_start(config=MappingProxyType({"train": {"steps": 1}})).config
    with pytest.raises(TypeError, match="this belongs to the event"):
        config["train"]["steps"] = 2


def test_a_read_only_mapping_is_json_and_travels_between_processes() -> None:
    shared = ReadOnly(a=ReadOnly(b=1))
    assert json.loads(json.dumps(shared)) == {"a": {"b": 1}}
    for copied in (pickle.loads(pickle.dumps(shared)), copy.deepcopy(shared), copy.copy(shared)):
        assert copied == shared
        assert type(copied) is ReadOnly
    assert type(shared.copy()) is dict


def test_an_item_travels_to_a_worker() -> None:
    item = testing.item(extras={"a": 1})
    assert pickle.loads(pickle.dumps(item)) == item


def test_a_step_names_its_samples_and_captions_over_all_rounds() -> None:
    import torch

    one, two = (testing.batch(torch.zeros(2, 3, 4, 4), captions=captions) for captions in (("a", "b"), ("c", "d")))
    event = testing.step_start(one, two)
    assert event.captions == ("a", "b", "c", "d")
    assert event.sample_ids == one.sample_ids + two.sample_ids == testing.step_end(one, two).sample_ids


def test_a_handlers_own_context_is_the_samples_but_for_its_random_streams() -> None:
    whole = testing.sample_context(epoch=3, repeat=1, caption="a red heart", extras={"shade": 2})
    own = whole.for_handler("gamma", "sample.image")
    for field in fields(whole):
        if field.name != "rng":
            assert getattr(own, field.name) == getattr(whole, field.name), field.name
    assert own.rng.place == (*whole.rng.place, "gamma", "sample.image")
