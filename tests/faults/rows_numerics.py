"""Rows F07 and F21 to F24: a full disk beside training, numbers that are not finite, and memory that runs out."""

import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from .bench import EMA, JOURNAL, Bench, Ended, Workspace, digest
from .full_disk import FullDisk
from .injectors import on_call, signal_self
from .on_disk import whole_steps
from .rows import row

BAD = ((1, 1), (1, 2))
"""Of the second epoch's three steps the last two, which would be steps 5 and 6."""
TELLING = ("log.every_steps=1", "train.max_skipped=2", "train.steps=8")
KEEPS_ONE = ("checkpoint.every_steps=1", "checkpoint.keep=1", "log.every_steps=3")
TWICE = ("checkpoint.every_steps=1", "train.steps=11")
REWIND = (*TELLING, "train.on_nonfinite='rewind'")


def subject(kind: str, places: Sequence[tuple[int, int]] = (), **settings: object) -> str:
    """The plugins of a run, one of `plugins_for_numerics` among them; what they store is the same for each."""
    lines = {"use": f"tests.faults.plugins_for_numerics.{kind}", "name": "Subject", "places": list(map(list, places))}
    listed = "".join(f"{key} = {json.dumps(value)}\n" for key, value in (lines | settings).items())
    return f"{JOURNAL}{EMA}\n[[plugins]]\n{listed}"


def tensors(work: Workspace) -> dict[str, bytes]:
    """What the newest checkpoint holds of weights, optimizer and plugins, by file."""
    return {path.name: path.read_bytes() for path in sorted(work.checkpoints[-1].glob("*.safetensors"))}


def ends_with(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code, ended.output
    for one in words:
        assert one in ended.output, f"{one!r} is not in:\n{ended.output}"
    assert "Traceback" not in ended.output or code == 6, ended.output


@row("F07", "disk full for logs, previews, metrics and caches", cut=3, short=9, long=9)
def no_room_beside(bench: Bench) -> None:
    """Whatever cannot be written is done without and told once, no step is lost, and the bits are as ever."""
    kinds = {
        "log": log_is_full,
        "previews": previews_are_full,
        "cache": cache_is_full,
        "metrics": metrics_are_full,
        "what a plugin writes beside training": notes_are_full,
        "room again": room_again,
        "cache that breaks and cannot be mended": cache_breaks,
        "cache of captions": captions_are_full,
        "cache that may not be written": cache_is_read_only,
    }
    if bench.size == "cut":
        kinds = {name: kinds[name] for name in ("log", "previews", "cache")}
    bench.reference(*OFTEN)
    bench.spread(kinds)


OFTEN = ("log.every_steps=1",)
TOLD = "No space left on device; training goes on"


def log_is_full(bench: Bench) -> None:
    work = bench.workspace(*OFTEN)
    disk = FullDisk(work.path / "full")
    ended = bench.train(work, inject=lambda: redirected(disk, work.run / "log.jsonl"))
    ends_as_ever(ended, work, bench, f"log.jsonl cannot be written: {TOLD}")


def previews_are_full(bench: Bench) -> None:
    work = bench.workspace(*OFTEN)
    shown = ("preview.every_steps=2", "preview.at_start=true")
    ended = bench.train(work, *shown, inject=FullDisk(work.run / "previews").begin)
    ends_as_ever(ended, work, bench, "previews cannot be written at step 0: [Errno 28] No space left on device")


def metrics_are_full(bench: Bench) -> None:
    plugins = JOURNAL + EMA + '[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'
    work = bench.workspace(*OFTEN, plugins=plugins)
    disk = FullDisk(work.path / "full")
    ended = bench.train(work, inject=lambda: redirected(disk, work.run / "metrics.jsonl"))
    ends_as_ever(ended, work, bench, "plugin MetricsFile cannot write in MetricsFile.append", plugins=plugins)


def notes_are_full(bench: Bench) -> None:
    """An async handler that fails more often than others may is not taken out."""
    work, plugins = with_notes(bench)
    ended = bench.train(work, inject=FullDisk(bench.folder / "notes").begin)
    ends_as_ever(ended, work, bench, "plugin Notes cannot write in Notes.write at metrics.ready", plugins=plugins)


def room_again(bench: Bench) -> None:
    """The disk gets room before the sixth step: what comes then is written."""
    work, plugins = with_notes(bench)
    disk, kept = FullDisk(bench.folder / "notes"), bench.folder / "kept"

    def inject() -> None:
        disk.begin()
        on_call("core.run.trainer:Trainer._take_step", lambda count: disk.end() if count == 6 else None)
        on_call("core.run.session:Session._close", lambda _: kept.write_bytes((disk.folder / "notes.txt").read_bytes()))

    ended = bench.train(work, inject=inject)
    ends_as_ever(ended, work, bench, "plugin Notes cannot write in Notes.write at metrics.ready", plugins=plugins)
    assert {"2", "7"} & set(kept.read_text().split()) == {"7"}, kept.read_text()


def cache_is_full(bench: Bench) -> None:
    """Latents and headers; without a cache the run has the same bits."""
    work = bench.workspace(*OFTEN)
    ended = bench.train(work, "cache.latents=true", inject=FullDisk(work.path / "cache").begin)
    ends_as_ever(ended, work, bench, "latents.sqlite cannot be written", "headers are remembered for this run only")


def captions_are_full(bench: Bench) -> None:
    settings = (*OFTEN, "model.train=['unet']")
    work = bench.workspace(*settings)
    ended = bench.train(work, "cache.text=true", inject=FullDisk(work.path / "cache").begin)
    ends_as_ever(ended, work, bench, "text.sqlite cannot be written", settings=settings)


def cache_is_read_only(bench: Bench) -> None:
    """A folder in whose place there is a file."""
    work = bench.workspace(*OFTEN)
    (work.path / "cache").write_text("")
    ended = bench.train(work, "cache.latents=true")
    ends_as_ever(ended, work, bench, "latents.sqlite cannot be written", "headers are remembered for this run only")


def cache_breaks(bench: Bench) -> None:
    """Entries are damaged after the cache was filled, and then there is no room to make them anew."""
    work = bench.workspace(*OFTEN)
    disk = FullDisk(work.path / "cache")

    def spoil() -> None:
        with sqlite3.connect(disk.folder / "latents.sqlite") as database:
            database.execute("UPDATE entries SET seal = X'00' WHERE rowid > 5")
        database.close()
        disk.fill()

    def inject() -> None:
        disk.begin(full=False)
        on_call("core.run.trainer:Trainer.train", lambda count: spoil())

    ended = bench.train(work, "cache.latents=true", inject=inject)
    ends_as_ever(ended, work, bench, "cache cannot be written: ")


def with_notes(bench: Bench) -> tuple[Workspace, str]:
    folder = bench.folder / "notes"
    plugins = f'{JOURNAL}{EMA}[[plugins]]\nuse = "tests.faults.plugins_for_numerics.Notes"\nfolder = "{folder}"\n'
    return bench.workspace(*OFTEN, plugins=plugins), plugins


def redirected(disk: FullDisk, path: Path) -> None:
    """The file lies on the full disk."""
    disk.begin()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(disk.folder / path.name)


def ends_as_ever(
    ended: Ended,
    work: Workspace,
    bench: Bench,
    *words: str,
    settings: Sequence[str] = OFTEN,
    plugins: str = JOURNAL + EMA,
) -> None:
    """It is told once, and the run has the bits of one that nobody disturbed."""
    ends_with(ended, 0, *words)
    for one in words:
        assert ended.output.count(one) == 1, ended.output
    assert digest(work) == bench.reference(*settings, plugins=plugins)


@row("F21", "a loss that is not finite", cut=2, short=15, long=23)
def bad_loss(bench: Bench) -> None:
    """The weights stay, the step is named with all that is known of it, and going back is what leaving the batches out is."""
    kinds = {
        "nan is skipped": partial(touches_nothing, "nan"),
        "stop": partial(stops, "nan"),
        "inf is skipped": partial(touches_nothing, "inf"),
        "no checkpoint with a weight that is NaN": partial(is_never_written, "weights"),
        "back from such a weight": partial(goes_back_from, "weights"),
        "back to the start": partial(goes_back, "nan", ((0, 0), (0, 1)), ()),
        "back over the end of an epoch": partial(goes_back, "inf", ((1, 2), (2, 0)), ()),
        "one to go back to is kept": partial(goes_back, "nan", BAD, KEEPS_ONE),
        "back twice, with a checkpoint between": partial(goes_back, "nan", (*BAD, (3, 0), (3, 1)), TWICE),
        "found at the end": partial(goes_back, "nan", BAD, ("train.steps=6",)),
        "back again and again": never_ends_well,
    }
    bench.reference(*REWIND, plugins=subject("LeaveOut", BAD))
    if bench.size == "cut":
        kinds = {"nan is skipped": kinds["nan is skipped"]}
    moments = {"cut": (9,), "short": (3, 7, 8, 10), "long": range(1, 13)}[bench.size]
    kills = {f"killed at try {number}": partial(is_killed_and_goes_back, number) for number in moments}
    bench.spread(kinds | kills)


def touches_nothing(how: str, bench: Bench) -> None:
    """The third step is spoilt, so the run ends where it was after the second."""
    plugins = subject("Spoil", ((0, 2),), how=how)
    before, after = (bench.workspace("log.every_steps=1", f"train.steps={steps}", plugins=plugins) for steps in (2, 3))
    for work in (before, after):
        ends_with(bench.train(work), 0)
    assert [name for name, stored in tensors(before).items() if tensors(after)[name] != stored] == []
    said = next(str(line["event"]) for line in after.log if "was skipped" in str(line["event"]))
    told = rf"step 3 was skipped: loss {how}, gradient norm \w+ \(epoch 0, run.seed 0\); its files: \S+\.png"
    assert re.match(told, said), said


def stops(how: str, bench: Bench) -> None:
    work = bench.workspace(*TELLING, "train.on_nonfinite='stop'", plugins=subject("Spoil", ((0, 2),), how=how))
    ends_with(bench.train(work), 5, "up to step 3 had a loss or gradient that is not finite", "No weight was touched")
    assert whole_steps(work) == [2]


def goes_back(how: str, places: Sequence[tuple[int, int]], overrides: Sequence[str], bench: Bench) -> None:
    """What it ends with is what it ends with when somebody leaves those batches out from the start."""
    work = bench.workspace(*REWIND, *overrides, plugins=subject("Spoil", places, how=how))
    ends_with(bench.train(work), 0, "went back to step", "is left out: it was not finite")
    assert digest(work) == bench.reference(*REWIND, *overrides, plugins=subject("LeaveOut", places))


def is_killed_and_goes_back(number: int, bench: Bench) -> None:
    """Killed before it takes its n-th step, before or after it went back, the run goes on to the same bits."""
    work = bench.workspace(*REWIND, plugins=subject("Spoil", BAD))
    ended = bench.train(work, inject=partial(kill_at, "core.run.trainer:Trainer._take_step", number))
    assert ended.killed, ended.output
    ends_with(bench.train(work), 0)
    assert digest(work) == bench.reference(*REWIND, plugins=subject("LeaveOut", BAD))


def kill_at(place: str, number: int) -> None:
    on_call(place, lambda count: signal_self(9) if count == number else None)


def never_ends_well(bench: Bench) -> None:
    """What is bad again before it could save ends the run; its checkpoints are whole, and hold no step that was given up."""
    everything = [(epoch, step) for epoch in range(1, 9) for step in range(3)]
    work = bench.workspace(*REWIND, plugins=subject("Spoil", everything))
    ends_with(bench.train(work), 5, "went back to step 2", "had gone back to step 2 already")
    assert whole_steps(work) == [2, 4]


def is_never_written(what: str, bench: Bench) -> None:
    """The average or a weight is NaN after the third step; the checkpoint of the fourth is not written."""
    work = bench.workspace("train.steps=7", plugins=subject("Spoil", ((0, 2),), how=what))
    ended = bench.train(work)
    ends_with(ended, 5, "no checkpoint was written", "is not finite")
    assert whole_steps(work) == [2]
    assert [path.name for path in work.checkpoints] == ["step-00000002"]


def goes_back_from(what: str, bench: Bench) -> None:
    """It was spoilt by an accident that does not come again: the run ends as one that had none."""
    overrides = ("train.on_nonfinite='rewind'", "train.max_skipped=50")
    work = bench.workspace(*overrides, plugins=subject("Spoil", ((0, 2),), how=what))
    ends_with(bench.train(work), 0, "went back to step 2")
    assert digest(work) == bench.reference(*overrides, plugins=subject("LeaveOut"))


@row("F22", "only gradients or an average that are not finite", cut=2, short=8, long=8)
def bad_gradient(bench: Bench) -> None:
    """As F21 where the loss is finite. That all of several devices agree comes with training on several."""
    kinds = {
        "a gradient is skipped": partial(keeps_clear_of, "gradient"),
        "no checkpoint with an average that is NaN": partial(is_never_written, "average"),
        "back from a gradient": partial(goes_back, "gradient", BAD, ()),
        "back from an average": partial(goes_back_from, "average"),
        "stop at a gradient": partial(stops, "gradient"),
    }
    if bench.size == "cut":
        kinds = dict(list(kinds.items())[:2])
    bench.spread(kinds)


def keeps_clear_of(how: str, bench: Bench) -> None:
    """A step whose gradient alone is NaN moves nothing; loss and norm are both told."""
    plugins = subject("Spoil", ((0, 2),), how=how)
    before, after = (bench.workspace("log.every_steps=1", f"train.steps={steps}", plugins=plugins) for steps in (2, 3))
    for work in (before, after):
        ends_with(bench.train(work), 0)
    assert tensors(before) == tensors(after)
    said = next(str(line["event"]) for line in after.log if "was skipped" in str(line["event"]))
    assert re.search(r"loss [0-9.]+, gradient norm nan", said), said


SECOND, THIRD = ((0, 1),), ((0, 2),)


@row("F23", "memory that runs out in a step", cut=3, short=14, long=14)
def no_memory(bench: Bench) -> None:
    """Once is made good by taking the step again; twice ends the run with what was trained; and the bits are as ever."""
    kinds: dict[str, Callable[[Bench], None]] = {}
    for how in ("torch", "cpu", "python"):
        for where in ("loss", "gradient"):
            kinds[f"{how}, once, in the {where}"] = partial(is_taken_again, how, where)
            kinds[f"{how}, twice, in the {where}"] = partial(is_saved, how, where)
    kinds["while weights are written"] = partial(is_not_saved, "update")
    kinds["after weights were written"] = partial(is_not_saved, "updated")
    if bench.size == "cut":
        kinds = {name: kinds[name] for name in ("torch, once, in the gradient", "cpu, twice, in the loss")}
    bench.reference(*ROUNDS, plugins=subject("UseUp"))
    bench.spread(kinds)


ROUNDS = ("train.accumulate=2", "train.batch_size=2", "train.steps=5")


def is_taken_again(how: str, where: str, bench: Bench) -> None:
    work = bench.workspace(*ROUNDS, plugins=subject("UseUp", SECOND, how=how, where=where, times=1))
    ends_with(bench.train(work), 0, "memory ran out in step 2")
    assert digest(work) == bench.reference(*ROUNDS, plugins=subject("UseUp"))


def is_saved(how: str, where: str, bench: Bench) -> None:
    work = bench.workspace(*ROUNDS, plugins=subject("UseUp", SECOND, how=how, where=where, times=2))
    ended = bench.train(work, "checkpoint.every_steps=0")
    ends_with(ended, 7, "memory ran out twice in step 2", "2 samples of 32 x 32 pixels", "train.batch_size = 2",
              "train.accumulate = 2", "data.resolution = 32", "Set train.batch_size = 1 and train.accumulate = 4")  # fmt: skip
    assert whole_steps(work) == [1]
    work.config.write_text(work.config.read_text().replace("places = [[0, 1]]", "places = []"))
    ends_with(bench.train(work), 0, "resumed step=1 lost=0")
    assert digest(work) == bench.reference(*ROUNDS, plugins=subject("UseUp"))


def is_not_saved(where: str, bench: Bench) -> None:
    """Weights may be half written, so neither the step is repeated nor the run saved."""
    work = bench.workspace(*ROUNDS, plugins=subject("UseUp", SECOND, where=where, times=1))
    ends_with(bench.train(work), 7, "after the first weight had been written", "the last checkpoint stands")
    assert whole_steps(work) == []


@row("F24", "real memory pressure", cut=1, short=10, long=60)
def little_memory(bench: Bench) -> None:
    """Under a limit on this process's addresses the step cannot be taken: as F23, and every checkpoint is whole."""
    kinds = {"it passes": pressure_passes, "it stays": pressure_stays}
    if bench.size == "cut":
        kinds = {"it stays": pressure_stays}
    rooms = [int(2 ** bench.random.uniform(0, 9)) - 1 for _ in range(bench.count - 2)] if bench.size != "cut" else []
    bench.reference(plugins=subject("Press"))
    any_of = {f"{number}: {room} MB are left": partial(any_pressure, room) for number, room in enumerate(rooms)}
    bench.spread(kinds | any_of)


def pressure_passes(bench: Bench) -> None:
    work = bench.workspace(plugins=subject("Press", THIRD, passes=True))
    ends_with(bench.train(work), 0, "memory ran out in step 3", "DefaultCPUAllocator")
    assert digest(work) == bench.reference(plugins=subject("Press"))


def pressure_stays(bench: Bench) -> None:
    work = bench.workspace(plugins=subject("Press", THIRD))
    ends_with(bench.train(work), 7, "memory ran out twice in step 3", "4 samples of 32 x 32 pixels")
    goes_on_unpressed(work, bench)


def any_pressure(room: int, bench: Bench) -> None:
    """Wherever the limit is met, in the step, in a save or not at all, what is on disk is whole and the run goes on."""
    megabytes = 1 + bench.random.randrange(2 * room + 2)
    work = bench.workspace(plugins=subject("Press", THIRD, megabytes=megabytes, room=room))
    ended = bench.train(work)
    assert ended.code in (0, 7), ended.output
    assert len(whole_steps(work)) == len(work.checkpoints)
    goes_on_unpressed(work, bench)


def goes_on_unpressed(work: Workspace, bench: Bench) -> None:
    work.config.write_text(work.config.read_text().replace("places = [[0, 2]]", "places = []"))
    ends_with(bench.train(work), 0)
    assert digest(work) == bench.reference(plugins=subject("Press"))
