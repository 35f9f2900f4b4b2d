"""Rows S2, S8, S9, S10, S11 and S13: what the code may do, what it is built of, and what it does with bytes of others."""

import ast
import json
import re
import resource
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import tomli

from tests.small_runs import ROOT

from .bench import Bench, command
from .evil import evil_pickle, evil_zip, watch_for_code
from .fuzzing import fuzz, targets
from .rows import ROWS, row

PACKAGES = ("core", "events", "plugins")
CONVERSION = ROOT / "core" / "weights" / "conversion.py"
BANNED_CALLS = ("eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "marshal.loads",
                "pickle.load", "pickle.loads", "torch.save")  # fmt: skip
BANNED_IMPORTS = ("pickle", "cloudpickle", "dill", "shelve", "marshal")
FLOORS = {"torch": (2, 10), "transformers": (5, 3), "diffusers": (0, 38), "pillow": (12, 3)}
LARGEST_GROWTH = 100 << 20


def sources() -> list[Path]:
    return [ROOT / "run.py", *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]


@row("S2", "no pickle in what a run keeps", cut=2, short=3, long=3)
def state(bench: Bench) -> None:
    """A checkpoint opens with the standard library, safetensors and tomli alone, and a resumed run unpickles nothing."""
    work = bench.workspace("train.steps=2")
    with bench.trial("every file of a checkpoint"):
        assert bench.train(work).code == 0
        for path in work.checkpoints[-1].iterdir():
            _open_plainly(path)
    with bench.trial("a run that goes on asks no pickle for a class"):
        found = bench.folder / "found"
        ended = bench.train(work, "train.steps=4", inject=watch_for_code(work.path, found))
        assert ended.code == 0, ended.output
        assert "pickle" not in found.read_text(), found.read_text()
    if bench.size != "cut":
        with bench.trial("the sources"):
            for path in sources():
                loads = re.findall(r"torch\.load\([^)]*\)", path.read_text(encoding="utf-8"))
                assert len(loads) == (path == CONVERSION), f"{path}: {loads}"
                assert all("weights_only=True" in load for load in loads), loads
                assert not set(_imports(ast.parse(path.read_text(encoding="utf-8")))) & set(BANNED_IMPORTS), path


def _open_plainly(path: Path) -> None:
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            assert file.keys() is not None
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    else:
        assert path.suffix == ".toml", f"{path.name} is of another kind"
        tomli.loads(path.read_text(encoding="utf-8"))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


@row("S8", "no eval, no shell, and the linter's security rules", cut=2, short=3, long=3)
def code(bench: Bench) -> None:
    """ruff's rules of bandit hold in all that a user runs; what is excepted is named with its reason."""
    with bench.trial("ruff"):
        words = ["check", "--isolated", "--no-cache", "--select", "S", "--ignore", "S101,S311", "run.py", *PACKAGES]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
    with bench.trial("calls"):
        for path in sources():
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    assert ast.unparse(node.func) not in BANNED_CALLS, f"{path}:{node.lineno} {ast.unparse(node.func)}"
                    assert not {"shell", "allow_pickle"} & {one.arg for one in node.keywords}, f"{path}:{node.lineno}"
    if bench.size != "cut":
        with bench.trial("exceptions have reasons"):
            for path in sources():
                for line in path.read_text(encoding="utf-8").splitlines():
                    assert not re.search(r"noqa(?!: [A-Z]+\d+(, [A-Z]+\d+)*  # \S)", line), f"{path}: {line.strip()}"


@row("S9", "pictures are limited before they are decoded", cut=4, short=10, long=10)
def pictures(bench: Bench) -> None:
    """Formats, pixels and metadata that fill the memory or start a program are refused, and cost no memory to refuse."""
    from core.pictures.files import FORMATS

    assert set(FORMATS) == {"JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "AVIF"}, FORMATS
    for name, (data, said) in list(dangerous_pictures().items())[:: 3 if bench.size == "cut" else 1]:
        with bench.trial(name):
            path = bench.folder / "picture.png"
            path.write_bytes(data)
            ended = bench.fork(partial(_look_at, path))
            assert ended.code == 0, ended.output
            assert re.fullmatch(f"({said}.*\n){{2}}", ended.output), ended.output
    with bench.trial("half a picture is never filled up with grey"):
        assert not any("LOAD_TRUNCATED_IMAGES" in path.read_text(encoding="utf-8") for path in sources())


def _look_at(path: Path) -> None:
    """Print why a file is refused by the scan and by the loader."""
    from core.pictures.files import reason_of, strict_warnings
    from core.pictures.headers import header_of
    from core.pictures.images import read_picture

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    readers = (
        lambda: header_of(path, check="decode", hashes=False),
        lambda: read_picture(path, transparent="white", mask="", target=None),
    )
    for reader in readers:
        with strict_warnings():
            try:
                reader()
            except Exception as error:  # as a scan does
                print(reason_of(error))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < LARGEST_GROWTH, f"{grown:,} bytes more"


def dangerous_pictures() -> dict[str, tuple[bytes, str]]:
    """A file and what is said of it, by what it does."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    def png(**options: object) -> bytes:
        stream = BytesIO()
        Image.new("RGB", (16, 16), "red").save(stream, "PNG", **options)
        return stream.getvalue()

    def claims(width: int, height: int) -> bytes:
        header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png()[24:29]
        return png()[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png()[33:]

    many, one = PngInfo(), PngInfo()
    one.add_text("note", "x" * (50 << 20), zip=True)
    for number in range(80):
        many.add_text(f"note-{number}", "x" * (1 << 20), zip=True)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) (w) file\n%%EOF\n"
    pixels = "(has|claims) .* pixels"
    return {
        "10000 x 10000": (claims(10_000, 10_000), pixels),
        "8100 x 8100": (claims(8_100, 8_100), "has 8100 x 8100 pixels"),
        "65535 x 65535": (claims(65_535, 65_535), pixels),
        "20000 x 20000": (claims(20_000, 20_000), pixels),
        "a text of 50 MB": (png(pnginfo=one), "(cannot be|is damaged)"),
        "80 texts of 1 MB": (png(pnginfo=many), "(cannot be|is damaged)"),
        "an EPS": (eps, "is damaged, or no picture of a format"),
        "half a file": (png()[: len(png()) // 2], "(cannot be|is damaged)"),
        "text": (b"#!/bin/sh\ntrue\n", "is damaged, or no picture of a format"),
        "nothing": (b"", "is empty"),
    }


@row("S10", "archives that blow up", cut=2, short=4, long=4)
def bombs(bench: Bench) -> None:
    """`convert` refuses archives that are larger inside than out, and pickles that ask for more than tensors."""
    marker = bench.folder / "marker"
    made = {
        "compressed": (_bomb(zipfile.ZIP_DEFLATED), "would be"),
        "a program": (evil_zip(marker), "it asks for posix.mkdir"),
        "a lying size": (_lying(), ""),
        "a bare program": (evil_pickle(marker, protocol=4), "nothing else is tried"),
    }
    for name, (data, said) in list(made.items())[: 2 if bench.size == "cut" else 4]:
        with bench.trial(name):
            source, target = bench.folder / "old.ckpt", bench.folder / "new.safetensors"
            source.write_bytes(data)
            ended = bench.fork(partial(_convert, source, target))
            assert ended.code == 2, ended.output
            assert said in ended.output, ended.output
            assert not target.exists()
            assert not marker.exists(), f"{name} ran"
    with bench.trial("an honest file"):
        import torch

        source, target = bench.folder / "honest.ckpt", bench.folder / "honest.safetensors"
        torch.save({"state_dict": {"a": torch.ones(2, 2)}, "epoch": 3}, source)
        assert bench.fork(lambda: command("convert", str(source), str(target))).code == 0
        _open_plainly(target)


def _convert(source: Path, target: Path) -> int:
    """The command's exit code, or 99 when the memory grew as if all of the archive had been read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        return command("convert", str(source), str(target))
    finally:
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        assert grown < LARGEST_GROWTH, f"{grown:,} bytes more"


def _bomb(compression: int) -> bytes:
    """200 MB of zeros as the one tensor of an archive."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data/0", bytes(200 << 20))
    return stream.getvalue()


def _lying() -> bytes:
    """torch's own file, whose record of one tensor says that it is far longer than it is."""
    import torch

    stream = BytesIO()
    torch.save({"a": torch.ones(4, 4)}, stream)
    data, size = stream.getvalue(), (64).to_bytes(4, "little")
    return data.replace(size + size, (1 << 30).to_bytes(4, "little") * 2)


@row("S11", "versions with hashes, and above the floors", cut=2, short=2, long=2)
def supply(bench: Bench) -> None:
    """Every version of constraints.txt is in requirements.lock with its hashes; what is installed is not older than is safe."""
    with bench.trial("the lock"):
        lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
        locked = {
            _plain(name): body
            for name, body in re.findall(r"^(\S+==\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", lock, re.M)
        }
        pins = [line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines() if line.strip()]
        assert {_plain(pin) for pin in pins} == set(locked)
        for pin, body in locked.items():
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", body), pin
    with bench.trial("the floors"):
        needed = " ".join(tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]).lower()
        for name, floor in FLOORS.items():
            assert tuple(int(part) for part in version(name).split(".")[:2]) >= floor, f"{name} {version(name)}"
            assert f"{name}>={'.'.join(map(str, floor))}" in needed, f"{name} is asked for without its floor"


def _plain(pin: str) -> str:
    return pin.lower().replace("_", "-")


@row("S13", "a threat model, and a fuzz for each thing from others", cut=14, short=14, long=14)
def threats(bench: Bench) -> None:
    """SECURITY.md names rows that there are; readers of what comes from others raise their documented errors alone."""
    with bench.trial("SECURITY.md"):
        text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
        for words in ("Trusted", "Not trusted", "How to report", "images", "captions", "model files", "checkpoints"):
            assert words in text, f"it says nothing of {words}"
        named = set(re.findall(r"`([SF]\d+)`", text))
        assert named <= set(ROWS), named - set(ROWS)
        assert {f"S{number}" for number in range(1, 14)} <= named
    begun = time.monotonic()
    for number, (name, make) in enumerate(targets().items()):
        with bench.trial(f"fuzz: {name}"):
            tally = fuzz(make(), bench.size, number)
            bench.notes[f"{name}: tried"] += tally.tried
    bench.notes["seconds of fuzzing"] = round(time.monotonic() - begun)
