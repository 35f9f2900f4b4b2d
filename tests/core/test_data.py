"""From disk to batch: the same bytes in every process, every picture used, every bad file named."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from core.config import DataTable, PluginSource
from core.data.buckets import generate_buckets, nearest_bucket
from core.data.captions import caption_of
from core.data.images import fit, read_upright, to_pixels, upright_size
from core.data.loader import Loader
from core.data.plan import digest, plan_epoch, plan_problems
from core.data.samples import STAND_IN, SampleRoom, SampleSettingsOfRun
from core.data.scan import names_of, scan
from core.errors import DataError
from core.families.clip import ClipTokenize, load_tokenizer
from events.bus import Bus
from events.payloads import Batch, Item, SampleKey
from events.plugin import PluginTable
from events.randomness import Streams
from plugins.loading import build_plugins
from tests.small_runs import STARTER

# captions


def test_a_caption_is_the_first_line_of_the_text_file_and_a_bom_is_tolerated(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffred heart\nsecond".encode())
    assert caption_of(tmp_path / "a.png", "sidecar") == "red heart"


def test_without_a_text_file_the_name_up_to_the_first_underscore_is_the_caption(tmp_path: Path) -> None:
    assert caption_of(tmp_path / "red heart_0012.png", "sidecar") == "red heart"


def test_an_empty_text_file_is_an_empty_caption_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    assert caption_of(tmp_path / "a.png", "sidecar") == ""


def test_a_text_file_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("größe".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt: is not UTF-8"):
        caption_of(tmp_path / "a.png", "sidecar")


# images


def test_exif_orientation_is_applied_to_size_and_pixels(tmp_path: Path) -> None:
    image = Image.new("RGB", (96, 64), "blue")
    image.paste("red", (0, 0, 48, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert upright_size(tmp_path / "a.jpg") == (64, 96)
    upright = read_upright(tmp_path / "a.jpg", "white")
    assert upright.size == (64, 96)
    assert upright.getpixel((32, 10))[0] > 200  # type: ignore[index]  # RGB gives a tuple
    assert upright.getpixel((32, 85))[2] > 200  # type: ignore[index]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_shows_the_configured_colour(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0)).convert(mode)
    path = tmp_path / "a.png"
    image.save(path, **({"transparency": image.getpixel((0, 0))} if mode == "P" else {}))
    assert read_upright(path, "white").getpixel((4, 4)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(numpy.full((8, 8), 257 * 100, dtype=numpy.uint16)).save(tmp_path / "a.png")
    assert read_upright(tmp_path / "a.png", "white").getpixel((0, 0)) == (100, 100, 100)


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert read_upright(tmp_path / "a.jpg", "white").getpixel((0, 0)) == (255, 255, 255)


def test_fit_covers_the_target_and_crops_the_middle() -> None:
    image = Image.new("RGB", (300, 100), "blue")
    image.paste("red", (100, 0, 200, 100))
    fitted = fit(image, (50, 50), "centre", Streams(0).py)
    assert fitted.size == (50, 50)
    assert fitted.getpixel((25, 25)) == (255, 0, 0)


def test_pixels_are_in_minus_one_to_one() -> None:
    image = Image.new("RGB", (4, 2), (0, 255, 51))
    pixels = to_pixels(image)
    assert (pixels.shape, pixels.dtype) == ((3, 2, 4), torch.float32)
    assert pixels[:, 0, 0].tolist() == pytest.approx([-1.0, 1.0, -0.6])


# scan


def test_ids_are_relative_paths_in_their_order_and_hidden_names_are_skipped(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("b/2.png", "a.png", "b/1.png", ".hidden.png", ".dir/x.png", "b/._1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name, format="PNG")
    found = scan([root], "sidecar", 0.1)
    assert [item.id for item in found.items] == ["set/a.png", "set/b/1.png", "set/b/2.png"]


def test_unreadable_files_are_set_aside_by_name_and_too_many_stop(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no picture")
    found = scan([tmp_path], "sidecar", 0.5)
    assert [item.path.name for item in found.items] == ["good.png"]
    assert "bad.png" in found.problems[0]
    with pytest.raises(DataError, match="max_bad_fraction") as caught:
        scan([tmp_path], "sidecar", 0.1)
    assert "bad.png" in str(caught.value)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        scan([tmp_path], "sidecar", 0.1)


def test_folders_of_the_same_name_stay_apart(tmp_path: Path) -> None:
    assert names_of([tmp_path / "x" / "set", tmp_path / "y" / "set"]) == ["set", "set#2"]


# buckets


@given(st.integers(4, 24), st.sampled_from([8, 16, 64]), st.floats(1.0, 4.0))
def test_buckets_are_closed_under_turning_and_within_area_and_aspect(units: int, multiple: int, aspect: float) -> None:
    resolution = units * multiple
    buckets = generate_buckets(resolution, multiple, aspect)
    assert (resolution, resolution) in buckets
    for width, height in buckets:
        assert (height, width) in buckets
        assert width * height <= resolution * resolution
        assert max(width, height) <= aspect * min(width, height)
        assert width % multiple == height % multiple == 0


def test_a_picture_goes_to_the_nearest_aspect() -> None:
    buckets = generate_buckets(512, 64, 2.0)
    assert nearest_bucket((4000, 4000), buckets) == (512, 512)
    assert nearest_bucket((1600, 1000), buckets) == (640, 384)


# plan


def items(count: int, weight: float = 1.0) -> tuple[Item, ...]:
    return tuple(
        Item(id=f"set/{number}.png", path=Path(f"{number}.png"), caption="", width=32, height=32, weight=weight)
        for number in range(count)
    )


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5))
def test_every_item_is_used_once_an_epoch_in_batches_of_one_bucket(count: int, batch_size: int, epoch: int) -> None:
    sizes = tuple((32, 32) if number % 3 else (24, 40) for number in range(count))
    plan = plan_epoch(items(count), sizes, batch_size, 7, epoch)
    assert sorted(key.item for batch in plan for key in batch) == list(range(count))
    for batch in plan:
        assert len({sizes[key.item] for key in batch}) == 1
        assert len(batch) <= batch_size


def test_a_plan_depends_on_seed_and_epoch_only() -> None:
    sizes = ((32, 32),) * 20
    one = plan_epoch(items(20), sizes, 4, 7, 3)
    assert one == plan_epoch(items(20), sizes, 4, 7, 3)
    assert (
        len({digest(plan_epoch(items(20), sizes, 4, seed, epoch), items(20)) for seed in (1, 2) for epoch in (0, 1)})
        == 4
    )


def test_a_weight_is_dealt_whole_parts_first() -> None:
    plan = plan_epoch(items(200, weight=2.5), ((32, 32),) * 200, 10, 0, 0)
    counts = [0] * 200
    for batch in plan:
        for key in batch:
            counts[key.item] += 1
    assert set(counts) == {2, 3}
    assert 60 < counts.count(3) < 140


def test_a_plan_of_strangers_or_of_mixed_sizes_is_told() -> None:
    sizes = ((32, 32), (24, 40))
    batches = ((SampleKey(0, 0, 0),), (SampleKey(0, 0, 0), SampleKey(0, 1, 0)), (SampleKey(0, 7, 0),))
    assert list(plan_problems(batches, sizes)) == [
        "batch 1 mixes pictures of different sizes",
        "batch 2 names item 7 of 2",
    ]


# loader

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
) -> list[Batch]:
    """Two epochs; the files of these names lose their end after the scan."""
    table = DataTable(root=picture_folder, resolution=32, workers=workers, start_method=start_method, prefetch=prefetch)
    found = scan(table.roots, "sidecar", 0.0).items
    for item in found:
        if item.path.name in breaks:
            item.path.write_bytes(item.path.read_bytes()[:-200])
    sizes = tuple((32, 32) for _ in found)
    settings = SampleSettingsOfRun(
        seed=5, crop="random", transparent="white", time_plugins=True, slow_seconds={}, trace=None
    )
    source = PluginSource(build_plugins, TABLES, Path.cwd())
    room = SampleRoom(
        found, sizes, ClipTokenize("text_encoder", load_tokenizer(STARTER / "tokenizer")), settings, source
    )
    loader = Loader(room, table, pin_memory=False, bus=Bus())
    try:
        plans = [plan_epoch(found, sizes, 4, 5, epoch) for epoch in (0, 1)]
        return [batch for plan in plans for batch in loader.batches(plan)]
    finally:
        loader.close()


def same(one: Batch, other: Batch) -> bool:
    tensors = [(one.pixels, other.pixels), (one.weight, other.weight)]
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
    stands_in = [key for batch in one for key in batch.keys if key.repeat >= STAND_IN]
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
                assert torch.equal(left.pixels[place], right.pixels[place])
    assert kept == 18


def test_more_broken_files_than_allowed_end_the_run(copied: Callable[[], Path]) -> None:
    with pytest.raises(DataError, match=r"2 of 10 pictures cannot be read, more than data\.max_bad_fraction") as caught:
        load_epoch(copied(), 0, breaks=("owl.png", "duck.png"))
    assert "owl.png" in str(caught.value)


def test_when_nothing_can_stand_in_the_files_are_named(copied: Callable[[], Path]) -> None:
    with pytest.raises(DataError, match="neither these pictures nor any") as caught:
        load_epoch(copied(), 0, breaks=tuple(path.name for path in copied().rglob("*.png")))
    assert "owl.png" in str(caught.value)


def test_a_small_file_that_claims_a_huge_picture_is_refused(tmp_path: Path) -> None:
    Image.new("1", (8100, 8000)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="8100 x 8000 pixels"):
        upright_size(tmp_path / "bomb.png")


def test_nothing_is_left_running_when_the_loader_is_closed(picture_folder: Path) -> None:
    load_epoch(picture_folder, 2)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children if Path(f"/proc/{child}").exists()]
    assert not [name for name in names if b"spawn_main" in name]
