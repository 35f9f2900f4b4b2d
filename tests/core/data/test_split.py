"""What is validated with is never trained on, and more data moves no picture from one side to the other."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.split import held_out, require_disjoint
from core.data.table import ItemTable
from core.errors import DataError
from core.pictures.facts import FileFacts
from events.payloads import Item, ItemSettings


def table(*names: str, contents: list[bytes] | None = None, batch_id: str = "") -> ItemTable:
    items = [
        Item(id=f"set/{name}", path=Path(name), caption="", width=8, height=8, settings=ItemSettings(batch_id=batch_id))
        for name in names
    ]
    return ItemTable.of(items, (FileFacts(content=content) for content in contents or [b""] * len(items)))


def kept_names(items: ItemTable, fraction: float, seed: int = 0) -> set[str]:
    return {items[index].id for index, kept in enumerate(held_out(items, seed, fraction)) if kept}


names = st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=30, max_size=60, unique=True)


@given(names, st.integers(0, 5))
def test_more_data_moves_no_picture(all_names: list[str], seed: int) -> None:
    some = table(*all_names[: len(all_names) // 2])
    before, after = kept_names(some, 0.3, seed), kept_names(table(*all_names), 0.3, seed)
    if len(before) > 1:  # of a tiny set one picture is held out whatever its draw
        assert before == after & {item.id for item in some}


def test_about_the_fraction_is_held_out_and_another_seed_holds_out_others() -> None:
    items = table(*(f"{number}.png" for number in range(2000)))
    one, other = kept_names(items, 0.1), kept_names(items, 0.1, seed=1)
    assert 150 < len(one) < 250
    assert one != other


def test_of_a_tiny_set_one_is_held_out_and_of_a_single_picture_none() -> None:
    assert len(kept_names(table("a", "b", "c"), 0.001)) == 1
    assert kept_names(table("a"), 0.5) == set()


def test_files_with_the_same_bytes_go_the_same_way() -> None:
    items = table(*(f"{number}.png" for number in range(200)), contents=[bytes([1 + n % 100] * 16) for n in range(200)])
    kept = held_out(items, 0, 0.2)
    assert kept.any()
    assert (kept[:100] == kept[100:]).all()


def test_a_batch_id_goes_the_same_way_as_a_whole() -> None:
    assert len(kept_names(table("a", "b", "c", batch_id="together"), 0.5)) in (0, 3)


def test_a_picture_on_both_sides_is_named() -> None:
    training = table("a.png", "b.png", contents=[b"1" * 16, b"2" * 16])
    other = ItemTable.of(
        [Item(id="faces/x.png", path=Path("faces/x.png"), caption="", width=8, height=8)],
        [FileFacts(content=b"2" * 16)],
    )
    with pytest.raises(DataError, match=r"faces/x\.png of validation set faces is trained on as set/b\.png"):
        require_disjoint(training, {"faces": other})
    require_disjoint(training.where([True, False]), {"faces": other})


def test_files_whose_bytes_are_not_known_are_not_taken_for_one() -> None:
    other = ItemTable.of([Item(id="faces/x.png", path=Path("x.png"), caption="", width=8, height=8)])
    require_disjoint(table("a.png"), {"faces": other})
    assert not other.hashed.any()
