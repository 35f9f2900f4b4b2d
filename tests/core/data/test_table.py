"""The table holds every item as it was given, small, and once for all processes."""

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.table import RECORD, ItemTable
from core.errors import DataError
from core.pictures.facts import FileFacts
from events.payloads import Item, ItemSettings

TEXT = st.text(max_size=40)
SETTINGS = st.builds(
    ItemSettings,
    multiply=st.floats(0, 10),
    loss_scale=st.floats(0, 10),
    cond_dropout=st.none() | st.floats(0, 1),
    shuffle_tags=st.none() | st.booleans(),
    keep_tags=st.none() | st.integers(0, 9),
    batch_id=TEXT,
    no_upscale=st.none() | st.booleans(),
    tag_weights=st.dictionaries(TEXT, st.floats(0, 5), max_size=3),
)
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)
ITEMS = st.builds(
    lambda folder, name, **rest: Item(id=f"set/{folder}/{name}", path=Path("/data", folder, name), **rest),
    folder=NAMES, name=NAMES, caption=TEXT, width=st.integers(1, 99999), height=st.integers(1, 99999),
    caption_from=TEXT, mask=st.sampled_from(["", "alpha", Path("/masks/a.png")]), settings=SETTINGS,
    extras=st.dictionaries(TEXT, st.integers() | TEXT, max_size=2),
)  # fmt: skip


def item(number: int, caption: str = "a red heart on white") -> Item:
    return Item(id=f"set/many/{number:06d}.png", path=Path(f"/data/many/{number:06d}.png"), caption=caption,
                width=512, height=512)  # fmt: skip


def facts(numbers: Iterable[int]) -> Iterator[FileFacts]:
    return (FileFacts(number + 1, 2**63 + number, bytes([number] * 16)) for number in numbers)


@given(st.lists(ITEMS, max_size=8))
def test_items_come_back_as_they_were_given(items: list[Item]) -> None:
    table = ItemTable.of(items)
    assert list(table) == items
    assert [table[index] for index in range(len(items))] == items


def test_a_stored_table_is_the_same_and_travels_as_its_place(tmp_path: Path) -> None:
    items = [item(number) for number in range(100)]
    stored = ItemTable.of(items, facts(range(100))).store(tmp_path)
    travelled = pickle.dumps(stored)
    assert len(travelled) < 500
    there = pickle.loads(travelled)
    assert list(there) == items
    assert there.content(7) == bytes([7] * 16)
    assert there.content(0) == b""  # a digest of nothing but zeros stands for none


def test_names_that_are_no_utf8_come_back() -> None:
    odd = Item(id="set/\udcff.png", path=Path("/data/\udcff.png"), caption="x", width=1, height=1)
    assert list(ItemTable.of([odd])) == [odd]


def test_a_file_that_is_not_named_as_its_id_comes_back() -> None:
    odd = Item(id="list/first", path=Path("/elsewhere/a.png"), caption="x", width=1, height=1)
    assert list(ItemTable.of([odd])) == [odd]


def test_a_record_with_its_text_takes_at_most_300_bytes(tmp_path: Path) -> None:
    table = ItemTable.of(
        item(number, "a red heart on white, emoji, flat, glossy, centred, large") for number in range(2000)
    )
    table.store(tmp_path)
    held = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert RECORD.itemsize == 68
    assert held / 2000 < 200


def test_some_of_the_items_keep_their_order_and_digests() -> None:
    table = ItemTable.of([item(number) for number in range(6)], facts(range(9, 3, -1)))
    some = table.where([True, False, True, False, False, True])
    assert [one.path.name for one in some] == ["000000.png", "000002.png", "000005.png"]
    assert [some.content(index)[0] for index in range(3)] == [9, 7, 4]
    assert some.facts(1) == FileFacts(8, 2**63 + 7, bytes([7] * 16))


def test_extras_must_be_plain_values() -> None:
    odd = Item(id="set/a.png", path=Path("a.png"), caption="", width=1, height=1, extras={"x": object()})
    with pytest.raises(DataError, match=r"set/a\.png: its extras are no plain values"):
        ItemTable.of([odd])


def test_an_empty_table_can_be_stored(tmp_path: Path) -> None:
    assert list(ItemTable.of([]).store(tmp_path)) == []


def test_an_index_beyond_the_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        ItemTable.of([item(0)])[1]
