"""What is wrong with a plugin is said when it is attached, all of it at once, with file, line and remedy (P4)."""

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import Field

from events import Plugin, PluginSettings, build, on, transform
from events.bus import Bus
from events.catalogue import STEP_END
from events.errors import AttachError
from events.plugin import Subscription
from tests.events.conftest import Attach, table_of


def problems(*plugins: Plugin, **options: Any) -> list[str]:
    """What attaching these says, in order."""
    bus = Bus()
    with pytest.raises(AttachError) as caught:
        bus.attach([(plugin, table_of(plugin, place, **options)) for place, plugin in enumerate(plugins)])
    assert not any(signal.chain for signal in bus.signals), "a plugin was attached beside the problem"
    return list(caught.value.problems)


def plugin_with(function: Any, *, named: str = "handle") -> Plugin:
    return type("Broken", (Plugin,), {named: function})()


def place_of(function: Any) -> str:
    return f"tests/events/test_attach.py:{inspect.getsourcelines(function)[1]}"


def notes(self: Any, event: Any) -> None: ...


def changes(self: Any, value: Any, context: Any) -> Any:
    return value


async def waits(self: Any, event: Any) -> None: ...


async def waits_to_change(self: Any, value: Any, context: Any) -> Any:
    return value


def takes_nothing(self: Any) -> None: ...


def takes_three(self: Any, one: Any, two: Any, three: Any) -> None: ...


def needs_a_keyword(self: Any, event: Any, *, extra: Any) -> None: ...


def yields(self: Any, event: Any) -> Iterator[None]:
    yield


def hides_a_coroutine(function: Any) -> Any:
    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    return call


@pytest.mark.parametrize(
    ("mark", "function", "said"),
    [
        (on("step_end"), notes, "subscribes to 'step_end', which is no signal; did you mean 'step.end'?"),
        (on("epoch.ends"), notes, "which is no signal; did you mean 'epoch.end'?"),
        (build("los"), changes, "subscribes to 'build.los', which is no signal; did you mean 'build.loss'?"),
        (on("xyzzy"), notes, "which is no signal; the command `events` lists them"),
        (transform("step.end"), changes, ": step.end is a notification signal; use @on"),
        (on("sample.caption"), notes, ": sample.caption is a transform signal; use @transform"),
        (transform("build.loss"), changes, ": build.loss is a build signal; use @build"),
        (on("step.end"), waits, "is async, but step.end must be handled before training goes on; write a plain def"),
        (transform("sample.caption"), waits_to_change, "is async, but sample.caption must be handled before"),
        (build("loss"), waits_to_change, "is async, but build.loss must be handled before"),
        (on("step.end"), takes_nothing, "a handler of step.end takes (self, event): too many positional arguments"),
        (on("step.end"), changes, "a handler of step.end takes (self, event): missing a required argument: 'context'"),
        (on("step.end"), needs_a_keyword, "a handler of step.end takes (self, event): missing a required"),
        (transform("sample.caption"), notes, "takes (self, value, context): too many positional arguments"),
        (transform("sample.caption"), takes_three, "takes (self, value, context): missing a required argument"),
        (build("loss"), notes, "a handler of build.loss takes (self, part, context): too many positional arguments"),
        (on("step.end"), yields, "contains a yield, so calling it would do nothing; write a plain def"),
    ],
)
def test_a_handler_that_does_not_fit_is_named_with_place_and_remedy(mark: Any, function: Any, said: str) -> None:
    copy = type(function)(function.__code__, function.__globals__, function.__name__, closure=function.__closure__)
    (problem,) = problems(plugin_with(mark(copy)))
    assert problem.startswith(f"{place_of(function)}: Broken: Broken.handle")
    assert said in problem


def test_an_async_handler_beneath_a_plain_decorator_is_named() -> None:
    """Calling it would make a coroutine that nobody awaits."""
    (problem,) = problems(plugin_with(on("metrics.ready")(hides_a_coroutine(waits))))
    assert problem == (
        f"{place_of(waits)}: Broken: Broken.handle is async beneath a decorator that is not, so nobody would await it;"
        " make the decorator's wrapper async"
    )


def test_a_property_is_named() -> None:
    (problem,) = problems(plugin_with(property(on("run.end")(lambda self: None))))
    assert "Broken.handle is no method but a property; mark a plain def" in problem


def test_a_mark_written_twice_is_named() -> None:
    """The handler would be called once only."""
    (problem,) = problems(plugin_with(on("run.end")(on("run.end", priority=1)(lambda self, event: None))))
    assert problem.endswith("Broken.handle subscribes twice to run.end; leave one decorator out")


def test_async_is_taken_where_the_catalogue_allows_it(attach: Attach) -> None:
    async def handle(self: Any, event: Any) -> None: ...

    bus = attach(plugin_with(on("metrics.ready")(on("checkpoint.saved")(handle))))
    taken = [(signal.name, one.is_async) for signal in bus.signals for one in signal.handlers]
    assert sorted(taken) == [("checkpoint.saved", True), ("metrics.ready", True)]


def test_further_parameters_with_defaults_are_taken(attach: Attach) -> None:
    def handle(self: Any, event: Any, verbose: bool = False, **rest: Any) -> None: ...

    bus = attach(plugin_with(on("step.end")(handle)))
    assert [signal.name for signal in bus.signals if signal.handlers] == ["step.end"]


def test_two_plugins_of_one_name_are_named() -> None:
    said = 'two plugins are named Broken; give one of them a name = "..." of its own'
    assert problems(plugin_with(notes), plugin_with(notes), plugin_with(notes)) == [said]


def test_two_plugins_of_one_class_are_welcome_under_two_names(attach: Attach) -> None:
    one, two = (
        plugin_with(on("step.end")(lambda self, event: None)),
        plugin_with(on("step.end")(lambda self, event: None)),
    )
    bus = attach((one, {"name": "one"}), (two, {"name": "two"}))
    assert [handler.plugin for handler in bus[STEP_END].handlers] == ["one", "two"]


def test_every_problem_of_every_plugin_is_told_once() -> None:
    class Bad(Plugin):
        @on("step_end")
        def one(self, event: Any) -> None: ...

        @on("step.end")  # type: ignore[type-var]  # type checkers refuse it too
        def two(self) -> None: ...

    class Worse(Plugin):
        @transform("step.end")  # type: ignore[type-var]  # likewise
        def three(self, value: Any, context: Any) -> None: ...

    told = problems(Bad(), Worse(), Bad(name="Other"))
    assert len(told) == len(set(told)) == 5
    assert [line.split(": ")[1] for line in told] == ["Bad", "Bad", "Worse", "Other", "Other"]


def test_handlers_of_another_place_are_checked_too() -> None:
    bus = Bus()
    plugin = plugin_with(transform("sample.captions")(changes))
    with pytest.raises(AttachError, match=r"did you mean 'sample\.caption'"):
        bus.attach([(plugin, table_of(plugin))], where=("training",))


def test_only_handlers_of_the_named_places_are_subscribed(attach: Attach) -> None:
    class Both(Plugin):
        @on("step.end")
        def here(self, event: Any) -> None: ...

        @transform("sample.caption")
        def there(self, caption: str, sample: Any) -> str:
            return caption

    def handled(where: Any) -> list[str]:
        return [signal.name for signal in attach(Both(), where=where).signals if signal.handlers]

    assert handled(("training",)) == ["step.end"]
    assert handled(("worker",)) == ["sample.caption"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("epoch.ends", "plugins[0].priority: Broken has no handler for 'epoch.ends'; did you mean 'epoch.end'?"),
        ("run.start", "plugins[0].priority: Broken has no handler for 'run.start'; it handles epoch.end"),
    ],
)
def test_a_priority_for_a_signal_that_is_not_handled_is_named(name: str, said: str) -> None:
    plugin = plugin_with(on("epoch.end")(lambda self, event: None))
    assert problems(plugin, priority={name: 5, "epoch.end": 7}) == [said]


def test_a_setting_that_every_plugin_table_has_is_named() -> None:
    """It could never be set."""

    class Settings(PluginSettings):
        priority: int = Field(1)

    plugin = type("Broken", (Plugin,), {"Settings": Settings})(Settings())
    (problem,) = problems(plugin)
    assert problem.endswith("Broken: Settings has 'priority', a key of every plugin table; call it otherwise")


@pytest.mark.parametrize("wrong", [{"lane_size": 0}, {"lane_full": "wait"}])
def test_a_lane_that_could_hold_nothing_is_named(wrong: dict[str, Any]) -> None:
    (problem,) = problems(type("Broken", (Plugin,), wrong)())
    assert problem.endswith("lane_size is at least 1 and lane_full one of block, drop_oldest, coalesce")


def test_a_style_of_plugins_may_have_checks_of_its_own() -> None:
    class Styled(Plugin):
        def subscriptions(self) -> Iterator[Subscription]:
            raise AttachError(("on_epoch_ned is no hook; did you mean on_epoch_end?",))

    told = problems(Styled(), plugin_with(on("xyzzy")(lambda self, event: None)))
    assert told[0] == "on_epoch_ned is no hook; did you mean on_epoch_end?"
    assert len(told) == 2
