"""From item to batch: the same bytes in every process, a stand-in for every file that breaks, every image counted once."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.cache.latents import PictureRoom
from core.config.tables import DataTable, PluginSource
from core.data.buckets import assign_sizes
from core.data.loader import Loader
from core.data.maker import MakerSettings, SampleMaker
from core.data.plan import PlanSettings, plan_epoch
from core.data.samples import SampleRoom
from core.data.scan import scan
from core.data.table import ItemTable
from core.errors import DataError
from core.families.parts.clip import ClipTokenize
from core.families.parts.tokenizers import load_tokenizer
from core.pictures.headers import HeaderCache
from events.bus import Bus
from events.payloads import STAND_IN, Batch, SampleKey
from events.plugin import PluginTable
from plugins.loading import build_plugins
from tests.small_runs import STARTER
from tests.zoo import with_a_flipped_bit

TABLES = (
    PluginTable(use="plugins.captions.DropCaption", name="drop", position=0, settings={"probability": 0.5}),
    PluginTable(use="tests.core.plugins_for_tests.Jitter", name="jitter", position=1, settings={}),
)


def load_epoch(
    picture_folder: Path,
    workers: int,
    start_method: str = "forkserver",
    prefetch: int = 2,
    breaks: tuple[str, ...] = (),
    spoil: Callable[[Path], object] = lambda path: path.write_bytes(path.read_bytes()[:-200]),
    fill: bool = False,
    tables: tuple[PluginTable, ...] = TABLES,
    **values: Any,
) -> list[Batch]:
    """Two epochs; what `spoil` does is done to the files of these names after the scan."""
    table = DataTable(
        root=picture_folder, resolution=32, max_aspect=1.0, workers=workers, start_method=start_method,
        prefetch=prefetch, **({"crop": "random", "max_bad_fraction": 0.1} | values),
    )  # fmt: skip
    found = scan(table, HeaderCache(None)).items
    for item in found:
        if item.path.name in breaks:
            spoil(item.path)
    maker = maker_of(found, table, tables)
    room = SampleRoom(maker, ClipTokenize("text_encoder", load_tokenizer(STARTER / "tokenizer", "CLIPTokenizer")))
    loader = Loader(room, table, pin_memory=False, bus=Bus())
    try:
        plan_settings = PlanSettings(seed=5, batch_size=4, fill=fill)
        plans = [plan_epoch(found, maker.geometry, plan_settings, epoch) for epoch in (0, 1)]
        return [batch for plan in plans for batch in loader.batches(plan)]
    finally:
        loader.close()


def maker_of(items: ItemTable, table: DataTable, tables: tuple[PluginTable, ...]) -> SampleMaker:
    settings = MakerSettings(seed=5, data=table, latent_scale=8, time_plugins=True)
    source = PluginSource(build_plugins, tables, Path.cwd())
    return SampleMaker(items, assign_sizes(items, 32, table), settings, source)


def same(one: Batch, other: Batch) -> bool:
    assert one.pixels is not None
    assert other.pixels is not None
    tensors = [(one.pixels, other.pixels), (one.weight, other.weight), (one.geometry, other.geometry)]
    tensors += [(one.tokens[name], other.tokens[name]) for name in one.tokens]
    facts = (one.keys, one.sample_ids, one.captions) == (other.keys, other.sample_ids, other.captions)
    return facts and all(torch.equal(left, right) for left, right in tensors)


@pytest.mark.parametrize(
    ("workers", "method", "prefetch"), [(1, "forkserver", 2), (2, "forkserver", 1), (2, "spawn", 4)]
)
def test_batches_have_the_same_bytes_for_any_number_of_workers(
    picture_folder: Path, workers: int, method: str, prefetch: int
) -> None:
    alone = load_epoch(picture_folder, 0)
    beside = load_epoch(picture_folder, workers, method, prefetch)
    assert len(alone) == len(beside) == 6
    assert all(same(one, other) for one, other in zip(alone, beside, strict=True))


def test_the_two_epochs_of_a_run_draw_anew(picture_folder: Path) -> None:
    batches = load_epoch(picture_folder, 0)
    first = {
        key.item: caption for batch in batches[:3] for key, caption in zip(batch.keys, batch.captions, strict=True)
    }
    second = {
        key.item: caption for batch in batches[3:] for key, caption in zip(batch.keys, batch.captions, strict=True)
    }
    assert first.keys() == second.keys()
    assert first != second


@pytest.fixture
def copied(picture_folder: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes a folder of the pictures that a test may spoil; its name is the same each time."""

    def copy() -> Path:
        folder = tmp_path / "set"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(picture_folder, folder)
        return folder

    return copy


def test_another_picture_stands_in_for_a_file_that_breaks_and_the_same_one_in_every_process(
    copied: Callable[[], Path], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = load_epoch(copied(), 0, breaks=("owl.png",)), load_epoch(copied(), 2, breaks=("owl.png",))
    assert all(same(left, right) for left, right in zip(one, other, strict=True))
    ids = [sample_id for batch in one for sample_id in batch.sample_ids]
    assert len(ids) == 20
    assert "set/birds/owl.png" not in ids
    stands_in = [key for batch in one for key in batch.keys if key.variant >= STAND_IN]
    assert [key.epoch for key in stands_in] == [0, 1]
    named = [record.getMessage() for record in caplog.records if "stands in for" in record.getMessage()]
    assert len(named) == 2  # once for each of the two loaders
    assert "owl.png" in named[0]


def test_the_other_samples_are_as_they_were_when_a_file_breaks(copied: Callable[[], Path]) -> None:
    whole, broken = load_epoch(copied(), 0), load_epoch(copied(), 0, breaks=("owl.png",))
    kept = 0
    for left, right in zip(whole, broken, strict=True):
        for place, key in enumerate(left.keys):
            if right.keys[place] == key:
                kept += 1
                assert left.pixels is not None
                assert right.pixels is not None
                assert torch.equal(left.pixels[place], right.pixels[place])
    assert kept == 18


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (Path.unlink, "does not exist"),
        (lambda path: path.write_bytes(with_a_flipped_bit(path.read_bytes())), "has changed since the run began"),
        (lambda path: shutil.copy(path.with_name("duck.png"), path), "has changed since the run began"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is a named pipe, not a file"),
    ],
)
def test_a_file_that_is_another_than_the_scan_saw_is_named_and_not_used(
    copied: Callable[[], Path], caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object], reason: str
) -> None:
    ids = [one for batch in load_epoch(copied(), 0, breaks=("owl.png",), spoil=spoil) for one in batch.sample_ids]
    assert "set/birds/owl.png" not in ids
    assert f"owl.png, which cannot be used any more: {reason}" in caplog.text


def test_a_file_that_is_another_than_the_scan_saw_never_gets_into_a_cache(copied: Callable[[], Path]) -> None:
    table = DataTable(root=copied(), resolution=32, max_aspect=1.0)
    items = scan(table, HeaderCache(None)).items
    room, key = PictureRoom(maker_of(items, table, ())), SampleKey(0, 0, 0, 0)
    assert room[key].encodable is not None
    items[0].path.write_bytes(items[1].path.read_bytes())
    assert (room[key].encodable, room[key].reason) == (None, "has changed since the run began")


def test_a_file_that_was_only_touched_or_written_anew_is_the_same(copied: Callable[[], Path]) -> None:
    def again(path: Path) -> None:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        os.utime(path, ns=(1, 1))

    whole, touched = load_epoch(copied(), 0), load_epoch(copied(), 0, breaks=("owl.png", "duck.png"), spoil=again)
    assert all(same(one, other) for one, other in zip(whole, touched, strict=True))


def test_the_first_bad_file_ends_the_run_where_the_config_says_so(copied: Callable[[], Path]) -> None:
    with pytest.raises(DataError, match=r"1 of 10 pictures cannot be read, more than data\.on_bad = 'stop' allows"):
        load_epoch(copied(), 0, breaks=("owl.png",), on_bad="stop")


def test_more_broken_files_than_allowed_end_the_run(copied: Callable[[], Path]) -> None:
    with pytest.raises(DataError, match=r"2 of 10 pictures cannot be read, more than data\.max_bad_fraction") as caught:
        load_epoch(copied(), 0, breaks=("owl.png", "duck.png"))
    assert "owl.png" in str(caught.value)


def test_when_nothing_can_stand_in_the_files_are_named(copied: Callable[[], Path]) -> None:
    with pytest.raises(DataError, match="neither these pictures nor any") as caught:
        load_epoch(copied(), 0, breaks=tuple(path.name for path in copied().rglob("*.png")))
    assert "owl.png" in str(caught.value)


def test_copies_that_fill_a_batch_share_the_weight_of_one_image(picture_folder: Path) -> None:
    batches = load_epoch(picture_folder, 0, fill=True)
    assert [len(batch.keys) for batch in batches] == [4] * 6
    assert sorted(batch.count for batch in batches) == [2, 2, 4, 4, 4, 4]
    for batch in batches:
        assert float(batch.weight.sum()) == pytest.approx(batch.count)
    short = next(batch for batch in batches if batch.count == 2)
    assert short.weight.tolist() == [0.5] * 4
    assert short.sample_ids[:2] == short.sample_ids[2:]
    assert short.pixels is not None
    assert not torch.equal(short.pixels[0], short.pixels[2])  # a copy is a draw of its own


def test_geometry_tells_original_crop_and_bucket(picture_folder: Path) -> None:
    batch = load_epoch(picture_folder, 0, crop="centre")[0]
    assert batch.geometry.shape == (4, 6)
    height, width = batch.geometry[0, :2].tolist()
    assert (height, width) == (64, 64)
    assert batch.geometry[0, 2:].tolist() == [0, 0, 32, 32]


@pytest.mark.parametrize(("variations", "same_again"), [(1, True), (0, False)])
def test_random_choices_come_again_only_with_variations(
    picture_folder: Path, variations: int, same_again: bool
) -> None:
    batches = load_epoch(picture_folder, 0, flip_p=0.5, variations=variations, tables=())
    shown: dict[int, list[torch.Tensor]] = {}
    for batch in batches:
        assert batch.pixels is not None
        for key, pixels in zip(batch.keys, batch.pixels, strict=True):
            shown.setdefault(key.item, []).append(pixels)
    assert all(torch.equal(first, second) for first, second in shown.values()) is same_again


def test_nothing_is_left_running_when_the_loader_is_closed(picture_folder: Path) -> None:
    load_epoch(picture_folder, 2)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children if Path(f"/proc/{child}").exists()]
    assert not [name for name in names if b"spawn_main" in name]
