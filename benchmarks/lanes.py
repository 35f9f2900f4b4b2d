"""What async handlers cost the training thread: the hand-over, a server that is too slow, and a run beside which they wait."""

import asyncio
import threading
import tracemalloc
from collections.abc import Callable
from time import perf_counter, thread_time

from benchmarks.figures import Figure, Options, Section, figure, ratios
from benchmarks.runs import CLOCK, SMALL, clock_of, execute, quiet, write_config
from benchmarks.slow_server import SlowServer, slow_server
from events import Plugin, on
from events.bus import Bus
from events.catalogue import METRICS_READY
from events.payloads import MetricsReady
from events.plugin import PluginTable
from events.testing import metrics_ready
from plugins.webhook import Webhook

EVENTS, QUICK_EVENTS = 10_000, 300
BLOCK, QUICK_BLOCK = 10, 4
"""Steps with and without the plugin take turns in blocks."""
ANSWER_SECONDS = 0.02
"""What the server takes for a post."""
MOST_MEGABYTES = 1.0
"""By which ten thousand events for a slow server may grow the process, at their worst moment."""
HOLD = 50
"""Events that wait in a lane at once; it has room for 64."""
WAITING = '[[plugins]]\nuse = "benchmarks.lanes.Waiting"\n'
WEBHOOK = (
    '[[plugins]]\nuse = "plugins.webhook.Webhook"\nallow_private = true\nevents = ["metrics.ready"]\nevery_steps = 1\n'
)


class Waiting(Plugin):
    """Waits as for an answer, for longer than a step takes."""

    lane_full = "coalesce"

    @on("metrics.ready")
    async def wait(self, event: MetricsReady) -> None:
        await asyncio.sleep(0.05)


class Held(Plugin):
    """Its handler ends when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_free = threading.Event()

    @on("metrics.ready")
    async def wait(self, event: MetricsReady) -> None:
        while not self.is_free.is_set():
            await asyncio.sleep(0.001)


def measure(options: Options) -> list[Figure]:
    """Hand-overs, then the slow server, then whole runs."""
    with slow_server(ANSWER_SECONDS) as server:
        return [
            *hand_overs(options.rounds),
            *through_a_slow_webhook(server, QUICK_EVENTS if options.is_quick else EVENTS),
            *runs_beside(options, server),
        ]


def hand_overs(rounds: int) -> list[Figure]:
    """CPU of the training thread for an emit to an async handler: one that is busy, and one that must be woken."""
    busy: list[float] = []
    for _ in range(rounds):
        plugin = Held()
        bus, event = bus_of(plugin), metrics_ready()
        bus[METRICS_READY].emit(event)  # the one it is held by
        emit = bus[METRICS_READY].emit
        busy.append(cpu_of(lambda emit=emit, event=event: [emit(event) for _ in range(HOLD)]) / HOLD)  # type: ignore[misc]
        plugin.is_free.set()
        bus.close()
    plugin = Held()
    plugin.is_free.set()
    bus, idle = bus_of(plugin), []
    lane = next(iter(bus.lanes))
    for _ in range(rounds * HOLD):
        idle.append(cpu_of(lambda: bus[METRICS_READY].emit(event)))
        lane.wait_idle(10)
    bus.close()
    return [
        figure("a hand-over to a busy lane", [1e6 * one for one in busy], "us"),
        figure("a hand-over that wakes an idle lane", [1e6 * one for one in idle], "us"),
    ]


def through_a_slow_webhook(server: SlowServer, count: int) -> list[Figure]:
    """Events come hundreds of times as fast as the server takes them; neither time nor memory may follow."""
    with quiet():
        cpu, wall = timed_events(server, count)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        timed_events(server, count)
        grown = (tracemalloc.get_traced_memory()[1] - before) / 2**20
        tracemalloc.stop()
    heard, name = server.heard(), f"{count:,} events to a slow webhook"
    return [
        Figure(name=f"{name}: one made and emitted, CPU", value=1e6 * cpu / count, unit="us"),
        Figure(name=f"{name}: one made and emitted, wall", value=1e6 * wall / count, unit="us"),
        Figure(name=f"{name}: memory at most", value=grown, unit="MB", at_most=MOST_MEGABYTES),
        Figure(name=f"{name}: posts it came to", value=heard["posts"] / 2, unit="posts"),
        Figure(
            name=f"{name}: steps that the last post is behind", value=count - heard["step"], unit="steps", at_most=0
        ),
    ]


def timed_events(server: SlowServer, count: int) -> tuple[float, float]:
    """(CPU of this thread, wall) seconds until all are made and handed over; then what waits is posted."""
    settings = Webhook.Settings.model_validate(
        {"url": server.url, "allow_private": True, "events": ["metrics.ready"], "every_steps": 1}
    )
    bus = bus_of(Webhook(settings))
    emit, cpu, wall = bus[METRICS_READY].emit, thread_time(), perf_counter()
    for step in range(1, count + 1):
        emit(metrics_ready(step=step))
    taken = thread_time() - cpu, perf_counter() - wall
    bus.lanes.drain()
    bus.close()
    return taken


def runs_beside(options: Options, server: SlowServer) -> list[Figure]:
    """Steps of real runs with metrics at each step, which in every second block of steps the plugin does not hear of."""
    blocks, steps = 2 + 2 * options.rounds, QUICK_BLOCK if options.is_quick else BLOCK
    clock = f'{CLOCK}mute = "metrics.ready"\nblock_steps = {steps}\n'
    kinds = {"an async plugin that waits": (WAITING, 1.01), "the webhook": (f'{WEBHOOK}url = "{server.url}"\n', None)}
    figures = []
    for number, (name, (plugin, goal)) in enumerate(kinds.items()):
        place = options.folder / str(number)
        place.mkdir()
        config = write_config(place, steps=blocks * steps, unet=SMALL, more=clock + plugin)
        heard, muted = clock_of(execute(config, ["log.every_steps=1", "checkpoint.every_steps=0"])).blocks()
        label = f"a step beside {name} / alone"
        cpu, wall = ([getattr(one, kind) for one in heard] for kind in ("cpu", "wall"))
        figures += [
            figure(f"{label}, CPU", ratios(cpu, [one.cpu for one in muted]), "ratio", at_most=goal),
            figure(f"{label}, wall", ratios(wall, [one.wall for one in muted]), "ratio", at_most=goal),
        ]
    return [*figures, figure("a step alone, wall", [1e3 * one.wall for one in muted], "ms")]


def bus_of(plugin: Plugin) -> Bus:
    bus = Bus()
    bus.attach([(plugin, PluginTable(use="benchmarks", name=plugin.name, position=0, settings={}))])
    bus.seal()
    return bus


def cpu_of(work: Callable[[], object]) -> float:
    """Seconds of this thread."""
    begun = thread_time()
    work()
    return thread_time() - begun


SECTION = Section(
    name="lanes", question="What do async handlers cost the training thread?", measure=measure
)  # fmt: skip
