"""The caption plugins change a caption as their settings say, draw from its place alone, and leave an empty one empty."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import Plugin
from events.bus import Bus
from events.payloads import ItemSettings, SampleContext
from events.plugin import PluginTable
from events.testing import Harness, sample_context
from plugins.captions import Affix, ChooseLine, DropCaption, DropTags, LimitCaption, ShuffleTags, Wildcards

TAGS = "a, b, c, d, e, f, g"
CHANGERS: tuple[Plugin, ...] = (
    Affix(Affix.Settings(prefix="photo of ", suffix=", film")),
    DropCaption(DropCaption.Settings(probability=0)),
    ChooseLine(),
    Wildcards(),
    ShuffleTags(ShuffleTags.Settings(keep_separator="|||")),
    DropTags(DropTags.Settings(keep_separator="|||")),
    LimitCaption(LimitCaption.Settings(max_caption_length=5)),
)
NAMES = [type(plugin).__name__ for plugin in CHANGERS]


def changed(caption: str, *plugins: Plugin, epoch: int = 0, **settings: object) -> str:
    """The settings are those of the item."""
    return Harness(*plugins).apply("sample.caption", caption, context(epoch, **settings))


def context(epoch: int = 0, **settings: object) -> SampleContext:
    return sample_context(epoch=epoch, settings=ItemSettings(**settings))  # type: ignore[arg-type]  # checked by the tests


def validated(caption: str, *plugins: Plugin, **settings: object) -> str:
    """As a sample of a validation set."""
    bus = Bus()
    tables = [
        PluginTable(use=type(plugin).__name__, name=plugin.name, position=position, settings={})
        for position, plugin in enumerate(plugins)
    ]
    bus.attach(list(zip(plugins, tables, strict=True)), where=("worker",), validation=True)
    signal = next(signal for signal in bus.signals if signal.name == "sample.caption")
    return str(signal.apply(caption, context(**settings)))  # type: ignore[attr-defined]  # it is a transform


def share_of(found: int, count: int, expected: float) -> bool:
    """Whether a count of draws is within four deviations of what is expected."""
    return abs(found / count - expected) < 4 * (expected * (1 - expected) / count) ** 0.5


@pytest.mark.parametrize("plugin", CHANGERS, ids=NAMES)
def test_an_empty_caption_stays_empty(plugin: Plugin) -> None:
    assert changed("", plugin, tag_weights={"a": 2.0}) == ""


def test_they_run_in_this_order_whatever_their_order_in_the_config() -> None:
    bus = Harness(*reversed(CHANGERS)).bus
    handlers = next(signal for signal in bus.signals if signal.name == "sample.caption").handlers
    assert [handler.label for handler in handlers] == [
        "Affix.affix", "DropCaption.drop", "ChooseLine.choose", "Wildcards.choose", "ShuffleTags.shuffle",
        "DropTags.drop", "DropTags.take_out", "ShuffleTags.take_out", "LimitCaption.cut",
    ]  # fmt: skip


def test_validation_goes_without_dropping_and_shuffling() -> None:
    plugins = (
        DropCaption(DropCaption.Settings(probability=1)),
        ShuffleTags(),
        DropTags(DropTags.Settings(probability=1, keep=0)),
    )
    assert validated(TAGS, *plugins, cond_dropout=1.0, shuffle_tags=True) == TAGS


@pytest.mark.parametrize(
    ("plugin", "reads"),
    [
        (DropCaption, {"cond_dropout"}),
        (ChooseLine, {"caption_lines"}),
        (ShuffleTags, {"shuffle_tags", "keep_tags", "tag_weights"}),
        (DropTags, {"keep_tags"}),
        (LimitCaption, {"max_caption_length"}),
    ],
)
def test_each_says_which_settings_of_items_it_reads(plugin: type[Plugin], reads: set[str]) -> None:
    assert set(plugin.reads) == reads


# Affix


def test_affix_puts_words_around() -> None:
    plugin = Affix(Affix.Settings(prefix="photo of ", suffix=", film"))
    assert changed("a cat", plugin) == "photo of a cat, film"


def test_affix_puts_words_around_every_line() -> None:
    plugin = Affix(Affix.Settings(prefix="a ", suffix="!"))
    assert changed("cat\ndog", plugin) == "a cat!\na dog!"


# DropCaption


def test_dropping_empties_the_share_it_is_set_to() -> None:
    harness = Harness(DropCaption(DropCaption.Settings(probability=0.25)))
    captions = [harness.apply("sample.caption", "a", sample_context(sample_id=f"{number}")) for number in range(2000)]
    assert share_of(captions.count(""), 2000, 0.25)


@pytest.mark.parametrize(("probability", "own", "left"), [(1, 0.0, "a"), (0, 1.0, ""), (1, None, "")])
def test_an_items_own_dropout_wins(probability: float, own: float | None, left: str) -> None:
    assert changed("a", DropCaption(DropCaption.Settings(probability=probability)), cond_dropout=own) == left


def test_a_dropped_caption_stays_dropped() -> None:
    always = DropCaption(DropCaption.Settings(probability=1))
    assert changed(TAGS, always, *(plugin for plugin in CHANGERS if not isinstance(plugin, DropCaption))) == ""


# ChooseLine


def test_each_line_is_chosen_equally_often() -> None:
    harness = Harness(ChooseLine())
    chosen = [harness.apply("sample.caption", "a\nb\nc", sample_context(epoch=epoch)) for epoch in range(1500)]
    assert set(chosen) == {"a", "b", "c"}
    assert all(share_of(chosen.count(line), 1500, 1 / 3) for line in "abc")


def test_a_single_line_is_left_alone_and_empty_ones_are_not_chosen() -> None:
    assert changed("one, two", ChooseLine()) == "one, two"
    assert {changed("a\n\n", ChooseLine(), epoch=epoch) for epoch in range(20)} == {"a"}


# Wildcards


def test_each_alternative_is_chosen_and_the_rest_stays() -> None:
    found = {changed("a {red|blue} cat on {a|the} mat", Wildcards(), epoch=epoch) for epoch in range(60)}
    assert found == {f"a {colour} cat on {article} mat" for colour in ("red", "blue") for article in ("a", "the")}


def test_alternatives_may_hold_alternatives() -> None:
    found = {changed("{a {small|large} dog|a cat}", Wildcards(), epoch=epoch) for epoch in range(60)}
    assert found == {"a small dog", "a large dog", "a cat"}


def test_an_alternative_may_be_empty() -> None:
    assert {changed("cat{, film|}", Wildcards(), epoch=epoch) for epoch in range(30)} == {"cat, film", "cat"}


@pytest.mark.parametrize("caption", ["{a}", "a } b", "{a|b", "a|b", "{", "{}", "{{a}}", "} {x} {"])
def test_braces_that_hold_no_alternatives_stay(caption: str) -> None:
    assert changed(caption, Wildcards()) == caption


def test_literal_braces_may_stand_in_an_alternative() -> None:
    assert {changed("{{a}|b}", Wildcards(), epoch=epoch) for epoch in range(30)} == {"{a}", "b"}


def test_very_deep_nesting_is_survived() -> None:
    assert changed("{" * 20_000 + "a" + "|b}" * 20_000, Wildcards()).strip("ab") == ""


@given(st.text("ab{|}", max_size=30), st.integers(0, 5))
def test_what_is_left_has_no_group_with_alternatives(caption: str, epoch: int) -> None:
    left = changed(caption, Wildcards(), epoch=epoch)
    assert re.search(r"\{[^{}]*\|[^{}]*\}", left) is None
    assert len(left) <= len(caption)


# ShuffleTags


def test_shuffling_keeps_the_first_tags_and_loses_none() -> None:
    tags = changed(TAGS, ShuffleTags(ShuffleTags.Settings(keep=2))).split(", ")
    assert tags[:2] == ["a", "b"]
    assert tags != TAGS.split(", ")
    assert sorted(tags) == TAGS.split(", ")


def test_an_items_keep_tags_wins() -> None:
    plugin = ShuffleTags(ShuffleTags.Settings(keep=6))
    orders = [changed(TAGS, plugin, epoch=epoch, keep_tags=0).split(", ") for epoch in range(10)]
    assert {order[0] for order in orders} != {"a"}
    assert changed(TAGS, ShuffleTags(), keep_tags=6) == TAGS


def test_shuffling_repeats_at_the_same_place_and_differs_at_another() -> None:
    assert changed(TAGS, ShuffleTags(), epoch=1) == changed(TAGS, ShuffleTags(), epoch=1)
    assert len({changed(TAGS, ShuffleTags(), epoch=epoch) for epoch in range(10)}) > 5


def test_shuffling_does_not_depend_on_other_plugins() -> None:
    never = DropCaption(DropCaption.Settings(probability=0))
    assert changed(TAGS, never, ShuffleTags()) == changed(TAGS, ShuffleTags())


@pytest.mark.parametrize(
    ("always", "own", "moves"), [(True, None, True), (True, False, False), (False, True, True), (False, None, False)]
)
def test_an_item_says_whether_its_tags_are_shuffled(always: bool, own: bool | None, moves: bool) -> None:
    plugin = ShuffleTags(ShuffleTags.Settings(always=always))
    found = {changed(TAGS, plugin, epoch=epoch, shuffle_tags=own) for epoch in range(5)}
    assert (found != {TAGS}) is moves


def test_tags_before_the_keep_separator_stay_and_it_is_taken_out() -> None:
    plugin = ShuffleTags(ShuffleTags.Settings(keep=0, keep_separator="|||"))
    found = [changed("a, b ||| c, d, e", plugin, epoch=epoch).split(", ") for epoch in range(10)]
    assert all(tags[:2] == ["a", "b"] and sorted(tags[2:]) == ["c", "d", "e"] for tags in found)
    assert len({tuple(tags) for tags in found}) > 1


@pytest.mark.parametrize("own", [None, False])
def test_the_keep_separator_is_taken_out_in_validation_and_of_items_that_are_not_shuffled(own: bool | None) -> None:
    plugin = ShuffleTags(ShuffleTags.Settings(keep_separator="|||", always=False))
    assert validated("a, b ||| c, d", plugin, shuffle_tags=own) == "a, b, c, d"
    assert changed("a, b ||| c, d", plugin, shuffle_tags=own) == "a, b, c, d"


def test_heavier_tags_come_first_in_proportion_to_their_weight() -> None:
    plugin = Harness(ShuffleTags(ShuffleTags.Settings(keep=0)))
    firsts = [
        plugin.apply("sample.caption", "a, b, c", context(epoch, tag_weights={"b": 6.0, "c": 3.0}))[0]
        for epoch in range(3000)
    ]
    assert share_of(firsts.count("b"), 3000, 0.6)
    assert share_of(firsts.count("c"), 3000, 0.3)


def test_tags_of_no_weight_come_last() -> None:
    found = {changed("a, b, c", ShuffleTags(), epoch=e, keep_tags=0, tag_weights={"a": 0.0}) for e in range(20)}
    assert {order[-1] for order in found} == {"a"}


def test_only_commas_leave_nothing() -> None:
    assert changed(", ,, ,", ShuffleTags()) == ""


# DropTags


def test_each_tag_is_left_out_in_its_share_and_the_first_stay() -> None:
    harness = Harness(DropTags(DropTags.Settings(probability=0.3, keep=1)))
    left = [harness.apply("sample.caption", TAGS, sample_context(epoch=epoch)).split(", ") for epoch in range(1000)]
    assert all(tags[0] == "a" and tags == sorted(tags) for tags in left)
    assert all(share_of(sum(tag in tags for tags in left), 1000, 0.7) for tag in "bcdefg")


def test_protected_tags_are_never_left_out() -> None:
    plugin = DropTags(DropTags.Settings(probability=1, keep=0, protected=("c", "e")))
    assert changed(TAGS, plugin) == "c, e"


def test_dropping_keeps_what_the_item_keeps() -> None:
    assert changed(TAGS, DropTags(DropTags.Settings(probability=1)), keep_tags=3) == "a, b, c"


def test_dropping_keeps_what_stands_before_the_separator_also_behind_shuffling() -> None:
    shuffle = ShuffleTags(ShuffleTags.Settings(keep_separator="|||"))
    drop = DropTags(DropTags.Settings(probability=1, keep=0, keep_separator="|||"))
    assert changed("a, b ||| c, d, e", shuffle, drop) == "a, b"


# LimitCaption


@pytest.mark.parametrize(
    ("caption", "limit", "left"),
    [
        ("a red cat", 9, "a red cat"),
        ("a red cat", 8, "a red"),
        ("a red cat", 5, "a red"),
        ("one tag, two tag, three", 20, "one tag, two tag"),
        ("one tag, two tag, three", 16, "one tag, two tag"),
        ("one tag, two tag, three", 15, "one tag"),
        ("A cat, which sits on a very long sofa", 30, "A cat, which sits on a very"),
        ("unbreakable", 4, "unbr"),
        (",,,,,", 3, ",,,"),
    ],
)
def test_a_long_caption_is_cut_at_a_tag_or_a_word(caption: str, limit: int, left: str) -> None:
    assert changed(caption, LimitCaption(LimitCaption.Settings(max_caption_length=limit))) == left


def test_an_items_own_limit_wins_and_without_any_nothing_is_cut() -> None:
    plugin = LimitCaption(LimitCaption.Settings(max_caption_length=3))
    assert changed("a red cat", plugin, max_caption_length=6) == "a red"
    assert changed("a red cat", LimitCaption()) == "a red cat"


@given(st.text("ab, ", min_size=1, max_size=40), st.integers(1, 40))
def test_what_is_left_is_a_beginning_of_the_caption_within_the_limit(caption: str, limit: int) -> None:
    left = changed(caption, LimitCaption(), max_caption_length=limit)
    assert caption.startswith(left)
    assert len(left) <= limit


def test_a_smaller_limit_leaves_less() -> None:
    left = [changed(TAGS, LimitCaption(), max_caption_length=limit) for limit in range(1, 25)]
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(left))
