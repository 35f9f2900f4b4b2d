"""How fast pictures become tensors, and how fast what is known of them is looked up: `python -m benchmarks.data`.

Every contender takes the same files in turn, round by round, in one process on one core, so that what else the machine
does touches all of them alike. Times are medians; ratios are medians of the rounds' own ratios, with their spread.
"""

import argparse
import importlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

import numpy
import torch
from PIL import Image
from PIL import __version__ as pillow_version
from torch import Tensor

from benchmarks.loading import load_with_workers, plan_a_million, read_latents, scan_folder
from benchmarks.pictures import QUALITY, SOURCES, sources, write_pictures
from core.pictures.headers import Header, HeaderCache
from core.pictures.images import crop_box, read_picture, resize, to_pixels

TARGET = (512, 512)
SIZES = {
    "12 MP": ((4032, 3024), (4031, 3023)),
    "2 MP": ((1600, 1200), (1599, 1201)),
    "1 MP": ((1184, 888), (1181, 887)),
}
"""Sides that scale without a remainder, and such that do not."""
Make = Callable[[Path], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    rounds: int
    records: int
    files: int
    folder: Path
    """For what is measured; temporary."""


def decode(options: Options) -> dict[str, Any]:
    """From JPEG to float tensor at 512 px: this trainer against plain loops and torchvision's transforms."""
    contenders: dict[str, Make] = {
        "ours": ours,
        "PIL, draft": plain_draft,
        "PIL, draft, one resize": plain_draft_box,
        "PIL": plain,
        **torchvision_like_diffusers(),
    }
    result: dict[str, Any] = {"pictures": sources()[0], "quality": QUALITY, "target": TARGET}
    print(f"JPEGs of quality {QUALITY} to float tensors of {TARGET[0]} x {TARGET[1]}, made from {sources()[0]}")
    for name, sizes in SIZES.items():
        files = write_pictures(options.folder, name, sizes)
        times = race(contenders, files, options.rounds)
        reference = [full_lanczos(file) for file in files]
        result[name] = {"megabytes": [round(file.stat().st_size / 1e6, 2) for file in files]} | {
            contender: {
                "cpu": one.cpu,
                "wall": one.wall,
                "ours_over": ratio(times["ours"], one),
                "psnr_db": [psnr(contenders[contender](*at), to) for at, to in zip(zip(files), reference, strict=True)],
            }
            for contender, one in times.items()
        }
        print_race(name, result[name], times)
    result["sharp_psnr_db"] = sharp_fidelity(options.folder)
    print(f"\nsharp pictures, decoded as small as we ever do: {min(result['sharp_psnr_db'].values())} dB and more")
    return result


def records(options: Options) -> dict[str, Any]:
    """Rows a second that a warm header cache takes and gives, sizes and times of the files being known."""
    path, header = (
        options.folder / "files.sqlite",
        Header(width=1024, height=768, content=bytes(16), alpha=False, frames=1),
    )
    entries = entries_of(options.records)
    started = time.perf_counter()
    with HeaderCache(path) as cache:
        while some := list(islice(entries, 5000)):
            cache.remember_many([(entry, header) for entry in some], check="decode")
    written = time.perf_counter() - started
    alone = timed(lambda: sum(1 for _ in entries_of(options.records)))
    with HeaderCache(path) as cache:
        looked_up = timed(lambda: sum(1 for _ in cache.lookup_many(entries_of(options.records), check="decode")))
    result = {
        "records": options.records,
        "written_per_second": round(options.records / written),
        "looked_up_per_second": round(options.records / (looked_up - alone)),
        "bytes_per_record": round(path.stat().st_size / options.records, 1),
    }
    print("\nheader cache: " + ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in result.items()))
    return result


SECTIONS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "decode": decode,
    "records": records,
    "scan": scan_folder,
    "table": plan_a_million,
    "cache": read_latents,
    "workers": load_with_workers,
}
"""What can be measured, by name. A further measurement is a function like these, and a line here."""


# contenders


def ours(path: Path, target: tuple[int, int] = TARGET) -> Tensor:
    """As the trainer does it."""
    picture = read_picture(path, transparent="white", mask="", target=target)
    box = crop_box(picture.size, target, "centre", Random(0))
    return to_pixels(resize(picture.image, box, target, mirror=False, whole=picture.size))


def plain(path: Path) -> Tensor:
    """Open, convert, resize to cover, crop the middle, to float: the loop of most scripts."""
    with Image.open(path) as image:
        return _cover_and_crop(image.convert("RGB"))


def plain_draft(path: Path) -> Tensor:
    """The same, decoded at a fraction of the size."""
    with Image.open(path) as image:
        image.draft("RGB", TARGET)
        return _cover_and_crop(image.convert("RGB"))


def plain_draft_box(path: Path) -> Tensor:
    """The same, with crop and resize in one, and the numbers rearranged by torch: the fastest plain loop known to us."""
    with Image.open(path) as image:
        image.draft("RGB", TARGET)
        decoded = image.convert("RGB")
    shown = decoded.resize(TARGET, Image.Resampling.LANCZOS, box=_middle(decoded.size))
    return torch.from_numpy(numpy.array(shown)).permute(2, 0, 1).contiguous().float().div_(127.5).sub_(1)


def full_lanczos(path: Path, target: tuple[int, int] = TARGET) -> Tensor:
    """The reference for fidelity: everything decoded, and one resize without short cuts."""
    with Image.open(path) as image:
        decoded = image.convert("RGB")
    return to_pixels(decoded.resize(target, Image.Resampling.LANCZOS, box=_middle(decoded.size, target)))


def torchvision_like_diffusers() -> dict[str, Make]:
    """The transforms of diffusers' training scripts, where torchvision is installed and fits this torch."""
    try:
        transforms: Any = importlib.import_module("torchvision.transforms")
    except (ImportError, RuntimeError) as error:
        print(f"without torchvision: {error}")
        return {}
    steps = transforms.Compose(
        [
            transforms.Resize(TARGET[0], interpolation=transforms.InterpolationMode.LANCZOS),
            transforms.CenterCrop(TARGET[0]),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )

    def make(path: Path) -> Tensor:
        with Image.open(path) as image:
            made: Tensor = steps(image.convert("RGB"))
        return made

    return {"torchvision": make}


def _cover_and_crop(image: Image.Image) -> Tensor:
    scale = max(TARGET[0] / image.width, TARGET[1] / image.height)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    left, top = (image.width - TARGET[0]) // 2, (image.height - TARGET[1]) // 2
    cropped = image.crop((left, top, left + TARGET[0], top + TARGET[1]))
    values = numpy.asarray(cropped, dtype=numpy.float32) / 127.5 - 1
    return torch.from_numpy(numpy.ascontiguousarray(values.transpose(2, 0, 1)))


def _middle(size: tuple[int, int], target: tuple[int, int] = TARGET) -> tuple[float, float, float, float]:
    scale = max(target[0] / size[0], target[1] / size[1])
    width, height = min(size[0], target[0] / scale), min(size[1], target[1] / scale)
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


# measuring


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds a picture, by round."""

    cpu: list[float]
    wall: list[float]


def race(contenders: dict[str, Make], files: Sequence[Path], rounds: int) -> dict[str, Times]:
    """Each contender's times, in turns; the first round warms up and does not count."""
    times = {name: Times(cpu=[], wall=[]) for name in contenders}
    for round_number in range(rounds + 1):
        for name, make in contenders.items():
            cpu, wall = time.process_time(), time.perf_counter()
            for file in files:
                make(file)
            if round_number:
                times[name].cpu.append((time.process_time() - cpu) / len(files))
                times[name].wall.append((time.perf_counter() - wall) / len(files))
    return times


def sharp_fidelity(folder: Path) -> dict[str, float]:
    """PSNR by picture against a full Lanczos resize where the decoded picture is only just large enough.

    The sources at their own size, which has all the detail pixels can hold; enlarged ones have less.
    """
    found = {}
    for name, source in zip(SOURCES, sources()[1], strict=True):
        path = folder / f"sharp {name}.jpg"
        source.convert("RGB").save(path, quality=QUALITY)
        side = min(source.size) // 2
        found[name] = round(psnr(ours(path, (side, side)), full_lanczos(path, (side, side))), 1)
    return found


def psnr(made: Tensor, reference: Tensor) -> float:
    """In decibels, of pictures in [-1, 1]."""
    return float(10 * torch.log10(4 / (made - reference).double().square().mean().clamp(min=1e-12)))


def ratio(one: Times, other: Times) -> dict[str, float]:
    """How many times as many pictures a second `one` makes by CPU time, round by round."""
    ratios = [theirs / own for own, theirs in zip(one.cpu, other.cpu, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return {key: round(value, 3) for key, value in {"median": median(ratios), "low": low, "high": high}.items()}


def print_race(name: str, result: dict[str, Any], times: dict[str, Times]) -> None:
    print(f"\n{name}, {min(result['megabytes'])} to {max(result['megabytes'])} MB a file")
    print(f"  {'':24}{'images/s (CPU)':>16}{'images/s (wall)':>17}{'PSNR, dB':>10}   ours is (quartiles of the rounds)")
    for contender, one in times.items():
        against, fidelity = result[contender]["ours_over"], min(result[contender]["psnr_db"])
        shown = f"x {against['median']:.2f} ({against['low']:.2f} to {against['high']:.2f})"
        speeds = f"{1 / median(one.cpu):16.1f}{1 / median(one.wall):17.1f}"
        print(f"  {contender:24}{speeds}{fidelity:10.1f}   {shown if contender != 'ours' else ''}")


def entries_of(count: int) -> Iterator[tuple[Path, int, int]]:
    """Generated files, two thousand a folder."""
    for number in range(count):
        yield Path(f"/pictures/{number // 2000:05}/picture {number:09}.jpg"), 100_000 + number, number


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure what is asked for, print it, and write it as JSON where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help=f"of {', '.join(SECTIONS)}; all if none")
    parser.add_argument("--rounds", type=int, default=11, help="turns each contender takes")
    parser.add_argument("--records", type=int, default=1_000_000, help="rows of the header cache")
    parser.add_argument("--files", type=int, default=20_000, help="real files of the scan")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    results: dict[str, Any] = {
        "python": platform.python_version(), "pillow": pillow_version, "torch": torch.__version__,
        "machine": platform.machine(), "cpus": os.cpu_count(),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            rounds=arguments.rounds, records=arguments.records, files=arguments.files, folder=Path(folder)
        )
        for name in arguments.sections or SECTIONS:
            results[name] = SECTIONS[name](options)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
