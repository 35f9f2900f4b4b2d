"""Rows F30, F31 and F34: data that change while a run trains, between its sessions, and behind its cache."""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps

from tests.zoo import with_a_flipped_bit

from .bench import EMA, JOURNAL, Bench, Workspace, copy_pictures, digest, model_folder
from .rows import row

SPOIL = """
[[plugins]]
use = "tests.faults.plugins_for_data.Spoil"
path = "{path}"
action = "{action}"
used = "{used}"
"""
REASONS = {
    "one flipped bit": "has changed since the run began", "deleted": "does not exist",
    "truncated": "has changed since the run began", "replaced by another": "has changed since the run began",
    "replaced by a pipe": "is a named pipe, not a file", "emptied": "is empty",
}  # fmt: skip
STEPS = ("train.steps=9", "checkpoint.every_steps=0")
"""Three epochs."""
CACHED = ("cache.latents=true", "train.steps=3", "checkpoint.every_steps=0")


@row("F30", "a file changes while the run trains", cut=3, short=8, long=8)
def changed_meanwhile(bench: Bench) -> None:
    """It is named, another stands in for it and the others keep their places; a touched one is the same; or the run stops."""
    undisturbed = _used(bench, "nothing")[1]
    with bench.trial("written again"):
        work, used = _used(bench, "written again")
        assert used == undisturbed
        assert not work.said("stands in for")
    with bench.trial("stop at the first"):
        work, used = _used(bench, "deleted", "data.on_bad='stop'", code=3)
        assert used == undisturbed[: len(used)]
        assert len(used) < len(undisturbed)
        assert len(work.checkpoints) == 1
    for action, reason in list(REASONS.items())[: bench.count - 2]:
        with bench.trial(action):
            work, used = _used(bench, action)
            assert work.said(f"birds/owl.png, which cannot be used any more: {reason}"), work.log
            assert used[:3] == undisturbed[:3]
            differing = [(a, b) for one, other in zip(undisturbed, used, strict=True)
                         for a, b in zip(one, other, strict=True) if a != b]  # fmt: skip
            assert [a for a, _ in differing] == ["pictures/birds/owl.png"] * 2, differing
            assert all(b != "pictures/birds/owl.png" for _, b in differing)


def _used(bench: Bench, action: str, *settings: str, code: int = 0) -> tuple[Workspace, list[list[str]]]:
    """A run to which that happens after its first epoch, and the ids that each step used."""
    data = bench.folder / f"{action} {len(settings)}" / "pictures"
    copy_pictures(data)
    used = data.parent / "used"
    spoil = SPOIL.format(path=data / "birds" / "owl.png", action=action, used=used)
    work = bench.workspace(*STEPS, "data.max_bad_fraction=0.2", *settings, data=data, plugins=JOURNAL + EMA + spoil)
    ended = bench.train(work)
    assert ended.code == code, ended.output
    return work, [line.split()[1:] for line in used.read_text().splitlines()]


@row("F31", "the data changed between two sessions", cut=2, short=4, long=4)
def changed_between(bench: Bench) -> None:
    """A run does not go on with other data unless it is told to; with the data put back it ends as the unbroken one."""
    data = copy_pictures(bench.folder / "pictures")
    kept = bench.folder / "kept"
    work, whole = bench.workspace(data=data), bench.workspace(data=data)
    ended = bench.train(whole)
    assert ended.code == 0, ended.output
    ended = bench.train(work, "train.steps=4")
    assert ended.code == 0, ended.output
    shutil.copytree(data, kept, copy_function=shutil.copy2)
    with bench.trial("refused with counts"):
        for number in range(3):
            shutil.copy(data / "fruit" / "lemon.png", data / f"new-{number}.png")
        (data / "birds" / "owl.png").unlink()
        (data / "birds" / "duck.txt").write_text("another caption")
        Image.new("RGB", (64, 64)).save(data / "animals" / "fox.png")
        before = {path: path.stat().st_mtime_ns for path in work.checkpoints}
        ended = bench.train(work)
        assert ended.code == 3, ended.output
        for words in ("3 pictures were added (such as pictures/new-", "1 was removed", "2 were changed",
                      "--fresh", "--accept-dataset-change"):  # fmt: skip
            assert words in ended.output, ended.output
        assert before == {path: path.stat().st_mtime_ns for path in work.checkpoints}
    accepted = bench.folder / "accepted"
    if bench.count > 2:
        shutil.copytree(work.path, accepted)
    with bench.trial("put back"):
        shutil.rmtree(data)
        shutil.copytree(kept, data)  # other times of change, the same bytes
        ended = bench.train(work)
        assert ended.code == 0, ended.output
        assert digest(work) == digest(whole)
    if bench.count > 2:
        with bench.trial("accepted"):
            shutil.copy(data / "fruit" / "lemon.png", data / "new.png")
            other = _moved(bench, work, accepted)
            ended = bench.train(other, arguments=("--accept-dataset-change",))
            assert ended.code == 0, ended.output
            assert other.checkpoints[-1].name.endswith("7")
        with bench.trial("accepted once, it is as it is"):
            ended = bench.train(other, "train.steps=9")
            assert ended.code == 0, ended.output


def _moved(bench: Bench, work: Workspace, accepted: Path) -> Workspace:
    """The workspace as it was when it was refused, in the place where its config says that it lies."""
    shutil.rmtree(work.path)
    accepted.rename(work.path)
    return work


@row("F34", "a cache that is damaged, old, or written by two", cut=3, short=11, long=11)
def spoilt_caches(bench: Bench) -> None:
    """Whatever has become of a cache, the run ends as the one without it; what is not whole is made anew."""
    plain = tuple(setting for setting in CACHED if not setting.startswith("cache."))
    first = bench.workspace(*CACHED)
    ended = bench.train(first)
    assert ended.code == 0, ended.output
    assert digest(first) == bench.reference(*plain)
    for kind, spoil in list(CACHES.items())[: 2 if bench.size == "cut" else None]:
        with bench.trial(kind):
            work = bench.workspace(*CACHED)
            shutil.copytree(first.path / "cache", work.path / "cache")
            spoil(work.path / "cache" / "latents.sqlite")
            ended = bench.train(work)
            assert ended.code == 0, ended.output
            assert digest(work) == bench.reference(*plain)
    for kind, trial in list(RUNS.items())[: 1 if bench.size == "cut" else None]:
        with bench.trial(kind):
            trial(bench, first)


def _flip_an_entry(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT key, data FROM entries").fetchall()
        connection.executemany(
            "UPDATE entries SET data = ? WHERE key = ?", [(with_a_flipped_bit(data), key) for key, data in rows[:3]]
        )
    connection.close()


def _swap_entries(path: Path) -> None:
    """Two whole entries, each under the other's key."""
    with sqlite3.connect(path) as connection:
        (one, a, s), (other, b, t) = connection.execute("SELECT key, data, seal FROM entries LIMIT 2").fetchall()
        connection.executemany("UPDATE entries SET data = ?, seal = ? WHERE key = ?", [(b, t, one), (a, s, other)])
    connection.close()


def _cut(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


CACHES: dict[str, Callable[[Path], object]] = {
    "a bit of three entries": _flip_an_entry,
    "cut in half": _cut(0.5),
    "two entries exchanged": _swap_entries,
    "empty": _cut(0.0),
    "no database": lambda path: path.write_bytes(b"no database" * 999),
}


def _stale(bench: Bench, first: Workspace) -> None:
    """A picture that was edited is encoded anew."""
    data = copy_pictures(bench.folder / "edited" / "pictures")
    owl = data / "birds" / "owl.png"
    with Image.open(owl) as image:
        changed = ImageOps.invert(image.convert("RGB"))
    status = owl.stat()
    changed.save(owl)
    os.utime(owl, ns=(status.st_atime_ns, status.st_mtime_ns))
    _same_with_and_without(bench, first, "1 to encode", data=data)


def _other_size(bench: Bench, first: Workspace) -> None:
    _same_with_and_without(bench, first, "10 to encode", "data.resolution=64")


def _other_vae(bench: Bench, first: Workspace) -> None:
    from safetensors.torch import load_file, save_file

    model = bench.folder / "model"
    shutil.copytree(model_folder(), model)
    [weights] = (model / "vae").glob("*.safetensors")
    tensors = load_file(weights)
    name = next(name for name in tensors if name.endswith("conv_in.weight"))
    tensors[name] = tensors[name] * 1.01
    save_file(tensors, weights)
    _same_with_and_without(bench, first, "10 to encode", model=model)


def _same_with_and_without(
    bench: Bench, first: Workspace, told: str, *settings: str, data: Path | None = None, model: Path | None = None
) -> None:
    works = [
        bench.workspace(*CACHED, f"cache.latents={on}", *settings, data=data, model=model) for on in ("true", "false")
    ]
    shutil.copytree(first.path / "cache", works[0].path / "cache")
    for work in works:
        ended = bench.train(work)
        assert ended.code == 0, ended.output
    assert works[0].said(told), works[0].log
    assert digest(works[0]) == digest(works[1])


def _two_writers(bench: Bench, first: Workspace) -> None:
    cache = f"cache.dir='{bench.folder / 'common'}'"
    works = [bench.workspace(*CACHED, cache) for _ in range(2)]
    for child in [bench.begin(work) for work in works]:
        ended = child.wait()
        assert ended.code == 0, ended.output
    assert {digest(work) for work in works} == {digest(first)}


def _killed_while_writing(bench: Bench, first: Workspace) -> None:
    """At its second write, with the first one done and the third not begun."""
    work = bench.workspace(*CACHED)
    ended = bench.train(work, inject=_kill_at_second_write)
    assert ended.code == -signal.SIGKILL, ended.output
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    assert any("reused" in str(line["event"]) and "latents: 0 reused" not in str(line["event"]) for line in work.log), (
        work.log
    )
    assert digest(work) == digest(first)


def _changed_meanwhile(bench: Bench, first: Workspace) -> None:
    """A picture that is edited between scan and encoding leaves nothing under the name of what it was."""
    data = copy_pictures(bench.folder / "meanwhile" / "pictures")
    owl, cache = data / "birds" / "owl.png", f"cache.dir='{bench.folder / 'meanwhile' / 'cache'}'"
    before = owl.read_bytes()
    work = bench.workspace(*CACHED, cache, "data.max_bad_fraction=0.2", data=data)
    ended = bench.train(work, inject=lambda: _before_the_pass(lambda: shutil.copy(owl.with_name("duck.png"), owl)))
    assert ended.code == 0, ended.output
    assert work.said("owl.png: has changed since the run began"), work.log
    owl.write_bytes(before)
    works = [bench.workspace(*CACHED, cache, f"cache.latents={on}", data=data) for on in ("true", "false")]
    for one in works:
        ended = bench.train(one)
        assert ended.code == 0, ended.output
    assert digest(works[0]) == digest(works[1])


def _before_the_pass(act: Callable[[], object]) -> None:
    from core.cache import latent_pass

    genuine = latent_pass.LatentPass.fill

    def fill(self: latent_pass.LatentPass) -> None:
        act()
        genuine(self)

    latent_pass.LatentPass.fill = fill  # type: ignore[method-assign]


def _kill_at_second_write() -> None:
    from core.cache import latent_pass, store

    latent_pass.WRITTEN_AT_ONCE = 4
    genuine, writes = store.Store.write, iter(range(9))

    def write(self: store.Store, entries: object) -> None:
        if next(writes) == 1:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT OR REPLACE INTO entries VALUES (x'00', '{}', x'00', x'00')")
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        genuine(self, entries)  # type: ignore[arg-type]

    store.Store.write = write  # type: ignore[method-assign]


RUNS: dict[str, Callable[[Bench, Workspace], None]] = {
    "a picture was edited": _stale,
    "killed while it was written": _killed_while_writing,
    "another VAE": _other_vae,
    "another size": _other_size,
    "two that write": _two_writers,
    "a picture was edited while it was filled": _changed_meanwhile,
}
