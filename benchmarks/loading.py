"""What lies around the decoding: the scan, the table and plan of a million items, cached latents, loader processes."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.figures import Figure, figure, ratios
from benchmarks.pictures import write_pictures
from core.cache.store import Store
from core.config.tables import DataTable, PluginSource
from core.data.buckets import assign_sizes
from core.data.loader import Loader
from core.data.maker import MakerSettings, SampleMaker
from core.data.plan import Plan, PlanSettings, plan_epoch
from core.data.samples import SampleRoom
from core.data.scan import scan
from core.data.table import ItemTable
from core.pictures.headers import HeaderCache
from events.bus import Bus
from events.payloads import Item

LATENT = (4, 64, 64)
"""Of a picture of 512 px."""
CAPTION = "a photograph of a tabby cat that sleeps on a red sofa in the evening light"


def scan_folder(folder: Path, files: int) -> list[Figure]:
    """A folder of small real files with captions, cold and then from a warm header cache."""
    root = folder / "many"
    for number in range(files):
        place = root / f"{number // 1000:04}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07}.txt").write_text(CAPTION)
        path = place / f"{number:07}.png"
        if number:
            os.link(root / "0000" / "0000000.png", path) if number % 1000 else Image.new("RGB", (8, 8)).save(path)
        else:
            Image.new("RGB", (8, 8)).save(path)
    table = DataTable(root=root)
    seconds = []
    for _ in range(3):
        cache = HeaderCache(folder / "scan.sqlite")
        started = time.perf_counter()
        found = scan(table, cache)
        seconds.append(time.perf_counter() - started)
        cache.close()
    name = f"scan of {len(found.items):,} files"
    return [
        Figure(name=f"{name}: cold", value=seconds[0], unit="s"),
        Figure(name=f"{name}: warm", value=min(seconds[1:]), unit="s"),
        Figure(name="a warm scan, per million files", value=min(seconds[1:]) / len(found.items) * 1e6, unit="s"),
    ]


@dataclass(frozen=True, slots=True)
class Planned:
    """Generated items, mapped from disk as in a run, and an epoch's plan of them."""

    table: ItemTable
    plan: Plan
    seconds: dict[str, float]
    """By what was done: `table`, `sizes`, `plan`."""
    mapped_bytes: int
    """Of table and sizes on disk, mapped once for all processes."""

    @property
    def plan_bytes(self) -> int:
        """In the training process."""
        plan = self.plan
        return sum(column.nbytes for column in (plan.epochs, plan.items, plan.repeats, plan.variants, plan.ends))


def generate(folder: Path, count: int, batch_size: int = 8) -> Planned:
    """So many items as a table, their sizes, and an epoch's plan."""
    items = (
        Item(id=f"set/{n // 2000:05}/{n:09}.jpg", path=Path(f"/pictures/{n // 2000:05}/{n:09}.jpg"), caption=CAPTION,
             width=800 + n % 700, height=600 + n % 300)
        for n in range(count)
    )  # fmt: skip
    place, seconds, started = folder / f"table of {count}", {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        seconds[name] = time.perf_counter() - started
        started = time.perf_counter()

    table = ItemTable.of(items).store(place)
    lap("table")
    geometry = assign_sizes(table, 64, DataTable(root=Path("."), resolution=512)).store(table, place)
    lap("sizes")
    plan = plan_epoch(table, geometry, PlanSettings(seed=0, batch_size=batch_size), 0)
    lap("plan")
    return Planned(table, plan, seconds, sum(path.stat().st_size for path in place.iterdir()))


def plan_items(folder: Path, count: int) -> list[Figure]:
    """Generated items as a table, their sizes, and an epoch's plan."""
    made, name = generate(folder, count), f"{count:,} items"
    return [
        *(Figure(name=f"{name}: {what}", value=seconds, unit="s") for what, seconds in made.seconds.items()),
        Figure(name=f"{name}: mapped", value=made.mapped_bytes / count, unit="bytes/item"),
        Figure(name=f"{name}: plan in memory", value=made.plan_bytes / count, unit="bytes/item"),
    ]


def read_latents(folder: Path, rounds: int) -> list[Figure]:
    """Latents of 512 px from the cache against a full decode of a 12 MP JPEG and its resize, in turns."""
    from benchmarks.data import full_lanczos

    store, keys = Store(folder / "latents.sqlite"), [number.to_bytes(16) for number in range(400)]
    entry = {"mean": torch.randn(LATENT), "deviation": torch.rand(LATENT), "geometry": torch.zeros(6).long()}
    store.write((key, entry, {}) for key in keys)
    files = write_pictures(folder, "cached", ((4032, 3024),))
    decodes, reads = [], []
    for _ in range(rounds):
        started = time.process_time()
        for key in keys:
            store.read(key)
        each = (time.process_time() - started) / len(keys)
        started = time.process_time()
        for file in files:
            full_lanczos(file)
        decodes.append((time.process_time() - started) / len(files))
        reads.append(each)
    store.close()
    return [
        figure("latents from the cache", [1 / each for each in reads], "latents/s"),
        figure("latents a second / full decodes and resizes of 12 MP", ratios(decodes, reads), "ratio", at_least=1.0),
    ]


def load_with_workers(folder: Path) -> list[Figure]:
    """Images a second, by wall time, of the whole loader with 0 to 2 processes, from 12 MP JPEGs at 512 px."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    photographs = folder / "photographs"
    photographs.mkdir(exist_ok=True)
    for number, source in enumerate(write_pictures(folder, "loaded", ((4032, 3024),))):
        for copy in range(12):
            os.link(source, photographs / f"{number:02}-{copy:02}.jpg")
    figures = []
    for workers in (0, 1, 2):
        table = DataTable(root=photographs, resolution=512, max_aspect=1.0, workers=workers)
        items = scan(table, HeaderCache(None)).items.store(folder / "loader")
        geometry = assign_sizes(items, 64, table).store(items, folder / "loader")
        maker = SampleMaker(
            items, geometry, MakerSettings(seed=0, data=table, latent_scale=8),
            PluginSource(_no_plugins, (), folder),
        )  # fmt: skip
        loader = Loader(SampleRoom(maker, _no_tokens), table, pin_memory=False, bus=Bus())
        plan = plan_epoch(items, geometry, PlanSettings(seed=0, batch_size=4), 0)
        batches = loader.batches(plan)
        next(batches)  # workers have started
        started = time.perf_counter()
        count = sum(batch.count for batch in batches)
        per_second = count / (time.perf_counter() - started)
        figures.append(
            Figure(name=f"12 MP pictures from {workers} loader processes, wall", value=per_second, unit="images/s")
        )
        loader.close()
    return figures


def _no_plugins(tables: Any, folder: Path) -> list[Any]:
    return []


def _no_tokens(captions: Any) -> dict[str, torch.Tensor]:
    return {}
