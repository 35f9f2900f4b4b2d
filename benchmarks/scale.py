"""What a step costs and how much memory is held as items grow, and as plugins that do nothing grow."""

import pickle
from statistics import median

import torch

from benchmarks.figures import Figure, Options, Point, Section, figure, ratios
from benchmarks.loading import generate
from benchmarks.no_op import NoOp
from benchmarks.racing import Lap, race
from benchmarks.runs import CLOCK, SMALL, clock_of, execute, write_config
from core.attached.guards import handler_guards
from events.bus import Bus
from events.catalogue import BATCH_DEVICE, METRICS_READY, METRICS_RECORD, STEP_END, STEP_START
from events.guards import EVERY
from events.payloads import MetricsContext
from events.plugin import PluginTable
from events.testing import batch, device_context, metrics_ready, step_end, step_start

ITEMS, QUICK_ITEMS = (1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000)
PLUGINS, QUICK_PLUGINS = (0, 20, 100), (0, 20)
BATCH_SIZE = 4
STEPS, QUICK_STEPS = 60, 12
LOOPS, QUICK_LOOPS = 2000, 100
"""Steps' keys that are timed together."""
SECONDS, QUICK_SECONDS = 0.1, 0.005


def measure(options: Options) -> list[Figure]:
    """Items, then plugins on their own, then plugins in real runs."""
    return [*items(options), *signals(options), *runs(options)]


def items(options: Options) -> list[Figure]:
    """The training process asks the plan for each step's keys and sends them to a worker, which looks the items up."""
    figures, loops = [], QUICK_LOOPS if options.is_quick else LOOPS
    steps: dict[int, list[float]] = {}
    for count in QUICK_ITEMS if options.is_quick else ITEMS:
        made = generate(options.folder, count, BATCH_SIZE)
        plan, table = made.plan, made.table
        numbers = range(0, len(plan), max(1, len(plan) // loops))
        laps = {
            "keys of a step, as sent to a worker": Lap(
                "for number in numbers: send((number, plan[number]))",
                {"numbers": numbers, "plan": plan, "send": pickle.dumps},
            ),
            "items of a batch, looked up in a worker": Lap(
                "for number in numbers: [table[key.item] for key in plan[number]]",
                {"numbers": numbers, "plan": plan, "table": table},
            ),
        }
        times = race(laps, options.rounds, 0.0)
        steps[count] = [1e6 * one / len(numbers) for one in next(iter(times.values()))]

        def point(line: str, count: int = count) -> Point:
            return Point(line=line, at=count, along="items")

        figures += [
            *(
                figure(f"{name}, {count:,} items", [1e6 * one / len(numbers) for one in taken], "us", point=point(name))
                for name, taken in times.items()
            ),
            *(
                Figure(name=f"{name}, {count:,} items", value=value, unit=unit, point=point(name))
                for name, value, unit in (
                    ("plan of an epoch, by step", 1e6 * made.seconds["plan"] / len(plan), "us"),
                    ("plan, in the training process", made.plan_bytes / 2**20, "MB"),
                    ("table, mapped once for all processes", made.mapped_bytes / 2**20, "MB"),
                )
            ),
        ]
    few, many = min(steps), max(steps)
    name = f"keys of a step, {many:,} items / {few:,}"
    return [figure(name, ratios(steps[many], steps[few]), "ratio"), *figures]


def signals(options: Options) -> list[Figure]:
    """What the training process fires at a step and at a report, timed and guarded as in a run, on its own."""
    counts = QUICK_PLUGINS if options.is_quick else PLUGINS
    laps = {(name, count): lap for count in counts for name, lap in firings(bus_of(count)).items()}
    seconds = QUICK_SECONDS if options.is_quick else SECONDS
    times = race({str(key): lap for key, lap in laps.items()}, options.rounds, seconds, multiple=EVERY)
    taken = {key: [1e6 * one for one in times[str(key)]] for key in laps}
    most, names = max(counts), dict.fromkeys(name for name, _ in laps)
    return [
        *(
            figure(
                f"a no-op plugin at {name}",
                [(one - bare) / most for one, bare in zip(taken[name, most], taken[name, 0], strict=True)],
                "us",
            )
            for name in names
        ),
        *(
            figure(f"{name}, {count} plugins", own, "us", point=Point(line=name, at=count, along="plugins"))
            for (name, count), own in taken.items()
        ),
    ]


def firings(bus: Bus) -> dict[str, Lap]:
    """By signal; guarded, as the trainer fires them."""
    emit, apply = "if signal.chain: signal.emit(event)", "if signal.chain: signal.apply(value, context)"
    loaded, numbers = batch(torch.zeros(BATCH_SIZE, 3, 32, 32)), {"loss": 0.5}
    return {
        "batch.device": Lap(apply, {"signal": bus[BATCH_DEVICE], "value": loaded, "context": device_context()}),
        "step.start": Lap(emit, {"signal": bus[STEP_START], "event": step_start()}),
        "step.end": Lap(emit, {"signal": bus[STEP_END], "event": step_end()}),
        "metrics.record": Lap(
            apply, {"signal": bus[METRICS_RECORD], "value": numbers, "context": MetricsContext(step=1, epoch=0)}
        ),
        "metrics.ready": Lap(emit, {"signal": bus[METRICS_READY], "event": metrics_ready()}),
    }


def runs(options: Options) -> list[Figure]:
    """CPU of the training thread a step, in real runs that take turns; samples are made in a worker, as by default."""
    steps, counts = (QUICK_STEPS, QUICK_PLUGINS) if options.is_quick else (STEPS, PLUGINS)
    configs, seconds = {}, {count: list[float]() for count in counts}
    for count in counts:
        place = options.folder / f"{count} plugins"
        place.mkdir()
        plugins = "".join(f'[[plugins]]\nuse = "benchmarks.no_op.NoOp"\nname = "noop{n}"\n' for n in range(count))
        configs[count] = write_config(place, steps=steps, unet=SMALL, more=CLOCK + plugins)
    for _ in range(1 if options.is_quick else options.rounds):
        for count, config in configs.items():
            cpu, _ = clock_of(execute(config, ["data.workers=1", "checkpoint.every_steps=0"])).steps()
            seconds[count].append(median(cpu))
    name = "a step of a small run, CPU of the training thread"
    return [
        *(
            figure(f"{name}, {count} plugins / none", ratios(seconds[count], seconds[0]), "ratio")
            for count in counts[1:]
        ),
        *(
            figure(f"{name}, {count} plugins", [1e3 * one for one in own], "ms",
                   point=Point(line=name, at=count, along="plugins"))
            for count, own in seconds.items()
        ),
    ]  # fmt: skip


def bus_of(count: int) -> Bus:
    """A sealed bus with so many no-op plugins, as a run assembles it by default."""
    bus = Bus()
    tables = [PluginTable(use="benchmarks.no_op.NoOp", name=f"noop{n}", position=n, settings={}) for n in range(count)]
    bus.attach([(NoOp(name=table.name), table) for table in tables])
    bus.time_handlers()
    bus.guard(*handler_guards())
    bus.seal()
    return bus


SECTION = Section(
    name="scale", question="What do a step and memory take as items grow, and as plugins grow?", measure=measure
)
