"""Data that are others than a checkpoint was made with are noticed, with how many came, went and changed; moved ones are not."""

import random
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from core.data.identity import Changes, changes, identity
from core.data.table import ItemTable
from core.pictures.facts import FileFacts
from events.payloads import Item, ItemSettings


def item(name: str, caption: str = "a fox", root: str = "/data/set", **values: object) -> Item:
    values = {"width": 64, "height": 48} | values
    return Item(id=f"set/{name}", path=Path(root, name), caption=caption, **values)  # type: ignore[arg-type]


def facts(content: bytes = b"1", length: int = 9) -> FileFacts:
    return FileFacts(length, 7, content * 16)


def table(*items: Item) -> ItemTable:
    return ItemTable.of(items, [facts()] * len(items))


BASE = (item("a.png"), item("deep/b.png", "two, words"), item("c.png"))


def found(*items: Item) -> Changes:
    return changes(identity(table(*BASE)), table(*items))


def test_the_same_items_differ_in_nothing_in_any_order() -> None:
    assert not found(*reversed(BASE))


def test_what_was_added_removed_and_changed_is_counted_with_examples() -> None:
    new = (item("d.png"), item("e.png"), BASE[1], item("c.png", "another caption"))
    assert found(*new) == Changes(added=2, removed=1, changed=1, added_example="set/d.png", changed_example="set/c.png")
    assert (
        found(*new).sentence()
        == "2 pictures were added (such as set/d.png), 1 was removed, 1 was changed (such as set/c.png)"
    )


def test_every_fact_that_is_trained_on_counts() -> None:
    for other in (
        item("a.png", "a wolf"), item("a.png", width=65), item("a.png", height=47), item("a.png", mask="alpha"),
        item("a.png", settings=ItemSettings(multiply=2)), item("a.png", settings=ItemSettings(flip_p=0.5)),
        item("a.png", extras={"rank": 1}), item("a.png", mask=Path("/data/set/a.mask.png")),
    ):  # fmt: skip
        assert found(other, *BASE[1:]).changed == 1, other


def test_a_moved_folder_and_the_file_that_a_caption_is_from_do_not_count() -> None:
    def all_at(root: str, source: str) -> ItemTable:
        return table(
            *(item(name, root=root, caption_from=source, mask=Path(root, "m.mask.png")) for name in ("x.png", "y.png"))
        )

    assert not changes(identity(all_at("/data/set", ".txt")), all_at("/mnt/other/set", ".yaml"))


def test_bytes_count_by_their_digest_where_both_sides_know_it_and_by_their_length() -> None:
    def one(known: FileFacts) -> ItemTable:
        return ItemTable.of([item("a.png")], [known])

    for before, now, is_change in (
        (facts(b"1"), facts(b"2"), True), (facts(b"1"), facts(b""), False), (facts(b""), facts(b"1"), False),
        (facts(b"", 9), facts(b"", 10), True), (facts(b"1", 9), FileFacts(9, 99, b"1" * 16), False),
    ):  # fmt: skip
        assert bool(changes(identity(one(before)), one(now))) is is_change, (before, now)


def test_an_identity_is_three_tensors_of_eight_bytes_an_item() -> None:
    tensors = identity(table(*BASE))
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()} == dict.fromkeys(
        ("names", "contents", "files"), (torch.Size([3, 8]), torch.uint8)
    )
    assert identity(ItemTable.of([]))["names"].shape == (0, 8)
    assert changes(identity(ItemTable.of([])), table(*BASE)).added == 3


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_counts_are_those_of_sets(before: set[int], now: set[int], others: set[int]) -> None:
    old = table(*(item(f"{number}.png") for number in before))
    new = table(*(item(f"{number}.png", "other" if number in others else "a fox") for number in now))
    told = changes(identity(old), new)
    assert (told.added, told.removed, told.changed) == (
        len(now - before),
        len(before - now),
        len(now & before & others),
    )


def test_it_is_stored_and_travels_the_same(tmp_path: Path) -> None:
    stored = table(*BASE).store(tmp_path)
    assert all(
        torch.equal(one, other)
        for one, other in zip(identity(stored).values(), identity(table(*BASE)).values(), strict=True)
    )


def test_many_items_are_compared_at_once() -> None:
    numbers = random.Random(0)
    items = [item(f"{number % 50}/{number}.png", f"caption {numbers.random()}") for number in range(20_000)]
    many = table(*items)
    begun = perf_counter()
    told = changes(identity(many), table(*items[1:], replace(items[0], caption="x")))
    assert (told.added, told.removed, told.changed) == (0, 0, 1)
    assert perf_counter() - begun < 20  # a hundredth of that where nothing else runs
