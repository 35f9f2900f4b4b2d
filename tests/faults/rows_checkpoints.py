"""Rows F10 to F13 and F15: checkpoints that are damaged, mixed up or all bad, and whether ever none is left."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .bench import Bench, Workspace, digest
from .injectors import kill_at_call
from .on_disk import is_whole, tree
from .rows import row
from .rows_process import begun
from .rows_signals import SHORT

LENGTHS: dict[str, Callable[[int], int]] = {
    "half": lambda size: size // 2,
    "-1 byte": lambda size: size - 1,
    "0": lambda size: 0,
    "1": lambda size: 1,
}


@row("F10", "a truncated file in the newest checkpoint", cut=3, short=28, long=28)
def truncated(bench: Bench) -> None:
    """The checkpoint before it is used, the file and its length are named, the bad one stays as step-N.corrupt."""
    bench.reference(*SHORT)
    trials = {f"{file} cut to {name}": partial(cut_short, file, length)
              for name, length in LENGTHS.items() for file in files_of(bench)}  # fmt: skip
    bench.spread(trials if bench.size != "cut" else dict(list(trials.items())[:: len(trials) // bench.count]))


def files_of(bench: Bench) -> list[str]:
    """Names of a checkpoint's files, the manifest last."""
    names = os.listdir(begun(bench, SHORT, steps=3).checkpoints[-1])
    return sorted(names, key=lambda name: (name == "manifest.json", name))


def cut_short(file: str, length: Callable[[int], int], bench: Bench) -> None:
    work = begun(bench, SHORT, steps=3)
    path = work.checkpoints[-1] / file
    os.truncate(path, length(path.stat().st_size))
    ends_as_if_whole(work, file.removesuffix(".json"), bench)


def ends_as_if_whole(work: Workspace, named: str, bench: Bench, *, resumes: int = 2) -> None:
    """The newest is passed over, told with this word, set aside as it was; the end has the same bits."""
    bad = work.checkpoints[-1]
    before = {name: content for name, (_, content) in tree(bad).items()}
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    told = [line for line in ended.output.splitlines() if "passed over" in line and bad.name in line]
    assert len(told) == 1, ended.output
    assert named in told[0], told[0]
    assert f"resumed step={resumes} lost=" in ended.output, ended.output
    aside = bad.with_name(f"{bad.name}.corrupt")
    assert {name: content for name, (_, content) in tree(aside).items()} == before, os.listdir(aside.parent)
    assert digest(work) == bench.reference(*SHORT)


@row("F11", "one flipped bit anywhere in the newest checkpoint", cut=200, short=300, long=3000)
def flipped(bench: Bench) -> None:
    """Every bit is covered by a digest: a checkpoint with a flipped one is passed over for the one before it."""
    bench.reference(*SHORT)
    work, files = begun(bench, SHORT, steps=3), files_of(bench)
    whole = [file for file in files for _ in range((work.checkpoints[-1] / file).stat().st_size // 64)]
    for number in range(bench.count):
        name = files[-1] if number % 3 == 2 else bench.random.choice(whole)
        with bench.trial(f"bit of {name}"):
            notice_bit(work, name, bench)
    bench.spread(
        {f"a run, {name}": partial(flip_and_run, name) for name in files[: 1 if bench.size == "cut" else None]}
    )


def notice_bit(work: Workspace, name: str, bench: Bench) -> None:
    """Flip a random bit of the file, look for the newest checkpoint, and flip it back."""
    from core.checkpoint.folder import CheckpointFolder

    place = flip(work.checkpoints[-1] / name, bench)
    try:
        checkpoint, passed_over = CheckpointFolder(work.run / "checkpoints", 2).newest()
        assert checkpoint is not None
        assert checkpoint.step == 2, f"bit {place} of {name} was not noticed"
        assert len(passed_over) == 1
    finally:
        flip(work.checkpoints[-1] / name, bench, place)


def flip(path: Path, bench: Bench, place: int | None = None) -> int:
    """Turn the bit over at a place, or a random one; returns the place."""
    data = bytearray(path.read_bytes())
    place = bench.random.randrange(8 * len(data)) if place is None else place
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(bytes(data))
    return place


def flip_and_run(name: str, bench: Bench) -> None:
    work = begun(bench, SHORT, steps=3)
    flip(work.checkpoints[-1] / name, bench)
    ends_as_if_whole(work, name.removesuffix(".json"), bench)


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def exchange(file: str, work: Workspace) -> None:
    """A file of the newest and that of the checkpoint before change places; the older copy is then mended."""
    newest, before = work.checkpoints[-1], work.checkpoints[-2]
    kept = (before / file).read_bytes()
    swap(newest / file, before / file)
    (before / file).write_bytes(kept)


def rename_step(work: Workspace) -> None:
    """The checkpoint of step 2, as if it were of step 9."""
    before = work.checkpoints[-2]
    before.rename(before.with_name("step-00000009"))


MIXED: dict[str, tuple[Callable[[Workspace], object], str]] = {
    "weights of another step": (partial(exchange, "weights.safetensors"), "weights.safetensors"),
    "no optimizer": (lambda work: (work.checkpoints[-1] / "optimizer.safetensors").unlink(), "optimizer.safetensors"),
    "a file too many": (lambda work: (work.checkpoints[-1] / "extra.bin").touch(), "extra.bin"),
    "manifest of another step": (partial(exchange, "manifest.json"), "manifest"),
    "optimizer of another step": (partial(exchange, "optimizer.safetensors"), "optimizer.safetensors"),
    "state of another step": (partial(exchange, "state.json"), "state.json"),
    "plugins of another step": (partial(exchange, "plugins.safetensors"), "plugins.safetensors"),
    "no weights": (lambda work: (work.checkpoints[-1] / "weights.safetensors").unlink(), "weights.safetensors"),
    "no plugins": (lambda work: (work.checkpoints[-1] / "plugins.safetensors").unlink(), "plugins.safetensors"),
    "no state": (lambda work: (work.checkpoints[-1] / "state.json").unlink(), "state.json"),
    "no config": (lambda work: (work.checkpoints[-1] / "config.toml").unlink(), "config.toml"),
    "a folder too many": (lambda work: (work.checkpoints[-1] / "extra").mkdir(), "extra"),
}
"""By what is done to the newest checkpoint: how, and what must be named."""


@row("F12", "missing, extra and swapped files", cut=4, short=14, long=14)
def mixed(bench: Bench) -> None:
    """A checkpoint whose files are not those of its manifest is passed over, and the difference named."""
    bench.reference(*SHORT)
    trials: dict[str, Callable[[Bench], None]] = {"a step renamed": renamed, "a manifest gone": without_manifest}
    trials |= {name: partial(mix, *kind) for name, kind in MIXED.items()}
    bench.spread(dict(list(trials.items())[: bench.count]))


def mix(change: Callable[[Workspace], object], named: str, bench: Bench) -> None:
    work = begun(bench, SHORT, steps=3)
    change(work)
    ends_as_if_whole(work, named, bench)


def renamed(bench: Bench) -> None:
    work = begun(bench, SHORT, steps=3)
    rename_step(work)
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    assert "its manifest is of step 2" in ended.output, ended.output
    assert "resumed step=3 lost=0" in ended.output, ended.output


def without_manifest(bench: Bench) -> None:
    """As a removal leaves it that was killed: the run goes on from the one before, and the rest is swept."""
    work = begun(bench, SHORT, steps=3)
    (work.checkpoints[-1] / "manifest.json").unlink()
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    assert "resumed step=2 lost=1" in ended.output, ended.output
    assert digest(work) == bench.reference(*SHORT)


@row("F13", "all checkpoints are bad", cut=2, short=7, long=7)
def all_bad(bench: Bench) -> None:
    """It does not start from zero in silence: exit 4, each is listed with its reason, and --fresh is named."""
    bench.spread({f"all bad, {name}": partial(refuse_all, name) for name in files_of(bench)[-bench.count :]})


def refuse_all(name: str, bench: Bench) -> None:
    work = begun(bench, SHORT, steps=3)
    for path in work.checkpoints:
        flip(path / name, bench)
    before = tree(work.run / "checkpoints")
    ended = bench.train(work)
    assert ended.code == 4, ended.output
    assert "--fresh" in ended.output, ended.output
    for path in work.checkpoints:
        listed = next(line for line in ended.output.splitlines() if str(path) in line)
        assert "manifest" in name or name in listed, listed
    assert tree(work.run / "checkpoints") == before
    assert "Traceback" not in ended.output
    fresh = bench.train(work, "train.steps=1", arguments=("--fresh",))
    assert fresh.code == 0, fresh.output
    assert (work.run.with_name("test-2") / "checkpoints" / "step-00000001").is_dir()
    assert tree(work.run / "checkpoints") == before


@row("F15", "killed at every point of the rotation, with keep = 1", cut=1, short=3, long=8)
def rotation(bench: Bench) -> None:
    """At every call of save after save there is a whole checkpoint, and the newest is the one that was saved last."""
    bench.spread({f"tensors of {number} kB": partial(die_everywhere, number) for number in range(1, bench.count + 1)})


def die_everywhere(number: int, bench: Bench) -> None:
    call: int | None = 0
    while call is not None:
        call = rotate_and_die(number, call + 1, bench)


def rotate_and_die(number: int, call: int, bench: Bench) -> int | None:
    """One kill at the n-th call of two saves; None when there are fewer calls."""
    folder = bench.folder / f"rotation-{number}-{call}"
    save_steps(folder, (1,), number)

    def work() -> int:
        kill_at_call(folder, call)
        save_steps(folder, (2, 3), number)
        return 0

    ended = bench.fork(work)
    with bench.trial(f"{number} kB, call {call}"):
        assert ended.code in (0, -9), ended.output
        whole = [path for path in folder.glob("step-*") if is_whole(path)]
        assert whole, os.listdir(folder)
        from core.checkpoint.folder import CheckpointFolder

        newest, passed_over = CheckpointFolder(folder, 1).newest()
        assert newest is not None
        assert newest.path == max(whole), passed_over
        save_steps(folder, (9,), number)
        assert sorted(os.listdir(folder)) == ["step-00000009"], os.listdir(folder)
    shutil.rmtree(folder)
    return call if ended.killed else None


def save_steps(folder: Path, steps: tuple[int, ...], number: int) -> None:
    """Save small checkpoints as a run does, keeping one."""
    import torch

    from core.checkpoint.contents import Contents
    from core.checkpoint.folder import CheckpointFolder

    store = CheckpointFolder(folder, 1)
    for step in steps:
        tensors = {name: {"a": torch.full((256 * number,), float(step))} for name in ("weights", "optimizer")}
        contents = Contents(tensors=tensors, jsons={"state": {"step": step}}, texts={"config.toml": "x"})
        store.save(step, contents, store.going(step))
