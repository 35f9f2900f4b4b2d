"""Plugins' states go into checkpoints and come back; whoever cannot is named; who is absent now loses nothing."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from core.errors import CheckpointError
from core.resuming.packing import unpack
from core.resuming.plugin_states import PluginStates
from events import Plugin
from events.bus import Bus
from events.errors import PluginError
from events.plugin import PluginTable

Stored = dict[str, Any]


class Counter(Plugin):
    """Keeps a count and a tensor."""

    count = 0
    mean = torch.zeros(2)

    def state_dict(self) -> Mapping[str, Any]:
        return {"count": self.count, "mean": self.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count, self.mean = state["count"], state["mean"]


def states_of(*plugins: Plugin) -> PluginStates:
    bus = Bus()
    bus.attach(
        [(plugin, PluginTable(use="x.X", name=plugin.name, position=0, settings={})) for plugin in plugins]
    )  # fmt: skip
    return PluginStates(bus)


def stored_by(states: PluginStates) -> Stored:
    trees, tensors = states.collect()
    return {name: unpack(tree, tensors) for name, tree in trees.items()}


def failing(give: Any) -> Plugin:
    class Failing(Plugin):
        def state_dict(self) -> Any:
            return give()

    return Failing()


def raises(error: BaseException) -> Any:
    def give() -> None:
        raise error

    return give


def test_what_a_plugin_stored_comes_back() -> None:
    counter, again = Counter(), Counter()
    counter.count, counter.mean = 3, torch.tensor([1.0, 2.0])
    states_of(again).give_back(stored_by(states_of(counter)), {"Counter": 1})
    assert again.count == 3
    assert again.mean.tolist() == [1.0, 2.0]


def test_a_stored_tensor_is_the_plugins_no_longer() -> None:
    counter = Counter()
    counter.mean = torch.ones(2)
    _, tensors = states_of(counter).collect()
    counter.mean.zero_()
    assert tensors["Counter/mean"].tolist() == [1.0, 1.0]


def test_the_caller_says_how_tensors_are_taken() -> None:
    _, tensors = states_of(Counter()).collect(lambda tensor: tensor + 1)
    assert tensors["Counter/mean"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (raises(KeyError("means")), "KeyError: 'means'"),
        (raises(SystemExit(3)), "SystemExit: 3"),
        (lambda: None, "returned NoneType, not a dict; is there a `return` missing"),
        (lambda: {"x": object()}, "Failing/x: object cannot be stored"),
        (lambda: {1: 2}, "keys of a stored state are strings, got 1"),
        (lambda: {"a/b": torch.ones(1), "a": {"b": torch.ones(1)}}, "Failing/a/b: two tensors of a state"),
        (lambda: {"x": {"__tensor__": "y"}}, "Failing/x: '__tensor__' alone has a meaning of its own"),
        (lambda: {"x": torch.ones(1, device="meta")}, "NotImplementedError"),
    ],
    ids=["raises", "exits", "nothing", "object", "number-as-key", "two-of-one-path", "reserved", "no-values"],
)
def test_a_state_that_cannot_be_stored_is_the_plugins_failure(give: Any, said: str) -> None:
    with pytest.raises(PluginError, match="the state of plugin Failing cannot be stored") as caught:
        states_of(failing(give)).collect()
    assert said in str(caught.value)
    assert caught.value.plugin == "Failing"


@pytest.mark.parametrize("error", [KeyError("count"), SystemExit(1), ValueError("of another size")])
def test_a_state_that_is_not_taken_back_names_the_plugin(error: BaseException) -> None:
    class Picky(Counter):
        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            raise error

    with pytest.raises(CheckpointError, match=r"plugin Picky cannot take back its state: (?s:.*)--fresh"):
        states_of(Picky()).give_back({"Picky": {"count": 1}}, {})


def test_another_version_is_told(caplog: pytest.LogCaptureFixture) -> None:
    states_of(Counter()).give_back({"Counter": {"count": 1, "mean": torch.ones(2)}}, {"Counter": 7})
    assert "plugin Counter stored its state as version 7 and is 1 now" in caplog.text


def test_a_plugin_that_is_new_is_told(caplog: pytest.LogCaptureFixture) -> None:
    states_of(Counter()).give_back({}, {})
    assert "plugin Counter is new in this run and starts without a state" in caplog.text


def test_the_state_of_an_absent_plugin_is_kept_until_it_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    counter = Counter()
    counter.count = 5
    without = states_of()
    without.give_back(stored_by(states_of(counter)), {"Counter": 7})
    assert "holds a state of plugin Counter, which this config does not name; it is kept" in caplog.text
    assert without.versions == {"Counter": 7}
    again = Counter()
    states_of(again).give_back(stored_by(without), without.versions)
    assert again.count == 5
    assert "stored its state as version 7" in caplog.text


def test_an_absent_plugin_without_a_state_is_nothing_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    without = states_of()
    without.give_back({"Plain": {}}, {"Plain": 1})
    assert (stored_by(without), without.versions, caplog.text) == ({}, {}, "")
