"""How fast pictures become tensors, and how fast what is known of them is looked up.

`python -m benchmarks.data` measures parts of it, with sizes of one's own. Every contender takes the same files in turn,
round by round, in one process on one core, so that what else the machine does touches all of them alike.
"""

import argparse
import importlib
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from benchmarks.figures import Figure, Options, Section, figure, ratios
from benchmarks.loading import load_with_workers, plan_items, read_latents, scan_folder
from benchmarks.output import Result, machine, tables_of, write_json
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


PLAIN = "PIL, draft, one resize"
"""The contender that the goal is against."""
ROUNDS, RECORDS, FILES = 11, 1_000_000, 20_000
QUICK_RECORDS, QUICK_FILES = 2_000, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of what is measured."""

    rounds: int
    records: int
    """Rows of the header cache, and items of the table."""
    files: int
    """Real files of the scan."""
    folder: Path
    """For what is measured; temporary."""


def decode(sizes: Sizes) -> list[Figure]:
    """From JPEG to float tensor at 512 px: this trainer against plain loops and torchvision's transforms."""
    contenders: dict[str, Make] = {
        "ours": ours,
        PLAIN: plain_draft_box,
        "PIL, draft": plain_draft,
        "PIL": plain,
        **torchvision_like_diffusers(),
    }
    figures = []
    for name, sides in SIZES.items():
        files = write_pictures(sizes.folder, name, sides)
        times = race(contenders, files, sizes.rounds)
        own = times["ours"]
        figures += [
            figure(
                f"{name}: images a second, ours / {other}", ratios(one.cpu, own.cpu), "ratio",
                at_least=1.0 if other == PLAIN else None,
            )
            for other, one in times.items() if other != "ours"
        ]  # fmt: skip
        figures += [
            figure(f"{name}: {contender}, {kind}", [1 / each for each in taken], "images/s")
            for contender, one in times.items()
            for kind, taken in (("CPU", one.cpu), ("wall", one.wall))
        ]
        figures += [fidelity(f"{name}: {contender}, worst PSNR", make, files) for contender, make in contenders.items()]
    sharp = min(sharp_fidelity(sizes.folder).values())
    return [*figures, Figure(name="sharp pictures, decoded as small as we ever do: worst PSNR", value=sharp, unit="dB")]


def records(sizes: Sizes) -> list[Figure]:
    """Rows a second that a warm header cache takes and gives, sizes and times of the files being known."""
    path, header = (
        sizes.folder / "files.sqlite",
        Header(width=1024, height=768, content=bytes(16), alpha=False, frames=1),
    )
    entries = entries_of(sizes.records)
    started = time.perf_counter()
    with HeaderCache(path) as cache:
        while some := list(islice(entries, 5000)):
            cache.remember_many([(entry, header) for entry in some], check="decode")
    written = time.perf_counter() - started
    alone = timed(lambda: sum(1 for _ in entries_of(sizes.records)))
    with HeaderCache(path) as cache:
        looked_up = timed(lambda: sum(1 for _ in cache.lookup_many(entries_of(sizes.records), check="decode")))
    rows = f"header cache of {sizes.records:,} rows"
    return [
        Figure(name=f"{rows}: written", value=sizes.records / written, unit="rows/s"),
        Figure(name=f"{rows}: looked up", value=sizes.records / (looked_up - alone), unit="rows/s"),
        Figure(name=f"{rows}: on disk", value=path.stat().st_size / sizes.records, unit="bytes/row"),
    ]


def scan(sizes: Sizes) -> list[Figure]:
    """A folder of small real files with captions, cold and then from a warm header cache."""
    return scan_folder(sizes.folder, sizes.files)


def table(sizes: Sizes) -> list[Figure]:
    """Generated items as a table, their sizes, and an epoch's plan."""
    return plan_items(sizes.folder, sizes.records)


def cache(sizes: Sizes) -> list[Figure]:
    """Latents of 512 px from the cache against a full decode of a 12 MP JPEG and its resize, in turns."""
    return read_latents(sizes.folder, sizes.rounds)


def workers(sizes: Sizes) -> list[Figure]:
    """The whole loader with 0 to 2 processes, from 12 MP JPEGs at 512 px."""
    return load_with_workers(sizes.folder)


PARTS: dict[str, Callable[[Sizes], list[Figure]]] = {
    "decode": decode,
    "records": records,
    "scan": scan,
    "table": table,
    "cache": cache,
    "workers": workers,
}
"""What can be measured, by name. A further measurement is a function like these, and a line here."""


def measure(options: Options) -> list[Figure]:
    """Every part; the quick form leaves out those that decode large pictures."""
    sizes = Sizes(
        rounds=options.rounds, records=QUICK_RECORDS if options.is_quick else RECORDS,
        files=QUICK_FILES if options.is_quick else FILES, folder=options.folder,
    )  # fmt: skip
    names = ("records", "scan", "table") if options.is_quick else tuple(PARTS)
    return [figure for name in names for figure in figures_of(name, sizes)]


def figures_of(name: str, sizes: Sizes) -> list[Figure]:
    """A part's, measured on one core."""
    with on_one_core():
        return PARTS[name](sizes)


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
    except (ImportError, RuntimeError):
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


def fidelity(name: str, make: Make, files: Sequence[Path]) -> Figure:
    """Against decoding everything and one Lanczos resize, of the picture that comes off worst."""
    return Figure(name=name, value=min(psnr(make(file), full_lanczos(file)) for file in files), unit="dB")


def entries_of(count: int) -> Iterator[tuple[Path, int, int]]:
    """Generated files, two thousand a folder."""
    for number in range(count):
        yield Path(f"/pictures/{number // 2000:05}/picture {number:09}.jpg"), 100_000 + number, number


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def on_one_core() -> Generator[None, None, None]:
    """This process and one thread of torch, where the system can do that."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    torch.set_num_threads(1)
    if cores is not None:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores is not None:
            os.sched_setaffinity(0, cores)


def main() -> None:
    """Measure what is asked for, print it, and write it as JSON where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; all if none")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns each contender takes")
    parser.add_argument("--records", type=int, default=RECORDS, help="rows of the header cache, items of the table")
    parser.add_argument("--files", type=int, default=FILES, help="real files of the scan")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    console, results = Console(), list[Result]()
    with tempfile.TemporaryDirectory() as folder:
        sizes = Sizes(rounds=arguments.rounds, records=arguments.records, files=arguments.files, folder=Path(folder))
        for name in arguments.parts or PARTS:
            begun = time.perf_counter()
            figures = tuple(figures_of(name, sizes))
            part = Section(name=name, question=str(PARTS[name].__doc__), measure=measure)
            results.append(Result(section=part, seconds=time.perf_counter() - begun, figures=figures))
            console.print(*tables_of(results[-1], is_judged=True), sep="\n")
    if arguments.out:
        write_json(arguments.out, machine(), results, rounds=arguments.rounds, is_quick=False)


SECTION = Section(
    name="data", question="How fast do pictures become tensors, and how fast are items found?", measure=measure
)

if __name__ == "__main__":
    main()
