"""What lies around the decoding: the scan, the table and plan of a million items, cached latents, loader processes."""

import os
import time
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch
from PIL import Image

from benchmarks.pictures import write_pictures
from core.cache.store import Store
from core.config import DataTable, PluginSource
from core.data.buckets import assign_sizes
from core.data.loader import Loader
from core.data.maker import MakerSettings, SampleMaker
from core.data.plan import PlanSettings, plan_epoch
from core.data.samples import SampleRoom
from core.data.scan import scan
from core.data.table import ItemTable
from core.pictures.headers import HeaderCache
from events.bus import Bus
from events.payloads import Item

LATENT = (4, 64, 64)
"""Of a picture of 512 px."""
CAPTION = "a photograph of a tabby cat that sleeps on a red sofa in the evening light"


class Measured(Protocol):
    """What of the options is used here."""

    rounds: int
    records: int
    files: int
    folder: Path


def scan_folder(options: Measured) -> dict[str, Any]:
    """A folder of small real files with captions, cold and then from a warm header cache."""
    root = options.folder / "many"
    for number in range(options.files):
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
        cache = HeaderCache(options.folder / "scan.sqlite")
        started = time.perf_counter()
        found = scan(table, cache)
        seconds.append(time.perf_counter() - started)
        cache.close()
    result = {
        "files": len(found.items), "cold_seconds": round(seconds[0], 2), "warm_seconds": round(min(seconds[1:]), 2),
        "warm_seconds_a_million": round(min(seconds[1:]) / len(found.items) * 1e6, 1),
    }  # fmt: skip
    print("\nscan: " + ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in result.items()))
    return result


def plan_a_million(options: Measured) -> dict[str, Any]:
    """Generated items as a table, their sizes, and an epoch's plan."""
    count = options.records
    items = (
        Item(id=f"set/{n // 2000:05}/{n:09}.jpg", path=Path(f"/pictures/{n // 2000:05}/{n:09}.jpg"), caption=CAPTION,
             width=800 + n % 700, height=600 + n % 300)
        for n in range(count)
    )  # fmt: skip
    seconds, started = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        seconds[f"{name}_seconds"] = round(time.perf_counter() - started, 2)
        started = time.perf_counter()

    table = ItemTable.of(items).store(options.folder / "table")
    lap("table")
    geometry = assign_sizes(table, 64, DataTable(root=Path("."), resolution=512)).store(table, options.folder / "table")
    lap("sizes")
    plan = plan_epoch(table, geometry, PlanSettings(seed=0, batch_size=8), 0)
    lap("plan")
    held = sum(path.stat().st_size for path in (options.folder / "table").iterdir())
    columns = (plan.epochs, plan.items, plan.repeats, plan.variants, plan.ends)
    result = {
        "items": count, **seconds, "mapped_bytes_an_item": round(held / count, 1),
        "plan_bytes_an_item": round(sum(column.nbytes for column in columns) / count, 1),
    }  # fmt: skip
    print("\ntable: " + ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in result.items()))
    return result


def read_latents(options: Measured) -> dict[str, Any]:
    """Latents of 512 px from the cache against a full decode of a 12 MP JPEG and its resize, in turns."""
    from benchmarks.data import full_lanczos

    store, keys = Store(options.folder / "latents.sqlite"), [number.to_bytes(16) for number in range(400)]
    entry = {"mean": torch.randn(LATENT), "deviation": torch.rand(LATENT), "geometry": torch.zeros(6).long()}
    store.write((key, entry, {}) for key in keys)
    files = write_pictures(options.folder, "cached", ((4032, 3024),))
    ratios, reads = [], []
    for _ in range(options.rounds):
        started = time.process_time()
        for key in keys:
            store.read(key)
        each = (time.process_time() - started) / len(keys)
        started = time.process_time()
        for file in files:
            full_lanczos(file)
        ratios.append((time.process_time() - started) / len(files) / each)
        reads.append(1 / each)
    store.close()
    result = {"latents_per_second": round(median(reads)), "times_a_full_decode": round(median(ratios), 1)}
    print("\ncache: " + ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in result.items()))
    return result


def load_with_workers(options: Measured) -> dict[str, Any]:
    """Images a second, by wall time, of the whole loader with 0 to 2 processes, from 12 MP JPEGs at 512 px."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    folder = options.folder / "photographs"
    folder.mkdir(exist_ok=True)
    for number, source in enumerate(write_pictures(options.folder, "loaded", ((4032, 3024),))):
        for copy in range(12):
            os.link(source, folder / f"{number:02}-{copy:02}.jpg")
    result: dict[str, Any] = {"cpus": os.cpu_count()}
    for workers in (0, 1, 2):
        table = DataTable(root=folder, resolution=512, max_aspect=1.0, workers=workers)
        items = scan(table, HeaderCache(None)).items.store(options.folder / "loader")
        geometry = assign_sizes(items, 64, table).store(items, options.folder / "loader")
        maker = SampleMaker(
            items, geometry, MakerSettings(seed=0, data=table, latent_scale=8),
            PluginSource(_no_plugins, (), options.folder),
        )  # fmt: skip
        loader = Loader(SampleRoom(maker, _no_tokens), table, pin_memory=False, bus=Bus())
        plan = plan_epoch(items, geometry, PlanSettings(seed=0, batch_size=4), 0)
        batches = loader.batches(plan)
        next(batches)  # workers have started
        started = time.perf_counter()
        count = sum(batch.count for batch in batches)
        result[f"images_per_second_with_{workers}"] = round(count / (time.perf_counter() - started), 1)
        loader.close()
    print("\nworkers: " + ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in result.items()))
    return result


def _no_plugins(tables: Any, folder: Path) -> list[Any]:
    return []


def _no_tokens(captions: Any) -> dict[str, torch.Tensor]:
    return {}
