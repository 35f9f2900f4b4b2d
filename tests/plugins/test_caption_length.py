"""A caption is cut to a random number of tags or words, all numbers as likely, and what is kept is never cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from events.testing import Harness, sample_context
from plugins.caption_length import RandomLength
from plugins.captions import ShuffleTags
from tests.plugins.test_captions import TAGS, changed, share_of, validated


def cutting(low: int, high: int, **settings: object) -> RandomLength:
    return RandomLength(RandomLength.Settings(low=low, high=high, **settings))  # type: ignore[arg-type]  # see the tests


@pytest.mark.parametrize(("unit", "caption"), [("tags", TAGS), ("words", TAGS.replace(",", ""))])
def test_each_number_is_as_likely_and_the_first_ones_are_left(unit: str, caption: str) -> None:
    harness = Harness(cutting(2, 5, unit=unit))
    found = [harness.apply("sample.caption", caption, sample_context(epoch=epoch)) for epoch in range(2000)]
    assert all(caption.startswith(left) for left in found)
    numbers = [len(left.split()) for left in found]
    assert set(numbers) == {2, 3, 4, 5}
    assert all(share_of(numbers.count(number), 2000, 0.25) for number in range(2, 6))


def test_a_caption_that_is_short_enough_stays_bit_for_bit() -> None:
    assert changed("a ,b,  c", cutting(3, 9)) == "a ,b,  c"
    assert changed("two  words", cutting(2, 2, unit="words")) == "two  words"
    assert changed("", cutting(1, 1)) == ""


def test_what_is_kept_counts_and_is_never_cut() -> None:
    assert changed(TAGS, cutting(1, 1, keep=3)) == "a, b, c"
    assert changed(TAGS, cutting(4, 4, keep=3)) == "a, b, c, d"
    assert changed("one two three four", cutting(1, 1, keep=2, unit="words")) == "one two"


def test_an_items_keep_tags_wins() -> None:
    assert changed(TAGS, cutting(1, 1, keep=1), keep_tags=4) == "a, b, c, d"


@pytest.mark.parametrize(
    ("caption", "unit", "left"),
    [
        ("a, b ||| c, d", "tags", "a, b, c"),
        ("a, b, c, d, e", "tags", "a, b, c"),
        ("one two||| three four", "words", "one two, three"),
        ("one two three four ||| five", "words", "one two three four"),
    ],
)
def test_all_before_the_keep_separator_is_kept_and_it_is_taken_out(caption: str, unit: str, left: str) -> None:
    assert changed(caption, cutting(3, 3, keep=0, keep_separator="|||", unit=unit)) == left
    assert "|||" not in validated(caption, cutting(3, 3, keep_separator="|||", unit=unit))


def test_behind_shuffling_it_is_random_ones_that_are_left() -> None:
    plugins = ShuffleTags(), cutting(3, 3)
    found = {changed(TAGS, *plugins, epoch=epoch) for epoch in range(50)}
    assert {left.split(", ")[0] for left in found} == {"a"}
    assert {tag for left in found for tag in left.split(", ")} == set("abcdefg")
    assert {left.count(",") for left in found} == {2}


def test_a_separator_at_the_cut_goes_with_it() -> None:
    assert changed("a red cat, on a sofa", cutting(3, 3, unit="words")) == "a red cat"


def test_validation_is_not_cut() -> None:
    assert validated(TAGS, cutting(1, 1)) == TAGS


def test_a_range_that_is_upside_down_is_refused() -> None:
    with pytest.raises(ValidationError, match="low = 5 is above high = 2"):
        RandomLength.Settings(low=5, high=2)


def test_it_says_which_setting_of_items_it_reads() -> None:
    assert RandomLength.reads == ("keep_tags",)


@settings(deadline=None)
@given(
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=12),
    st.integers(1, 6),
    st.integers(0, 6),
    st.integers(0, 9),
)
def test_what_is_left_begins_the_caption_and_has_between_low_and_high(
    tags: list[str], low: int, more: int, epoch: int
) -> None:
    left = changed(", ".join(tags), cutting(low, low + more, keep=0), epoch=epoch)
    found = left.split(", ") if left else []
    assert tags[: len(found)] == found
    assert min(low, len(tags)) <= len(found) <= min(low + more, len(tags))
