"""A value goes through every transform in order, each is given its predecessor's, and a wrong one names its plugin (P5)."""

from typing import Any

import pytest

from events import Plugin, build, transform
from events.bus import Bus
from events.catalogue import BUILD_NOISE, BUILD_WEIGHT, EPOCH_PLAN, SAMPLE_CAPTION
from events.errors import PluginError, ReturnedWrong
from events.payloads import SampleKey
from events.testing import plan_context, sample_context, step_parts
from tests.events.conftest import Attach


def captioner(change: Any, *, name: str = "Captioner", priority: int = 50) -> Plugin:
    def handle(self: Any, caption: str, sample: Any) -> Any:
        return change(caption)

    return type(name, (Plugin,), {"handle": transform("sample.caption", priority=priority)(handle)})()


def test_each_is_given_what_its_predecessor_returned(attach: Attach) -> None:
    bus = attach(captioner(lambda text: text + "b", name="One"), captioner(lambda text: text + "c", name="Two"))
    assert bus[SAMPLE_CAPTION].apply("a", sample_context()) == "abc"


def test_without_handlers_the_value_comes_back_as_it_is(attach: Attach) -> None:
    value = "a, b"
    assert attach()[SAMPLE_CAPTION].apply(value, sample_context()) is value


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "expected str, got None; is there a `return` missing?"),
        (7, "expected str, got int 7"),
        (b"a", "expected str, got bytes"),
    ],
)
def test_a_wrong_value_names_plugin_signal_and_sample(attach: Attach, returned: object, said: str) -> None:
    bus = attach(captioner(lambda text: returned))
    with pytest.raises(PluginError) as caught:
        bus[SAMPLE_CAPTION].apply("a", sample_context(sample_id="cats/a.png", epoch=3))
    error = caught.value
    assert (error.plugin, error.signal) == ("Captioner", "sample.caption")
    assert isinstance(error.__cause__, ReturnedWrong)
    assert said in str(error)
    assert "epoch 3, sample_id cats/a.png" in str(error)
    assert f"test_transforms.py:{captioner.__code__.co_firstlineno + 1}" in str(error)


def test_the_first_wrong_value_stops_the_chain(attach: Attach) -> None:
    called: list[str] = []
    bus = attach(captioner(lambda text: None, name="Forgetful"), captioner(called.append, name="Never"))
    with pytest.raises(PluginError, match="Forgetful"):
        bus[SAMPLE_CAPTION].apply("a", sample_context())
    assert called == []


@pytest.mark.parametrize("on_error", ["raise", "warn", "disable"])
def test_a_failing_transform_raises_whatever_on_error_says(attach: Attach, on_error: str) -> None:
    """A value that was not changed as the user asked would train the wrong thing."""
    bus = attach(captioner(lambda text: text / 2), on_error=on_error)
    with pytest.raises(PluginError, match="TypeError"):
        bus[SAMPLE_CAPTION].apply("a", sample_context())


def test_a_bare_receiver_is_checked_too(attach: Attach) -> None:
    bus = attach()
    bus[SAMPLE_CAPTION].connect(lambda caption, sample: None)
    with pytest.raises(ReturnedWrong):
        bus[SAMPLE_CAPTION].apply("a", sample_context())


class Dice(Plugin):
    """Draws twice in one caption, by two methods."""

    def __init__(self, drawn: dict[str, list[float]]) -> None:
        super().__init__()
        self.drawn = drawn

    @transform("sample.caption")
    def first(self, caption: str, sample: Any) -> str:
        self.drawn.setdefault("first", []).append(sample.rng.py.random())
        return caption

    @transform("sample.caption", priority=10)
    def second(self, caption: str, sample: Any) -> str:
        self.drawn.setdefault("second", []).append(sample.rng.py.random())
        return caption


def draws(attach: Attach, *others: Plugin, **context: Any) -> dict[str, list[float]]:
    drawn: dict[str, list[float]] = {}
    attach(*others, Dice(drawn))[SAMPLE_CAPTION].apply("a", sample_context(**context))
    return drawn


def test_draws_do_not_depend_on_other_plugins(attach: Attach) -> None:
    class Greedy(Plugin):
        @transform("sample.caption", priority=1)
        def draw(self, caption: str, sample: Any) -> str:
            return f"{caption} {sample.rng.py.random()}"

    assert draws(attach, Greedy()) == draws(attach)


def test_draws_are_of_the_sample(attach: Attach) -> None:
    here = draws(attach)
    assert draws(attach, sample_id="other.png") != here
    assert draws(attach, epoch=1) != here
    assert draws(attach, repeat=1) != here
    assert draws(attach, seed=1) != here
    assert draws(attach) == here


def test_two_handlers_of_one_plugin_draw_independently(attach: Attach) -> None:
    drawn = draws(attach)
    assert drawn["first"] != drawn["second"]


def test_the_first_handler_of_a_plugin_draws_at_plugin_and_signal(attach: Attach) -> None:
    """First by definition, so that a priority in the config changes no draw."""
    context = sample_context()
    assert draws(attach)["first"] == [context.rng.of("Dice", "sample.caption").py.random()]


def test_draws_of_an_epochs_plan_do_not_depend_on_other_plugins(attach: Attach) -> None:
    def planner(name: str, drawn: list[float]) -> Plugin:
        def plan(self: Any, batches: Any, context: Any) -> Any:
            drawn.append(context.rng.py.random())
            return batches

        return type(name, (Plugin,), {"plan": transform("epoch.plan")(plan)})()

    alone: list[float] = []
    beside: list[float] = []
    plan = ((SampleKey(0, 0, 0),),)
    attach(planner("Last", alone))[EPOCH_PLAN].apply(plan, plan_context())
    attach(planner("Other", []), planner("Last", beside))[EPOCH_PLAN].apply(plan, plan_context())
    assert alone == beside


def weigher(factor: float, name: str = "Weigher") -> Plugin:
    def handle(self: Any, weight: Any, parts: Any) -> Any:
        return lambda t, batch: weight(t, batch) * factor

    return type(name, (Plugin,), {"handle": build("weight")(handle)})()


def test_a_part_is_composed_through_every_builder_in_order(attach: Attach) -> None:
    bus = attach(weigher(2.0, "One"), weigher(5.0, "Two"))
    weight: Any = bus[BUILD_WEIGHT].compose(lambda t, batch: t, step_parts())
    assert weight(3.0, None) == 30.0


@pytest.mark.parametrize(
    ("returned", "said"), [(None, "got None; is there a `return` missing"), (0.5, "expected a function, got float 0.5")]
)
def test_a_builder_that_returns_no_such_part_is_named(attach: Attach, returned: Any, said: str) -> None:
    plugin = type("Odd", (Plugin,), {"handle": build("weight")(lambda self, weight, parts: returned)})()
    with pytest.raises(PluginError, match=said) as caught:
        attach(plugin)[BUILD_WEIGHT].compose(print, step_parts())
    assert (caught.value.plugin, caught.value.signal) == ("Odd", "build.weight")


class Stream:
    """Stands for the generator of a place, which gives each plugin its own."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def of(self, plugin: str) -> "Stream":
        return Stream(plugin)


def test_a_built_function_draws_from_the_stream_of_its_own_plugin(attach: Attach) -> None:
    class Noise(Plugin):
        @build("noise")
        def more(self, noise: Any, parts: Any) -> Any:
            return lambda latents, generator: [*noise(latents, generator), generator.name]

        @build("noise")
        def still_more(self, noise: Any, parts: Any) -> Any:
            return lambda latents, generator: [*noise(latents, generator), generator.name]

        @build("noise")
        def same(self, noise: Any, parts: Any) -> Any:
            return noise

    bus: Bus = attach(Noise(), type("Other", (Noise,), {})())
    noise: Any = bus[BUILD_NOISE].compose(lambda latents, generator: ["core"], step_parts())
    assert noise(None, Stream()) == ["core", "Noise", "Noise#2", "Other", "Other#2"]
