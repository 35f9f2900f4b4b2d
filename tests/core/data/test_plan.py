"""A plan shows every item as often as it says, in batches of one size, as a pure function of its place."""

import itertools
from collections import Counter
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config.tables import DataTable
from core.data.buckets import Geometry, assign_sizes
from core.data.plan import Plan, PlanSettings, deal, digest, plan_epoch, plan_problems
from core.data.table import ItemTable
from events.payloads import Item, ItemSettings, SampleKey
from events.randomness import Streams

DATA = DataTable(root=Path("."), resolution=64, max_aspect=2.0)
SHAPES = ((64, 64), (80, 48), (48, 80))


def items_of(count: int, *, multiply: float = 1.0, batch_ids: dict[int, str] | None = None) -> ItemTable:
    return ItemTable.of(
        Item(
            id=f"set/{number}.png", path=Path(f"{number}.png"), caption="",
            width=SHAPES[number % 3][0], height=SHAPES[number % 3][1],
            settings=ItemSettings(multiply=multiply, batch_id=(batch_ids or {}).get(number, "")),
        )
        for number in range(count)
    )  # fmt: skip


def sizes_of(items: ItemTable) -> Geometry:
    return assign_sizes(items, 16, DATA)


def plan_of(items: ItemTable, batch_size: int = 4, *, epoch: int = 0, fill: bool = False, accumulate: int = 1,
            seed: int = 7) -> Plan:  # fmt: skip
    settings = PlanSettings(seed=seed, batch_size=batch_size, fill=fill)
    return plan_epoch(items, sizes_of(items), settings, epoch, accumulate)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5), st.booleans())
def test_every_item_is_used_once_an_epoch_in_batches_of_one_size(
    count: int, batch_size: int, epoch: int, fill: bool
) -> None:
    items = items_of(count)
    geometry, plan = sizes_of(items), plan_of(items, batch_size, epoch=epoch, fill=fill)
    assert sorted(key.item for batch in plan for key in batch if not key.is_copy) == list(range(count))
    for batch in plan:
        assert len({geometry.size_of(key.item, key.epoch, key.repeat) for key in batch}) == 1
        assert len(batch) == batch_size if fill else len(batch) <= batch_size
        assert len(set(batch)) == len(batch)
    assert not list(plan_problems(plan, geometry))


def test_copies_fill_a_short_batch_with_its_own_samples_in_turn() -> None:
    items = ItemTable.of(list(items_of(4))[:1] + list(items_of(4))[3:])  # two squares
    (batch,) = plan_of(items, 5, fill=True)
    first, second = batch[0].item, batch[1].item
    assert [key.item for key in batch] == [first, second, first, second, first]
    assert [key.variant for key in batch] == [0, 0, 1, 1, 2]


def test_a_plan_depends_on_seed_and_epoch_only() -> None:
    items = items_of(20)
    again = plan_of(items, epoch=3)
    assert list(plan_of(items, epoch=3)) == list(again)
    fingerprints = {digest(plan_of(items, seed=seed, epoch=epoch), items.names) for seed in (1, 2) for epoch in (0, 1)}
    assert len(fingerprints) == 4


def test_batches_of_the_sizes_are_mixed_over_the_epoch() -> None:
    items = items_of(90)
    sizes = [batch[0].item % 3 for batch in plan_of(items, 3)]
    assert sizes != sorted(sizes)
    assert any(one != other for one, other in itertools.pairwise(sizes))


multiplies = st.lists(st.floats(0, 4).map(lambda value: round(value, 3)), min_size=1, max_size=40)


@given(multiplies, st.integers(0, 20))
def test_an_epoch_has_the_floor_of_the_sum_and_each_item_its_whole_part_or_one_more(
    multiply: list[float], seed: int
) -> None:
    chosen, repeats = deal(numpy.array(multiply), Streams(seed).np)
    counts = Counter(chosen.tolist())
    total = sum(round(value * 1000) for value in multiply) // 1000
    assert len(chosen) == total
    for index, value in enumerate(multiply):
        assert int(value) <= counts[index] <= int(value) + (value > int(value))
        assert sorted(repeats[chosen == index].tolist()) == list(range(counts[index]))


def test_the_fraction_is_drawn_anew_each_epoch_and_in_proportion() -> None:
    multiply = numpy.array([0.5, 0.5, 0.25, 0.75, 1.0])
    counts = numpy.zeros(5)
    seen = set()
    for epoch in range(2000):
        chosen, _ = deal(multiply, Streams(0, epoch).np)
        counts += numpy.bincount(chosen, minlength=5)
        seen.add(tuple(sorted(chosen.tolist())))
    assert len(seen) > 3
    assert numpy.allclose(counts / 2000, multiply, atol=0.04)


def test_items_of_weight_nought_are_not_shown() -> None:
    assert len(plan_of(items_of(5, multiply=0.0))) == 0


def test_a_plan_of_strangers_or_of_mixed_sizes_is_told() -> None:
    geometry = sizes_of(items_of(2))
    batches = ((SampleKey(0, 0, 0),), (SampleKey(0, 0, 0), SampleKey(0, 1, 0)), (SampleKey(0, 7, 0),))
    assert list(plan_problems(Plan.of(batches), geometry)) == [
        "batch 1 mixes pictures of different sizes",
        "batch 2 names item 7 of 2",
    ]


def test_a_plan_made_of_keys_gives_them_back() -> None:
    batches = ((SampleKey(0, 3, 1, 2),), (SampleKey(0, 0, 0), SampleKey(1, 1, 0)))
    plan = Plan.of(batches)
    assert plan.batches() == batches
    assert plan[1:] == [batches[1]]
    with pytest.raises(IndexError):
        plan[2]


def test_items_of_one_batch_id_follow_each_other() -> None:
    names = dict.fromkeys((0, 3, 6, 9, 1, 4), "pair")
    for epoch in range(8):
        plan = plan_of(items_of(30, batch_ids=names), epoch=epoch)
        grouped = [any(key.item in names for key in batch) for batch in plan]
        first = grouped.index(True)
        assert grouped == [False] * first + [True] * sum(grouped) + [False] * (len(plan) - first - sum(grouped))
        inside = [key.item for batch in plan[first : first + sum(grouped)] for key in batch]
        assert sorted(inside) == sorted(names)


def test_a_group_that_fits_into_a_step_straddles_none() -> None:
    names = {0: "a", 3: "a", 1: "a", 6: "b", 9: "b", 2: "b", 5: "b"}
    for epoch in range(12):
        plan = plan_of(items_of(60, batch_ids=names), batch_size=2, epoch=epoch, accumulate=3)
        for name in "ab":
            steps = {
                number // 3 for number, batch in enumerate(plan)
                if any(names.get(key.item) == name for key in batch)
            }  # fmt: skip
            assert len(steps) == 1, (epoch, name)


def test_a_million_items_are_planned_as_arrays() -> None:
    ten = items_of(9)
    records = numpy.tile(numpy.asarray(ten._records), 111_112)[:1_000_000]
    items = ItemTable(records, b"", [])
    geometry = assign_sizes(items, 16, DATA)
    plan = plan_epoch(items, geometry, PlanSettings(seed=0, batch_size=8), 0)
    held = sum(column.nbytes for column in (plan.epochs, plan.items, plan.repeats, plan.variants, plan.ends))
    assert len(plan.items) == 1_000_000
    assert held / 1_000_000 <= 34
