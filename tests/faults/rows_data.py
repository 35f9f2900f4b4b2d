"""Rows F25, F26, F32, F33 and F35: what lies in the folders of a data set, and what a run makes of it."""

import json
import os
import resource
import socket
import sys
import unicodedata
from pathlib import Path
from typing import Any

from tests.zoo import KEPT_CAPTIONS, NAMES, ODD, REFUSED_CAPTIONS, UNUSABLE, encoded, grainy

from .bench import Bench, Ended, Workspace, command, copy_pictures, digest
from .rows import row

QUICK = ("train.steps=3", "checkpoint.every_steps=0")
RSS_MEGABYTES = 200


@row("F25", "bad pictures among good ones", cut=33, short=33, long=33)
def bad_pictures(bench: Bench) -> None:
    """Each bad file is named with its reason, the run is the one without them bit for bit, and odd ones are trained on."""
    data = copy_pictures(bench.folder / "pictures")
    without = _undisturbed(bench, data)
    for number, (name, make, _) in enumerate(UNUSABLE.values()):
        (data / f"bad-{number}-{name}").write_bytes(make())
    known = f"cache.dir='{bench.folder / 'cache'}'"  # so that each file is looked at once
    work = bench.workspace(*QUICK, "data.max_bad_fraction=0.8", known, data=data)
    with bench.trial("the run without them"):
        _ended(bench.train(work))
        assert digest(work) == without
        assert work.said(f"10 pictures in 1 bucket (32x32: 10), {len(UNUSABLE)} set aside")
    told = _set_aside(data, bench.folder / "cache")
    for number, (kind, (name, _, reason)) in enumerate(UNUSABLE.items()):
        with bench.trial(kind):
            assert reason in told.get(f"bad-{number}-{name}", ""), told
    with bench.trial("stop at the first"):
        ended = _ended(bench.train(bench.workspace("data.on_bad='stop'", known, data=data)), 3)
        assert f"{len(UNUSABLE)} of 30 files" in ended.output, ended.output
        assert "more than data.on_bad = 'stop' allows" in ended.output
    with bench.trial("more than a share of them"):
        ended = _ended(bench.train(bench.workspace("data.max_bad_fraction=0.5", known, data=data)), 3)
        assert "more than data.max_bad_fraction = 0.5 allows" in ended.output, ended.output
    odd = bench.folder / "odd"
    odd.mkdir()
    for number, (name, make, _, _) in enumerate(ODD.values()):
        (odd / f"{number}-{name}").write_bytes(make())
    work = bench.workspace(*QUICK, "data.decode='full'", data=odd)
    ended = bench.train(work)
    for number, (kind, (name, _, size, _)) in enumerate(ODD.items()):
        with bench.trial(kind):
            _ended(ended)
            [item] = [item for item in _items(work) if item.path.name == f"{number}-{name}"]
            assert (item.width, item.height) == size, item


@row("F26", "bad captions among good ones", cut=17, short=17, long=17)
def bad_captions(bench: Bench) -> None:
    """Each caption is read as it is meant, or its picture set aside with the reason; memory stays within bounds."""
    data = bench.folder / "captions"
    data.mkdir()
    captions = {**KEPT_CAPTIONS, **REFUSED_CAPTIONS}
    for number, (content, _) in enumerate(captions.values()):
        (data / f"{number}.png").write_bytes(encoded("PNG", grainy(seed=number, size=(32, 32))))
        (data / f"{number}.txt").write_bytes(content)
    settings = (*QUICK, "train.batch_size=2", "data.max_bad_fraction=0.9", "cache.text=true", "model.train=['unet']")
    work, plain = bench.workspace(*settings, data=data), bench.workspace(*settings)
    (data / "missing_1.png").write_bytes(encoded("PNG", grainy(seed=99, size=(32, 32))))
    with bench.trial("the run, and what memory it takes"):
        most, usual = _peak(bench, work), _peak(bench, plain)
        assert most - usual < RSS_MEGABYTES, f"{most:.0f} MB beside the usual {usual:.0f} MB"
        assert work.said("tokens that are read, such as that of captions/2.png"), work.log
    found = {item.path.name: item.caption for item in _items(work)}
    told = _set_aside(data)
    for number, (kind, (_, words)) in enumerate(captions.items()):
        with bench.trial(kind):
            if kind in KEPT_CAPTIONS:
                assert found[f"{number}.png"] == words
            else:
                assert told[f"{number}.png"].startswith(f"{number}.txt: {words}"), told
    with bench.trial("no caption file"):
        assert found["missing_1.png"] == "missing"


@row("F32", "links, pipes, sockets, devices and folders that look like pictures", cut=4, short=4, long=4)
def odd_entries(bench: Bench) -> None:
    """The scan ends, names what is no file and what leads out of the data, and opens none of it."""
    data, outside = copy_pictures(bench.folder / "pictures"), bench.folder / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(encoded("PNG", grainy()))
    without = _undisturbed(bench, data)
    told = _add_odd_entries(data, outside)
    work = bench.workspace(*QUICK, "data.max_bad_fraction=0.9", data=data)
    with bench.trial("none is opened, all are named"):
        _ended(bench.train(work, inject=lambda: _refuse_to_open({*told, "secret.png"}), timeout=60))
        assert digest(work) == without
        listed = _set_aside(data)
        assert listed.keys() == told.keys(), listed.keys() ^ told.keys()
        for name, reason in told.items():
            assert reason in listed[name], (name, listed[name])
    with bench.trial("links out of the data are followed where the config says so"):
        work = bench.workspace(*QUICK, "data.max_bad_fraction=0.9", "data.follow_links=true", data=data)
        _ended(bench.train(work))
        linked = {item.id for item in _items(work) if "secret" in item.id or item.path.name == "out.png"}
        assert linked == {"pictures/linked/secret.png", "pictures/out.png"}
    with bench.trial("what may not be read"):
        _without_rights(bench)
    with bench.trial("links alone"):
        alone = bench.folder / "alone"
        alone.mkdir()
        (alone / "all").symlink_to(data)
        ended = _ended(bench.train(bench.workspace(data=alone)), 3)
        assert "set data.follow_links = true" in ended.output, ended.output


@row("F33", "odd names", cut=14, short=14, long=14)
def odd_names(bench: Bench) -> None:
    """Pictures of any names are told apart, cached by what they hold, and leave a log that is JSON."""
    data = bench.folder / "names"
    data.mkdir()
    for number, name in enumerate(NAMES):
        (data / name).write_bytes(encoded("PNG", grainy(seed=number // 2, size=(32, 32))))  # two by two the same
    (data / NAMES[0]).with_suffix(".txt").write_text("shared by a stem")
    (data / "\udcff.png").write_bytes(b"no picture")
    work = bench.workspace(*QUICK, "cache.latents=true", "data.max_bad_fraction=0.5", "log.level='debug'", data=data)
    with bench.trial("the run, its log and its cache"):
        _ended(bench.train(work))
        assert any("set aside" in str(line["event"]) and "no picture" in str(line["event"]) for line in work.log)
        assert work.said(f"latents: 0 reused, {(len(NAMES) + 1) // 2} to encode")
    items = {item.path.name: item for item in _items(work)}
    for name in NAMES:
        with bench.trial(repr(name)):
            assert items[name].id == f"names/{name}"
            json.dumps(items[name].id)
    with bench.trial("twins"):
        assert len({item.id for item in items.values()}) == len(NAMES)
        assert {"e\u0301.png", "\u00e9.png"} <= items.keys()
        assert unicodedata.normalize("NFC", "e\u0301.png") == "\u00e9.png"
        assert [items[name].caption for name in ("x.jpg", "x.png", "X.png")] == ["shared by a stem"] * 2 + ["X"]


@row("F35", "no pictures, one, few, or none that can be used", cut=5, short=6, long=6)
def few_pictures(bench: Bench) -> None:
    """A data set without pictures ends before training with its folder named; of few, each is shown as often as asked."""
    empty, bad, one = (bench.folder / name for name in ("empty", "bad", "one"))
    for folder in (empty, bad, one):
        folder.mkdir()
    (empty / "notes.md").write_text("nothing to see")
    (bad / "a.png").write_text("no picture")
    (one / "a.png").write_bytes(encoded("PNG", grainy(size=(32, 32))))
    refused = (
        ("empty", empty, (), f"{empty}: holds no picture; looked for .avif"),
        ("all bad", bad, ("data.max_bad_fraction=1",), f"1 of 1 files in {bad} cannot be used"),
    )
    for kind, folder, settings, words in refused:
        with bench.trial(kind):
            work = bench.workspace(*settings, data=folder)
            assert words in _ended(bench.train(work), 3).output
            assert not work.checkpoints
    with bench.trial("not there"):
        ended = _ended(bench.train(bench.workspace(data=bench.folder / "gone")), 2)
        assert f"data.root  {bench.folder / 'gone'} does not exist" in ended.output, ended.output
    with bench.trial("one picture, fewer than a batch"):
        work = bench.workspace(*QUICK, data=one)
        _ended(bench.train(work))
        assert work.said("1 picture in 1 bucket (")
        assert json.loads((work.checkpoints[-1] / "state.json").read_text())["position"]["epoch"] >= 2
    with bench.trial("one picture, and a batch filled with it"):
        _ended(bench.train(bench.workspace(*QUICK, "data.short_batches='fill'", data=one)))
    if bench.count > 5:
        with bench.trial("all held out"):
            ended = _ended(bench.train(bench.workspace(f"validation.sets={{same='{one}'}}", data=one)), 3)
            assert "validation set same is trained on" in ended.output, ended.output


def _undisturbed(bench: Bench, data: Path) -> str:
    """The digest of a run on the folder as it is."""
    work = bench.workspace(*QUICK, data=data)
    _ended(bench.train(work))
    return digest(work)


def _ended(ended: Ended, code: int = 0) -> Ended:
    assert ended.code == code, ended.output
    return ended


def _set_aside(data: Path, cache: Path | None = None) -> dict[str, str]:
    """By the names of files, why a scan sets them aside."""
    from core.config.tables import DataTable
    from core.data.scan import scan
    from core.pictures.headers import HeaderCache

    with HeaderCache(cache and cache / "files.sqlite") as known:
        found = scan(DataTable(root=data, max_bad_fraction=1.0), known)
    return {problem.path.name: problem.reason for problem in found.problems}


def _items(work: Workspace) -> list[Any]:
    """Those that the run trained on, as its workers read them."""
    from core.data.table import ItemTable

    return list(ItemTable.open(work.run / "items" / "training"))


def _peak(bench: Bench, work: Workspace) -> float:
    """The most memory that a run held at once, in megabytes."""
    told = work.path / "peak"

    def train() -> int:
        try:
            return command("train", str(work.config))
        finally:
            told.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))

    _ended(bench.fork(train))
    return float(told.read_text())


def _add_odd_entries(data: Path, outside: Path) -> dict[str, str]:
    """Everything that is like a picture and none; by name, words of the reason."""
    os.mkfifo(data / "pipe.png")
    os.mkfifo(data / "birds" / "owl.yaml.png")
    (data / "folder.png").mkdir()
    (data / "gone.png").symlink_to("nowhere")
    (data / "self.png").symlink_to("self.png")
    (data / "null.png").symlink_to("/dev/zero")
    (data / "up").symlink_to("..")
    (data / "birds" / "circle").symlink_to(data)
    (data / "linked").symlink_to(outside)
    (data / "out.png").symlink_to(outside / "secret.png")
    before = os.getcwd()
    os.chdir(data)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.png")
    os.chdir(before)
    return {
        "pipe.png": "is a FIFO", "owl.yaml.png": "is a FIFO", "gone.png": "is a link that leads nowhere",
        "self.png": "is a link that leads nowhere", "null.png": "is a device", "up": "would lead in a circle",
        "circle": "would lead in a circle", "linked": f"is a link to {outside.resolve()}, outside the folder",
        "out.png": "outside the folder of the data set", "socket.png": "is a socket",
    }  # fmt: skip


def _refuse_to_open(names: set[str]) -> None:
    """End this process as soon as it opens a file of one of these names."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and os.path.basename(arguments[0]) in names:
            print(f"opened {arguments[0]}", file=sys.stderr, flush=True)
            os._exit(99)

    sys.addaudithook(look)


def _without_rights(bench: Bench) -> None:
    """A file and a folder that this user may not read are named, and the others found."""
    data = copy_pictures(bench.folder / "closed")
    owl, fruit = data / "birds" / "owl.png", data / "fruit"
    for path in (bench.folder, *data.rglob("*"), data):
        path.chmod(0o755 if path.is_dir() else 0o644)

    def look() -> None:
        owl.chmod(0)
        fruit.chmod(0)
        if os.geteuid() == 0:
            os.setuid(65534)
        told = _set_aside(data)
        assert told == {
            "owl.png": "cannot be read: Permission denied",
            "fruit": "cannot be listed: Permission denied",
        }, told

    try:
        ended = bench.fork(look)
    finally:
        fruit.chmod(0o755)
    assert ended.code == 0, ended.output
