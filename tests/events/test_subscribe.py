"""The decorators only mark; what a plugin subscribes to follows from its class alone, without evaluating anything."""

from functools import cached_property, lru_cache
from typing import Any

import pytest

from events import Plugin, build, on, transform
from events.marks import Mark, marks_of


def subscribed(plugin: Plugin) -> list[tuple[str, str]]:
    return [
        (subscription.label.rpartition(".")[2], subscription.mark.signal) for subscription in plugin.subscriptions()
    ]


def test_a_decorator_gives_the_function_back_unchanged() -> None:
    def handle(self: Any, event: Any) -> Any:
        return "called"

    assert on("step.end")(handle) is handle
    assert handle(None, None) == "called"
    assert marks_of(handle) == (Mark(kind="notification", signal="step.end", priority=50),)


def test_a_part_is_named_with_or_without_its_room() -> None:
    short, long = build("loss")(lambda loss, parts: loss), build("build.loss")(lambda loss, parts: loss)
    assert marks_of(short) == marks_of(long) != ()


def test_a_method_may_handle_several_signals() -> None:
    class Two(Plugin):
        @on("epoch.start", priority=10)
        @on("epoch.end")
        def note(self, event: Any) -> None: ...

    assert subscribed(Two()) == [("note", "epoch.start"), ("note", "epoch.end")]


def test_signals_come_in_order_of_definition_base_classes_first() -> None:
    class Base(Plugin):
        @on("run.end")
        def z(self, event: Any) -> None: ...

        @transform("sample.caption")
        def a(self, caption: str, sample: Any) -> str:
            return caption

    class Child(Base):
        @build("loss")
        def m(self, loss: Any, parts: Any) -> Any:
            return loss

    assert subscribed(Child()) == [("z", "run.end"), ("a", "sample.caption"), ("m", "build.loss")]


def test_an_override_without_a_decorator_keeps_the_marks() -> None:
    class Base(Plugin):
        @on("run.end")
        def note(self, event: Any) -> Any:
            return "base"

    class Child(Base):
        def note(self, event: Any) -> Any:
            return "child"

    (subscription,) = Child().subscriptions()
    assert subscription.method(None) == "child"


def test_an_override_with_a_decorator_has_its_own_marks() -> None:
    class Base(Plugin):
        @on("run.end")
        def note(self, event: Any) -> None: ...

    class Child(Base):
        @on("run.start")
        def note(self, event: Any) -> None: ...

    assert subscribed(Child()) == [("note", "run.start")]


def test_an_override_by_none_takes_the_handler_out() -> None:
    class Base(Plugin):
        @on("run.end")
        def note(self, event: Any) -> None: ...

    class Child(Base):
        note = None  # type: ignore[assignment]

    assert subscribed(Child()) == []


def test_no_property_is_evaluated() -> None:
    class Lazy(Plugin):
        @property
        def costly(self) -> None:
            raise AssertionError("evaluated")

        @cached_property
        def costlier(self) -> None:
            raise AssertionError("evaluated")

        @property
        @on("run.end")  # type: ignore[type-var]  # nor does a property fit
        def marked(self) -> None:
            raise AssertionError("evaluated")

    assert subscribed(Lazy()) == [("marked", "run.end")]


@pytest.mark.parametrize("kind", [property, cached_property])
def test_a_decorator_on_a_property_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"run\.end is handled by a plain def, not by a property"):
        on("run.end")(kind(lambda self: None))


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_static_and_class_methods_work_with_the_decorators_in_either_order(kind: Any, outside: bool) -> None:
    def static(event: Any) -> Any:
        return event

    def of_class(cls: Any, event: Any) -> Any:
        return event

    function: Any = static if kind is staticmethod else of_class
    note = on("run.end")(kind(function)) if outside else kind(on("run.end")(function))
    (subscription,) = type("P", (Plugin,), {"note": note})().subscriptions()
    assert subscription.method("event") == "event"
    assert subscription.written is function


def test_a_method_wrapped_by_an_object_is_called_with_its_plugin() -> None:
    class Cached(Plugin):
        @on("run.end")
        @lru_cache  # noqa: B019  # an object that is no function, and binds like one
        def note(self, event: Any) -> Any:
            return self, event

    plugin = Cached()
    (subscription,) = plugin.subscriptions()
    assert subscription.method("event") == (plugin, "event")


def test_an_attribute_that_answers_to_any_name_has_no_marks() -> None:
    class Any_:
        def __getattr__(self, name: str) -> object:
            return self

    assert subscribed(type("P", (Plugin,), {"odd": Any_()})()) == []
