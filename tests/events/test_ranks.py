"""Of several processes a handler runs where its decorator, or else its signal, says; and exchanges only where all come.

The plan is the same on every rank.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from core.attached.plan_text import plan_lines
from events import Notification, Plugin, Transform, on, transform
from events.bus import Bus
from events.catalogue import CATALOGUE, EPOCH_END, EPOCH_START
from events.errors import AttachError, CollectiveRefused, PluginError
from events.guards import Guard
from events.ranks import ALONE, Ranks
from events.testing import GivenRanks, Harness, epoch_end, epoch_start, metrics_ready, preview_end, step_end
from tests.events.conftest import table_of
from tests.events.test_attach import notes, place_of, plugin_with, problems, waits

FIRST, SECOND = GivenRanks(0, 2), GivenRanks(1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """What a plugin's own signal carries here."""


def bus_with(*plugins: Plugin, ranks: Ranks = ALONE, **options: Any) -> Bus:
    bus = Bus(ranks=ranks)
    bus.attach([(plugin, table_of(plugin, place, **options)) for place, plugin in enumerate(plugins)])
    return bus


class Mixed(Plugin):
    """A handler of each kind, and of signals with each default."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    @on("epoch.end")
    def write(self, event: Any) -> None:
        self.called.append("write")

    @on("epoch.end", ranks="all")
    def change(self, event: Any) -> None:
        self.called.append("change")

    @on("epoch.end", ranks="all", collective=True)
    def exchange(self, event: Any) -> None:
        self.called.append("exchange")

    @on("model.ready")
    def hook(self, event: Any) -> None: ...

    @on("model.ready", ranks="main")
    def tell(self, event: Any) -> None: ...

    @on("progress")
    def draw(self, event: Any) -> None: ...

    @on("metrics.ready")
    async def post(self, event: Any) -> None: ...

    @transform("data.items")
    def sift(self, items: Any, context: Any) -> Any:
        return items

    @transform("checkpoint.retention")
    def keep(self, going: Any, context: Any) -> Any:
        return going


# where a handler runs


def test_a_handler_runs_where_it_says_or_else_where_its_signal_has_it() -> None:
    attached = {
        rank: {handler.label.partition(".")[2] for signal in bus.signals for handler in signal.handlers}
        for rank, bus in ((0, bus_with(Mixed(), ranks=FIRST)), (1, bus_with(Mixed(), ranks=SECOND)))
    }
    assert attached[0] == {"write", "change", "exchange", "hook", "tell", "draw", "post", "sift", "keep"}
    assert attached[1] == {"change", "exchange", "hook", "sift"}


@pytest.mark.parametrize(
    ("ranks", "called"), [(ALONE, ["write", "change", "exchange"]), (SECOND, ["change", "exchange"])]
)
def test_those_that_run_on_a_rank_are_called_there_in_their_order(ranks: Ranks, called: list[str]) -> None:
    plugin = Mixed()
    bus_with(plugin, ranks=ranks)[EPOCH_END].emit(epoch_end())
    assert plugin.called == called


def test_only_the_signals_that_hand_out_modules_are_for_every_rank_by_default() -> None:
    """They are where plugins hook into what is trained, on whichever rank."""
    on_all = [spec.name for spec in CATALOGUE if isinstance(spec, Notification) and spec.ranks == "all"]
    assert on_all == ["model.loaded", "model.ready"]


def test_what_is_done_once_is_fired_by_the_main_rank_alone() -> None:
    assert [spec.name for spec in CATALOGUE if spec.main_only] == [
        "progress", "preview.prompts", "preview.image", "checkpoint.retention", "checkpoint.metadata",
        "checkpoint.tensors", "export.write",
    ]  # fmt: skip


def test_the_plan_is_the_same_on_every_rank_and_says_where_handlers_run() -> None:
    plans = [list(plan_lines(bus_with(Mixed(), ranks=ranks), with_sources=False)) for ranks in (ALONE, FIRST, SECOND)]
    assert plans[0] == plans[1] == plans[2]
    said = {line.split()[2].partition(".")[2]: line.split()[3:] for line in plans[0] if line.startswith("  ")}
    assert {name: " ".join(words) for name, words in said.items()} == {
        "write": "sync", "change": "sync on all ranks", "exchange": "sync on all ranks together",
        "hook": "sync on all ranks", "tell": "sync", "draw": "sync", "post": "async", "sift": "sync", "keep": "sync",
    }  # fmt: skip
    assert "progress (notification, training process, main rank)" in plans[0]
    assert "checkpoint.retention (transform, training process, main rank)" in plans[0]


# what is refused


@pytest.mark.parametrize(
    ("mark", "function", "said"),
    [
        (on("epoch.end", ranks="each"), notes, ": ranks is \"main\" or \"all\", not 'each'"),  # type: ignore[call-overload]
        (on("progress", ranks="all"), notes, ": progress is fired on the main rank alone; leave out ranks"),
        (
            on("progress", ranks="all", collective=True), notes,
            ": progress is fired on the main rank alone; leave out collective",
        ),
        (on("progress", collective=True), notes, ": progress is fired on the main rank alone; leave out collective"),
        (
            on("metrics.ready", ranks="all", collective=True), waits,
            " is async and collective, but ranks wait for each other in step; write a plain def",
        ),
        (
            on("epoch.end", collective=True), notes,
            ' is collective, so every rank must call it; add ranks="all"',
        ),
        (
            on("model.ready", ranks="main", collective=True), notes,
            ' is collective, so every rank must call it; add ranks="all"',
        ),
        (
            on("run.error", ranks="all", collective=True), notes,
            " is collective, but run.error also fires when another rank has ended, and would be waited for; leave it out",
        ),
        (on("run.close", ranks="all", collective=True), notes, " is collective, but run.close also fires when"),
    ],
)  # fmt: skip
def test_what_cannot_be_on_several_ranks_is_named_with_place_and_remedy(mark: Any, function: Any, said: str) -> None:
    copy = type(function)(function.__code__, function.__globals__, function.__name__)
    (problem,) = problems(plugin_with(mark(copy)))
    assert problem.startswith(f"{place_of(function)}: Broken: Broken.handle{said}")


def test_it_is_refused_with_one_process_too() -> None:
    """Or it would be found by whoever has a second one."""
    with pytest.raises(AttachError, match='add ranks="all"'):
        bus_with(plugin_with(on("epoch.end", collective=True)(lambda self, event: None)), ranks=ALONE)


def test_a_signal_that_is_for_every_rank_may_have_a_collective_handler_as_it_is() -> None:
    bus = bus_with(plugin_with(on("model.ready", collective=True)(lambda self, event: None)))
    assert [handler.ranks for signal in bus.signals for handler in signal.handlers] == ["all"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ranks": "each"}, "with ranks='each'; where its handlers run is \"main\" or \"all\""),
        (
            {"ranks": "all", "main_only": True},
            'as fired on the main rank alone and handled on all; leave out main_only, or ranks="all"',
        ),
    ],
)  # fmt: skip
def test_a_signal_of_a_plugins_own_that_contradicts_itself_is_named(options: dict[str, Any], said: str) -> None:
    spec = Notification(name="broken.news", meaning="", payload=Nothing, **options)
    (problem,) = problems(type("Broken", (Plugin,), {"declares": (spec,)})())
    assert problem.endswith(f"Broken: Broken declares broken.news {said}") or said in problem


def test_a_signal_where_samples_are_made_has_no_ranks_to_choose() -> None:
    """Every rank has loader workers of its own."""
    spec = Notification(name="broken.seen", meaning="", payload=Nothing, where="worker")
    handle = on("broken.seen", ranks="all")(lambda self, event: None)
    (problem,) = problems(type("Broken", (Plugin,), {"declares": (spec,), "handle": handle})())
    assert "broken.seen is handled where samples are made, on every rank by itself; leave out ranks" in problem


SEEN = Notification(name="own.seen", meaning="", payload=Nothing, where="worker")
WORD: Transform[str, Nothing] = Transform(
    name="own.word", meaning="", value="str", context=Nothing, check=lambda before, after: None
)


def test_signals_of_a_plugins_own_that_change_something_or_are_of_workers_are_for_every_rank() -> None:
    class Own(Plugin):
        declares = (SEEN, WORD)

        @on("own.seen")
        def see(self, event: Any) -> None: ...

        @transform("own.word")
        def change(self, value: Any, context: Any) -> Any:
            return value

    plugin, bus = Own(), Bus(ranks=SECOND)
    bus.attach([(plugin, table_of(plugin))], where=("training", "worker"))
    assert [handler.ranks for spec in (SEEN, WORD) for handler in bus[spec].handlers] == ["all", "all"]


def test_a_plugin_whose_own_attribute_hides_its_ranks_is_named() -> None:
    (problem,) = problems(type("Broken", (Plugin,), {"ranks": "all"})())
    assert "Broken: ranks holds what a plugin is told of the run's processes; call it otherwise" in problem
    assert 'runs_on = "all"' in problem


# what a plugin is told, and its exchange


class Asking(Plugin):
    """Exchanges where it is told to."""

    def __init__(self, *, name: str = "") -> None:
        super().__init__(name=name)
        self.found: list[Any] = []
        self.ask: Callable[[], Any] = lambda: self.ranks.gather(self.ranks.rank)

    @on("epoch.end", ranks="all", collective=True)
    def together(self, event: Any) -> None:
        self.found.append(self.ask())

    @on("epoch.start", ranks="all")
    def alone(self, event: Any) -> None:
        self.found.append(self.ask())

    @on("metrics.ready", ranks="all")
    async def beside(self, event: Any) -> None:
        self.found.append(self.ask())


def test_a_plugin_is_told_which_rank_it_is_on() -> None:
    plugin = Asking()
    bus = bus_with(plugin, ranks=GivenRanks(2, 3))
    assert (plugin.ranks.rank, plugin.ranks.count, plugin.ranks.is_main) == (2, 3, False)
    bus.join(ALONE)
    assert (plugin.ranks.rank, plugin.ranks.count, plugin.ranks.is_main) == (0, 1, True)


def test_gather_gives_every_ranks_value_by_rank() -> None:
    plugin = Asking()
    bus_with(plugin, ranks=GivenRanks(1, 3, ["zero", "two"]))[EPOCH_END].emit(epoch_end())
    assert plugin.found == [["zero", 1, "two"]]


def test_alone_a_value_comes_back_as_one_that_has_travelled() -> None:
    plugin = Asking()
    plugin.ask = lambda: plugin.ranks.gather({1: (2, 3)})
    bus = bus_with(plugin)
    bus[EPOCH_END].emit(epoch_end())
    assert plugin.found == [[{"1": [2, 3]}]]
    plugin.ask = lambda: plugin.ranks.gather({1, 2})
    with pytest.raises(PluginError, match="TypeError: Object of type set is not JSON serializable"):
        bus[EPOCH_END].emit(epoch_end())


class Patient(GivenRanks):
    """Notes how it is waited for."""

    def outcomes(self, what: str, value: Any) -> list[Any]:
        self.told.append(what)
        return [value] * self.count


def test_it_waits_for_as_long_as_it_takes_but_at_the_signals_of_steps() -> None:
    """To those all ranks come at once; at others one may have rendered or saved for an hour."""

    class Both(Plugin):
        @on("preview.end", ranks="all", collective=True)
        @on("step.end", ranks="all", collective=True)
        def exchange(self, event: Any) -> None:
            self.ranks.gather(1)

    ranks = Patient(0, 2, [5])
    harness = Harness(Both(), ranks=ranks)
    harness.emit("step.end", step_end())
    harness.emit("preview.end", preview_end())
    assert ranks.told == [1, "Both.exchange at preview.end"]


@pytest.fixture
def harness() -> Iterator[tuple[Harness, Asking]]:
    plugin = Asking()
    with Harness(plugin, on_error="raise") as made:
        yield made, plugin


REFUSED = r'only called in a handler that runs on each of them and says so: @on\(\.\.\., ranks="all", collective=True\)'


def test_gather_is_refused_in_a_handler_that_does_not_declare_it(harness: tuple[Harness, Asking]) -> None:
    with pytest.raises(PluginError, match=REFUSED) as failure:
        harness[0].emit("epoch.start", epoch_start())
    assert isinstance(failure.value.__cause__, CollectiveRefused)


def test_gather_is_refused_in_an_async_handler(harness: tuple[Harness, Asking]) -> None:
    with pytest.raises(CollectiveRefused, match=REFUSED):
        harness[0].emit_and_wait("metrics.ready", metrics_ready())


def test_gather_is_refused_outside_every_handler(harness: tuple[Harness, Asking]) -> None:
    with pytest.raises(CollectiveRefused, match=REFUSED):
        harness[1].ranks.gather(1)


def test_gather_is_refused_in_a_thread_that_a_collective_handler_starts(harness: tuple[Harness, Asking]) -> None:
    def in_thread() -> str:
        said: list[str] = []

        def try_it() -> None:
            try:
                plugin.ranks.gather(1)
            except CollectiveRefused as error:
                said.append(str(error))

        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        return said[0]

    made, plugin = harness
    plugin.ask = in_thread
    made.emit("epoch.end", epoch_end())
    assert "waits for every rank" in plugin.found[0]


def test_gather_is_refused_again_once_the_handler_is_over_or_has_failed(harness: tuple[Harness, Asking]) -> None:
    made, plugin = harness
    made.emit("epoch.end", epoch_end())
    with pytest.raises(CollectiveRefused):
        plugin.ranks.gather(1)
    plugin.ask = lambda: 1 / 0
    with pytest.raises(PluginError):
        made.emit("epoch.end", epoch_end())
    with pytest.raises(CollectiveRefused):
        plugin.ranks.gather(1)


def test_an_async_handler_may_run_on_every_rank() -> None:
    plugin = Asking()
    plugin.ask = lambda: plugin.ranks.rank
    with Harness(plugin, ranks=SECOND) as made:
        made.emit_and_wait("metrics.ready", metrics_ready())
    assert plugin.found == [1]


NEWS = Notification(name="telling.news", meaning="", payload=Nothing)


def test_a_declaration_is_not_that_of_other_plugins_whom_the_handler_calls() -> None:
    """They may be on the main rank alone, as the handlers of a plugin's own signals are by default."""

    class Telling(Plugin):
        declares = (NEWS,)

        @on("epoch.end", ranks="all", collective=True)
        def exchange(self, event: Any) -> None:
            self.ranks.gather(1)
            self.bus[NEWS].emit(Nothing())

    class Listening(Plugin):
        @on("telling.news")
        def hear(self, event: Any) -> None:
            self.ranks.gather(2)

    with pytest.raises(PluginError, match=r"Listening failed in Listening.hear .* CollectiveRefused"):
        bus_with(Telling(), Listening())[EPOCH_END].emit(epoch_end())


# when it fails


@pytest.mark.parametrize("on_error", ["warn", "disable", "raise"])
@pytest.mark.parametrize("error", [ValueError("broken"), OSError(28, "No space left on device")])
def test_a_collective_handler_that_fails_ends_the_run_whatever_on_error_says(on_error: Any, error: Exception) -> None:
    """The other ranks wait for it in its exchange."""

    def fail(self: Any, event: Any) -> None:
        raise error

    plugin = plugin_with(on("epoch.end", ranks="all", collective=True)(fail))
    with pytest.raises(PluginError, match=r"Broken failed in Broken.handle"):
        bus_with(plugin, on_error=on_error)[EPOCH_END].emit(epoch_end())


def test_those_behind_one_that_failed_are_called_so_that_ranks_stay_together() -> None:
    fails = plugin_with(on("epoch.end")(lambda self, event: 1 / 0))
    asking, ranks = Asking(), GivenRanks(0, 2, [7])
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        bus_with(fails, asking, ranks=ranks)[EPOCH_END].emit(epoch_end())
    assert ranks.told == [0]


# guards of what is not declared


class Noting:
    """A guard that notes that it was asked."""

    def __init__(self) -> None:
        self.looked = 0

    def before(self) -> int:
        return 0

    def after(self, token: int) -> str | None:
        self.looked += 1
        return None


def test_guards_of_undeclared_collectives_leave_those_alone_that_declare_them() -> None:
    made: list[Noting] = []

    def make() -> Guard:
        made.append(Noting())
        return made[-1]

    plugin = Asking()
    plugin.ask = lambda: None
    bus = bus_with(plugin)
    bus.guard(undeclared=(make,))
    bus[EPOCH_END].emit(epoch_end())
    bus[EPOCH_START].emit(epoch_start())
    assert [guard.looked for guard in made] == [1]
