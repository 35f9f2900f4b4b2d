"""Sizes are generated, closed under turning, and every picture has one at each resolution."""

import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config.tables import DataTable
from core.data.buckets import assign_sizes, generate_buckets, nearest_bucket, own_bucket
from core.data.table import ItemTable
from core.errors import ConfigError
from events.payloads import Item, ItemSettings

SIDES = st.integers(1, 4000)


def table(*sizes: tuple[int, int], no_upscale: bool | None = None, multiply: float = 1.0) -> ItemTable:
    settings = ItemSettings(no_upscale=no_upscale, multiply=multiply)
    return ItemTable.of(
        Item(id=f"set/{n}.png", path=Path(f"{n}.png"), caption="", width=width, height=height, settings=settings)
        for n, (width, height) in enumerate(sizes)
    )


def data(**values: object) -> DataTable:
    return DataTable.model_validate({"root": "."} | values)


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


@given(SIDES, SIDES, st.sampled_from([256, 512]), st.floats(1.0, 4.0))
def test_a_bucket_of_its_own_never_enlarges_and_keeps_area_and_aspect(
    width: int, height: int, resolution: int, aspect: float
) -> None:
    own = own_bucket((width, height), resolution, 64, aspect)
    if own is None:
        assert min(width, height) < 64
        return
    assert own[0] <= width
    assert own[1] <= height
    assert own[0] % 64 == own[1] % 64 == 0
    assert own[0] * own[1] <= resolution * resolution
    assert max(own) <= aspect * min(own)
    turned = own_bucket((height, width), resolution, 64, aspect)
    assert turned is not None
    assert sorted(turned) == sorted(own)


def test_a_small_picture_is_enlarged_unless_it_must_not_be() -> None:
    items = table((300, 200))
    assert assign_sizes(items, 64, data(resolution=512)).size_of(0, 0, 0) == (640, 384)
    assert assign_sizes(items, 64, data(resolution=512, no_upscale=True)).size_of(0, 0, 0) == (256, 192)


def test_an_item_says_itself_whether_it_may_be_enlarged() -> None:
    kept = table((300, 200), no_upscale=True)
    freed = table((300, 200), no_upscale=False)
    assert assign_sizes(kept, 64, data(resolution=512)).size_of(0, 0, 0) == (256, 192)
    assert assign_sizes(freed, 64, data(resolution=512, no_upscale=True)).size_of(0, 0, 0) == (640, 384)


def test_a_picture_below_the_smallest_side_has_no_size() -> None:
    geometry = assign_sizes(table((500, 500), (60, 500)), 64, data(resolution=512, no_upscale=True))
    assert (geometry.index[:, 0] < 0).tolist() == [False, True]


def test_several_resolutions_take_turns_and_each_comes_as_often() -> None:
    items = table(*[(512, 512)] * 40)
    geometry = assign_sizes(items, 64, data(resolution=[256, 512]))
    for item in range(40):
        shown = [geometry.size_of(item, epoch, 0) for epoch in range(4)]
        assert shown[0] != shown[1]
        assert shown[:2] == shown[2:]
    first = [geometry.size_of(item, 0, 0) for item in range(40)]
    assert 8 < first.count((256, 256)) < 32


def test_an_item_shown_twice_an_epoch_goes_on_with_its_turns() -> None:
    geometry = assign_sizes(table((512, 512), multiply=2.0), 64, data(resolution=[128, 256, 512]))
    shown = [geometry.size_of(0, epoch, repeat) for epoch in range(3) for repeat in range(2)]
    assert sorted(shown[:3]) == [(128, 128), (256, 256), (512, 512)]
    assert shown[:3] == shown[3:]


def test_without_enlarging_a_picture_takes_turns_among_those_that_it_covers() -> None:
    geometry = assign_sizes(table((300, 300)), 64, data(resolution=[128, 256, 512], no_upscale=True))
    assert {geometry.size_of(0, epoch, 0) for epoch in range(3)} == {(128, 128), (256, 256)}


def test_variations_count_how_often_an_item_was_shown_at_its_size() -> None:
    geometry = assign_sizes(table((512, 512)), 64, data(resolution=[256, 512]))
    assert [geometry.variation(0, epoch, 0) for epoch in range(6)] == [0, 0, 1, 1, 2, 2]


def test_the_sizes_of_many_samples_are_those_of_each() -> None:
    import numpy

    items = table(*[(100 + 7 * n, 300) for n in range(30)], multiply=1.5)
    geometry = assign_sizes(items, 64, data(resolution=[128, 256]))
    places = [(item, epoch, repeat) for item in range(30) for epoch in range(3) for repeat in range(2)]
    columns = [numpy.array(column) for column in zip(*places, strict=True)]
    sizes = [geometry.sizes[number] for number in geometry.buckets_of(*columns)]
    assert sizes == [geometry.size_of(*place) for place in places]


def test_a_worker_is_given_the_same_sizes(tmp_path: Path) -> None:
    items = table((512, 512), (300, 200)).store(tmp_path)
    geometry = assign_sizes(items, 64, data(resolution=[256, 512])).store(items, tmp_path)
    there = pickle.loads(pickle.dumps(geometry))
    assert len(pickle.dumps(geometry)) < 1000
    for item in (0, 1):
        assert [there.size_of(item, epoch, 0) for epoch in (0, 1)] == [
            geometry.size_of(item, epoch, 0) for epoch in (0, 1)
        ]


def test_a_resolution_below_the_models_smallest_side_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.resolution  32 is below 64"):
        assign_sizes(table((512, 512)), 64, data(resolution=[32, 512]))


def test_nearest_is_by_the_logarithm_of_the_aspect() -> None:
    wide, tall = nearest_bucket((3, 2), ((2, 1), (1, 1))), nearest_bucket((2, 3), ((1, 2), (1, 1)))
    assert (wide, tall) == ((2, 1), (1, 2))
    assert abs(math.log(2) - math.log(1.5)) < abs(math.log(1) - math.log(1.5))
