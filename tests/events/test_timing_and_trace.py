"""Timing sums what each handler costs and names slow ones; tracing writes a line a firing and a call; off, both cost nothing."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from events import Notification, Plugin, on, transform
from events.bus import Bus, Tally
from events.catalogue import EPOCH_END, METRICS_READY, PROGRESS, SAMPLE_CAPTION, STEP_END
from events.errors import PluginError
from events.testing import GivenRanks, epoch_end, metrics_ready, sample_context, step_end
from tests.events.conftest import Attach
from tests.small_runs import ROOT


class Watcher(Plugin):
    @on("epoch.end")
    def note(self, event: Any) -> None: ...

    @transform("sample.caption")
    def shout(self, caption: str, sample: Any) -> str:
        return caption.upper()

    @on("metrics.ready")
    async def send(self, event: Any) -> None: ...


def lines(path: Path) -> list[tuple[str, str]]:
    return [(line["signal"], line["handler"]) for line in map(json.loads, path.read_text().splitlines())]


def test_off_they_leave_the_bare_bound_methods(attach: Attach) -> None:
    plugin = Watcher()
    bus = attach(plugin)
    assert bus[EPOCH_END].chain == (plugin.note,)
    assert bus[SAMPLE_CAPTION].chain == (plugin.shout,)
    assert bus.tallies == {}


def test_every_handler_has_a_tally_of_its_calls(attach: Attach) -> None:
    bus = attach(Watcher())
    bus.time_handlers()
    for _ in range(3):
        bus[EPOCH_END].emit(epoch_end())
    bus[SAMPLE_CAPTION].apply("a", sample_context())
    counts = {key: tally.calls for key, tally in bus.tallies.items()}
    assert counts == {
        ("Watcher", "epoch.end", "Watcher.note"): 3,
        ("Watcher", "sample.caption", "Watcher.shout"): 1,
        ("Watcher", "metrics.ready", "Watcher.send"): 0,
    }
    tally = bus.tallies["Watcher", "epoch.end", "Watcher.note"]
    assert tally.seconds >= tally.slowest_seconds > 0


def test_a_call_that_fails_is_counted_too(attach: Attach) -> None:
    class Failing(Plugin):
        @on("epoch.end")
        def note(self, event: Any) -> None:
            raise ValueError

    bus = attach(Failing())
    bus.time_handlers()
    with pytest.raises(PluginError, match=r"plugin Failing failed in Failing\.note"):
        bus[EPOCH_END].emit(epoch_end())
    assert bus.tallies["Failing", "epoch.end", "Failing.note"].calls == 1


def test_timed_transforms_still_chain_and_draw_the_same(attach: Attach) -> None:
    class Dice(Plugin):
        @transform("sample.caption")
        def draw(self, caption: str, sample: Any) -> str:
            return f"{caption} {sample.rng.py.random()}"

    plain, timed = attach(Dice()), attach(Dice())
    timed.time_handlers()
    assert timed[SAMPLE_CAPTION].apply("a", sample_context()) == plain[SAMPLE_CAPTION].apply("a", sample_context())


def test_a_sealed_bus_can_be_timed(attach: Attach) -> None:
    """It changes neither who listens nor the order."""
    bus = attach(Watcher())
    bus.seal()
    bus.time_handlers()
    bus[EPOCH_END].emit(epoch_end())
    assert bus.tallies["Watcher", "epoch.end", "Watcher.note"].calls == 1


def test_what_workers_tell_is_added(attach: Attach) -> None:
    bus, key = attach(), ("Watcher", "sample.caption", "Watcher.shout")
    bus.add_tally(key, Tally(calls=2, seconds=1.0, slowest_seconds=0.75))
    bus.add_tally(key, Tally(calls=1, seconds=0.5, slowest_seconds=0.5))
    assert bus.tallies[key] == Tally(calls=3, seconds=1.5, slowest_seconds=0.75)


def test_all_handlers_together_have_a_tally_without_what_workers_tell(attach: Attach) -> None:
    bus = attach(Watcher())
    bus.time_handlers()
    bus[EPOCH_END].emit(epoch_end())
    bus[SAMPLE_CAPTION].apply("a", sample_context())
    bus.add_tally(("Watcher", "sample.caption", "Watcher.shout"), Tally(calls=2, seconds=9.0))
    taken = sum(tally.seconds for tally in bus.tallies.values()) - 9.0
    assert (bus.handled.calls, bus.handled.seconds) == (2, pytest.approx(taken))


def test_there_a_handler_that_emits_counts_once_with_those_it_calls(attach: Attach) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Told:
        pass

    told = Notification(name="teller.told", meaning="Something was told.", payload=Told)

    class Teller(Plugin):
        declares = (told,)

        @on("epoch.end")
        def tell(self, event: Any) -> None:
            self.bus[told].emit(Told())

        @on("teller.told")
        def hear(self, event: Told) -> None: ...

    bus = attach((Teller(name="teller"), {}))
    bus.time_handlers()
    bus[EPOCH_END].emit(epoch_end())
    assert bus.tallies["teller", "teller.told", "Teller.hear"].calls == 1
    assert (bus.handled.calls, bus.handled.seconds) == (1, bus.tallies["teller", "epoch.end", "Teller.tell"].seconds)


def test_a_slow_handler_is_named_with_its_seconds(attach: Attach, caplog: Any) -> None:
    bus = attach(Watcher())
    bus.time_handlers({"epoch": -1.0})
    bus[EPOCH_END].emit(epoch_end())
    assert "plugin Watcher is slow: Watcher.note took 0.00 s at epoch.end (1 slow calls so far)" in caplog.text


def test_a_handler_that_stays_slow_is_named_ever_more_rarely(attach: Attach, caplog: Any) -> None:
    bus = attach(Watcher())
    bus.time_handlers({"epoch": -1.0})
    for _ in range(20):
        bus[EPOCH_END].emit(epoch_end())
    assert [int(record.getMessage().split("(")[1].split()[0]) for record in caplog.records] == [1, 2, 4, 8, 16]


def test_each_pace_has_its_own_limit(attach: Attach, caplog: Any) -> None:
    class Both(Plugin):
        @on("step.end")
        def of_step(self, event: Any) -> None: ...

        @on("epoch.end")
        def of_epoch(self, event: Any) -> None: ...

    bus = attach(Both())
    bus.time_handlers({"step": -1.0})
    bus[STEP_END].emit(step_end())
    bus[EPOCH_END].emit(epoch_end())
    assert [record.getMessage().split()[4] for record in caplog.records] == ["Both.of_step"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


def test_a_trace_has_a_line_a_firing_then_one_a_call(attach: Attach, path: Path) -> None:
    bus = attach(Watcher())
    bus.trace(path)
    bus[EPOCH_END].emit(epoch_end())
    bus[STEP_END].emit(step_end())
    bus[SAMPLE_CAPTION].apply("a", sample_context())
    assert lines(path) == [
        ("epoch.end", ""),
        ("epoch.end", "Watcher:Watcher.note"),
        ("step.end", ""),
        ("sample.caption", ""),
        ("sample.caption", "Watcher:Watcher.shout"),
    ]


def test_a_traced_transform_still_chains(attach: Attach, path: Path) -> None:
    bus = attach(Watcher())
    bus.trace(path)
    assert bus[SAMPLE_CAPTION].apply("a", sample_context()) == "A"


def test_the_tracer_is_in_no_plan(attach: Attach, path: Path) -> None:
    """Else a run that is traced would seem to have other plugins than the one it resumes."""
    bus = attach(Watcher())
    bus.seal()
    bus.trace(path)
    assert [handler.plugin for signal in bus.signals for handler in signal.handlers] == ["Watcher"] * 3


def test_blinkers_send_is_traced_in_the_same_order(attach: Attach, path: Path) -> None:
    bus = attach(Watcher())
    bus.trace(path)
    bus[EPOCH_END].emit(epoch_end())
    bus[EPOCH_END].send(epoch_end())
    assert lines(path)[:2] == lines(path)[2:]


def test_timing_and_tracing_go_together_in_either_order(attach: Attach, tmp_path: Path) -> None:
    one, other = attach(Watcher()), attach(Watcher())
    one.time_handlers()
    one.trace(tmp_path / "one")
    other.trace(tmp_path / "other")
    other.time_handlers()
    for bus in (one, other):
        bus[EPOCH_END].emit(epoch_end())
    assert lines(tmp_path / "one") == lines(tmp_path / "other")
    assert one.tallies.keys() == other.tallies.keys()


def test_the_hand_over_to_a_lane_is_traced(attach: Attach, path: Path) -> None:
    bus = attach(Watcher())
    bus.trace(path)
    bus[METRICS_READY].emit(metrics_ready())
    assert lines(path) == [("metrics.ready", ""), ("metrics.ready", "Watcher:Watcher.send")]


def test_a_bus_is_traced_once(attach: Attach, path: Path) -> None:
    bus = attach()
    bus.trace(path)
    with pytest.raises(ValueError, match="traced already"):
        bus.trace(path)


@pytest.mark.parametrize(("rank", "is_fired"), [(0, True), (1, False)])
def test_being_watched_makes_no_rank_fire_what_the_main_one_alone_fires(path: Path, rank: int, is_fired: bool) -> None:
    """The trainer builds and fires an event where somebody listens, and the tracer listens to all."""
    bus = Bus(ranks=GivenRanks(rank, 2))
    bus.trace(path)
    assert bool(bus[PROGRESS].chain) is is_fired
    assert bus[EPOCH_END].chain
    bus.close()


def test_closing_the_bus_closes_the_file_after_the_plugins(attach: Attach, path: Path) -> None:
    class Last(Watcher):
        def close(self) -> None:
            self.bus[EPOCH_END].emit(epoch_end())

    bus = attach(Last())
    bus.trace(path)
    bus.close()
    assert len(lines(path)) == 2
    bus[EPOCH_END].emit(epoch_end())
    assert len(lines(path)) == 2


def test_a_trace_that_cannot_be_written_ends_with_a_line_and_harms_no_plugin(attach: Attach, caplog: Any) -> None:
    bus = attach(Watcher())
    bus.trace(Path("/dev/full"))
    bus[EPOCH_END].emit(epoch_end())
    bus[EPOCH_END].emit(epoch_end())
    assert caplog.text.count("the trace of events ends here, since /dev/full cannot be written") == 1


WRITER = """
import sys
from pathlib import Path
from events.bus import Bus
from events.catalogue import EPOCH_END
from events.testing import epoch_end
bus = Bus()
bus.trace(Path(sys.argv[1]))
event = epoch_end()
for _ in range(2000):
    bus[EPOCH_END].emit(event)
"""


def test_several_processes_share_a_trace_without_breaking_a_line(attach: Attach, path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT) for _ in range(2)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert lines(path) == [("epoch.end", "")] * 4000


def test_each_line_is_there_at_once(attach: Attach, path: Path) -> None:
    bus: Bus = attach()
    bus.trace(path)
    bus[EPOCH_END].emit(epoch_end())
    assert lines(path) == [("epoch.end", "")]
