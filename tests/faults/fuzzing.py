"""Bytes that nobody meant, given to each reader of what comes from others; only its documented errors may come back."""

import json
import random
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .bench import model_folder
from .evil import with_header

EXAMPLES = {"cut": 60, "short": 50, "long": 500}
"""At a time; in short and long, as often as SECONDS allow for each kind of thing."""
SECONDS = {"cut": 0.0, "short": 4.0, "long": 60.0}
WORDS = (
    b"\x00", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"IHDR", b"zTXt", b"RIFF", b"WEBP", b"GIF89a", b"\xef\xbb\xbf", b"\xff\xfe",
    b"[[", b"]]", b"{", b"}", b'"', b"'''", b"=", b"\n", b"1e999", b"9" * 5000, b"[" * 1500, b'{"a":' * 1500, b"nan", b"-1",
    b"&a *a", b"!!python/object", b"\\ud800", b"\\u0000", b"data_offsets", b"__metadata__", b"F32", b"null", b"true", b"..", b'"a/b"',
)  # fmt: skip
"""What the formats are made of, and what parsers stumble over."""


VALUE = re.compile(rb"(?<=[=:\[,])[^=:\[\],{}\n]+")
"""What stands behind a separator in TOML, YAML and JSON."""


@dataclass(frozen=True)
class Target:
    """A reader, the name of a file that it takes and a whole one, the errors that it documents, and its share of the time."""

    read: Callable[[Path], object]
    name: str
    whole: Callable[[], bytes]
    errors: tuple[type[Exception], ...]
    share: float = 1.0


@dataclass
class Tally:
    """What a fuzz saw."""

    tried: int = 0
    refused: int = 0
    kinds: set[str] = field(default_factory=set)


def fuzz(target: Target, size: str, number: int) -> Tally:
    """Damaged copies of the whole file, and bytes of no file at all. Raises whatever the reader does not document.

    A reader that asks for a host of the network is an error too.
    """
    tally, begun, asked = Tally(), time.monotonic(), list[object]()

    def refuse(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise OSError("there is no network here")

    no_network = patch("socket.getaddrinfo", refuse)
    with TemporaryDirectory(prefix="signalbox-fuzz-") as folder, warnings.catch_warnings(), no_network:
        warnings.simplefilter("ignore")
        path = Path(folder) / target.name
        while tally.tried == 0 or time.monotonic() - begun < SECONDS[size] * target.share:
            _batch(target, path, tally, EXAMPLES[size], number + tally.tried)
    assert tally.refused, "not one was refused, so nothing was tried"
    assert not asked, f"it asked for {asked[0]}"
    return tally


def _batch(target: Target, path: Path, tally: Tally, examples: int, number: int) -> None:
    whole = target.whole()

    @seed(number)
    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(
        st.one_of(damaged(whole), st.lists(st.sampled_from(WORDS), max_size=12).map(b"".join), st.binary(max_size=200))
    )
    def one(data: bytes) -> None:
        path.write_bytes(data)
        tally.tried += 1
        try:
            target.read(path)
        except target.errors as error:
            tally.refused += 1
            tally.kinds.add(type(error).__name__)
            str(error).encode("utf-8", "surrogatepass")

    one()


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Copies with some bytes changed, words put in, pieces taken out or repeated, and an end cut off."""

    def damage(number: int) -> bytes:
        draw, data = random.Random(number), bytearray(whole)
        for _ in range(draw.randint(1, 5)):
            at = draw.randrange(len(data) + 1) if draw.random() < 0.5 else draw.randrange(min(len(data), 64) + 1)
            kind = draw.randrange(6)
            if kind == 0 and at < len(data):
                data[at] = draw.randrange(256)
            elif kind == 1:
                data[at:at] = draw.choice(WORDS)
            elif kind == 2:
                del data[at : at + draw.randrange(1, 40)]
            elif kind == 3:
                data[at:] = b"" if draw.random() < 0.3 else data[at:] + data[at : at + 20]
            elif values := list(VALUE.finditer(data)):
                data[slice(*draw.choice(values).span())] = draw.choice(WORDS)
        return bytes(data)

    return st.integers(0, 2**32).map(damage)


def targets() -> dict[str, Callable[[], Target]]:
    """By what comes from others."""
    return {
        **{
            f"image header, {kind}": lambda kind=kind: _image(kind)
            for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
        },  # type: ignore[misc]
        **{f"caption bytes, {ending}": lambda ending=ending: _caption(ending) for ending in (".txt", ".yaml", ".json")},  # type: ignore[misc]
        "TOML": _toml,
        "manifest": _manifest,
        "safetensors header": _safetensors,
        "model configs": _model_configs,
    }


def _image(kind: str) -> Target:
    from PIL import Image

    from core.pictures.files import Refused, reason_of
    from core.pictures.headers import header_of
    from core.pictures.images import read_picture

    def whole() -> bytes:
        stream = BytesIO()
        Image.effect_noise((24, 16), 40).convert("RGB").save(stream, kind)
        return stream.getvalue()

    def read(path: Path) -> None:
        for reader in (
            lambda: header_of(path, check="decode", hashes=True),
            lambda: read_picture(path, transparent="white", mask="", target=None),
        ):
            try:
                reader()
            except (MemoryError, RecursionError):
                raise
            except Exception as error:  # Pillow raises many kinds, of which one function makes sentences
                raise Refused(reason_of(error)) from error

    return Target(read, f"picture.{kind.lower()}", whole, (Refused,), 1 / 6)


def _caption(ending: str) -> Target:
    from core.sources.caption_files import read_sidecar
    from core.sources.layers import Unusable

    text = {
        ".txt": "a red heart, drawn\nsecond line",
        ".yaml": "main_prompt: a heart\ntags:\n  - tag: red\n    weight: 0.5\nmultiply: 2\nflip_p: 0.5\n",
        ".json": '{"main_prompt": "a heart", "tags": [{"tag": "red", "weight": 0.5}], "multiply": 2, "flip_p": 0.5}',
    }[ending]
    return Target(lambda path: read_sidecar(str(path), ending), f"x{ending}", text.encode, (Unusable,), 1 / 3)


def _toml() -> Target:
    from core.config.file import load_config
    from core.errors import ConfigError
    from tests.small_runs import CONFIG

    text = (
        CONFIG.format(dir='"runs"', model='"."', data='"."', cache='"cache"')
        + '\n[[plugins]]\nuse = "a.B"\nname = "x"\n'
    )
    return Target(load_config, "config.toml", text.encode, (ConfigError,))


def _manifest() -> Target:
    from core.checkpoint import manifest
    from core.errors import CheckpointError

    text = manifest.make(2, {"state.json": {"bytes": 3, "sha256": "0" * 64}}, {"run": "test", "plugins": []})

    def read(path: Path) -> None:
        folder = path.parent / "step-00000002"
        folder.mkdir(exist_ok=True)
        path.replace(folder / manifest.NAME)
        (folder / "state.json").write_bytes(b"{}\n")
        manifest.read(folder)
        if manifest.problem_with(folder):
            raise CheckpointError("has a problem")

    return Target(read, "written.json", text.encode, (CheckpointError,))


def _safetensors() -> Target:
    from core.checkpoint.contents import Checkpoint
    from core.config.tables import ModelTable
    from core.errors import CheckpointError, ConfigError
    from core.families.parts.folder import ModelFolder

    header = b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'

    def read(path: Path) -> None:
        Checkpoint(path=path.parent, step=1).tensors(path.stem)
        ModelFolder.of(ModelTable(path=path, base_config=model_folder()))
        ModelFolder.of(ModelTable(path=path))

    return Target(
        read,
        "weights.safetensors",
        lambda: with_header(len(header), header + bytes(16)),
        (ConfigError, CheckpointError),
    )


def _model_configs() -> Target:
    from core.config.tables import ModelTable
    from core.errors import ConfigError
    from core.families.parts.folder import ModelFolder
    from core.families.parts.scheduler import load_scheduler

    index = json.loads((model_folder() / "model_index.json").read_text())
    scheduler = json.loads((model_folder() / "scheduler" / "scheduler_config.json").read_text())

    def read(path: Path) -> None:
        folder = path.parent / "model"
        (folder / "scheduler").mkdir(parents=True, exist_ok=True)
        (folder / "model_index.json").write_text(json.dumps(index))
        (folder / "scheduler" / "scheduler_config.json").write_bytes(path.read_bytes())
        load_scheduler(ModelFolder.of(ModelTable(path=folder)), ("epsilon", "v_prediction"))
        (folder / "model_index.json").write_bytes(path.read_bytes())
        ModelFolder.of(ModelTable(path=folder)).require_known(["unet", "scheduler"])

    return Target(read, "config.json", lambda: json.dumps(scheduler, indent=1).encode(), (ConfigError,))
