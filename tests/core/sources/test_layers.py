"""What files say about a picture adds up by a fixed precedence, which a second, simpler account confirms."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config.tables import DataTable
from core.sources.find import find
from core.sources.found import Found, Problem
from core.sources.keys import SETTINGS, layer_of
from core.sources.layers import Layer, Unusable, caption_of, merge, settings_in_use, settings_of
from events.payloads import ItemSettings

LEVELS = (
    "set/global.yaml", "set/in/global.yaml", "set/in/multiply.txt", "set/in/local.yaml", "set/in/a.txt",
    "set/in/a.caption", "set/in/a.yml", "set/in/a.yaml", "set/in/a.json", "set/metadata.csv", "set/metadata.jsonl",
    "set/in/metadata.csv", "set/in/metadata.jsonl",
)  # fmt: skip
"""Every file that can say something about `set/in/a.png`, the most specific last."""
TEXTS = (".txt", ".caption")


def says(place: str) -> st.SearchStrategy[dict[str, Any]]:
    """What the file at a level may say."""
    if place.endswith("multiply.txt"):
        return st.fixed_dictionaries({"multiply": st.integers(0, 9)})
    prompt = st.text("xyz", max_size=3)
    if place.endswith(TEXTS):
        return st.fixed_dictionaries({"main_prompt": prompt})
    numbers = {"multiply": st.integers(0, 9), "cond_dropout": st.sampled_from([0.0, 0.25, 1.0])}
    if place.endswith(".csv"):
        tags: st.SearchStrategy[Any] = st.lists(st.sampled_from("tuvw"), max_size=3).map(", ".join)
        return st.fixed_dictionaries({"main_prompt": prompt, "tags": tags, "multiply": numbers["multiply"]})
    weighted = st.fixed_dictionaries({"tag": st.sampled_from("tuvw"), "weight": st.sampled_from([0.5, 1.0, 2.0])})
    entries = st.lists(st.sampled_from("tuvw") | weighted, max_size=4)
    return st.fixed_dictionaries({}, optional={"main_prompt": prompt, "tags": entries, **numbers})


stacks = st.fixed_dictionaries({}, optional={place: says(place) for place in LEVELS})


def write(root: Path, place: str, values: dict[str, Any]) -> None:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if place.endswith("multiply.txt"):
        path.write_text(str(values["multiply"]))
    elif place.endswith(TEXTS):
        path.write_text(values["main_prompt"])
    elif "metadata" in place:
        row = {"file_name": "a.png" if "/in/" in place else "in/a.png", **values}
        cells = [",".join(row), ",".join(f'"{value}"' for value in row.values())]
        path.write_text(json.dumps(row) if place.endswith("l") else "\n".join(cells))
    else:
        path.write_text(json.dumps(values))  # which is YAML too


def expected(stack: dict[str, dict[str, Any]]) -> tuple[str, str, float, float | None]:
    """Caption, where it comes from, multiply and cond_dropout, by the rules as the documentation says them."""
    prompt, prompt_from, tags_from = None, "", ""
    weights: dict[str, float] = {}
    multiply, dropout = 1.0, None
    for place in reversed([place for place in LEVELS if place in stack]):
        name = place.rpartition("/")[2]
        label = f".{name.partition('.')[2]}" if name.startswith("a.") else name
        values = stack[place]
        if prompt is None and "main_prompt" in values:
            prompt, prompt_from = values["main_prompt"], label
        tags = values.get("tags", [])
        for entry in tags if isinstance(tags, list) else [tag for tag in tags.split(", ") if tag]:
            tags_from = tags_from or label
            tag, weight = (entry, 1.0) if isinstance(entry, str) else (entry["tag"], entry["weight"])
            weights.setdefault(tag, weight)
    for place in LEVELS:
        multiply = stack.get(place, {}).get("multiply", multiply)
        dropout = stack.get(place, {}).get("cond_dropout", dropout)
    heavy_first = [tag for one in (2.0, 1.0, 0.5) for tag, weight in weights.items() if weight == one]
    words = [word for word in [prompt, *heavy_first] if word]
    if prompt is None and not weights:
        return "a", "file name", multiply, dropout
    return ", ".join(words), prompt_from or tags_from, multiply, dropout


@given(stacks)
@settings(deadline=None)  # it writes files
def test_any_stack_of_files_gives_what_the_rules_say(
    tmp_path_factory: pytest.TempPathFactory, stack: dict[str, dict[str, Any]]
) -> None:
    root = tmp_path_factory.mktemp("data")
    (root / "set" / "in").mkdir(parents=True)
    (root / "set" / "in" / "a.png").touch()
    for place, values in stack.items():
        write(root, place, values)
    (found,) = find(DataTable(root=root / "set"))
    assert isinstance(found, Found), str(found)
    own = found.settings
    assert (found.caption, found.caption_from, own.multiply, own.cond_dropout) == expected(stack)


@pytest.mark.parametrize("count", range(1, len(LEVELS) + 1))
def test_of_settings_the_most_specific_file_wins(tmp_path: Path, count: int) -> None:
    (tmp_path / "set" / "in").mkdir(parents=True)
    (tmp_path / "set" / "in" / "a.png").touch()
    places = [place for place in LEVELS[:count] if not place.endswith(("a.txt", "a.caption"))]
    for number, place in enumerate(places, start=1):
        write(tmp_path, place, {"multiply": number})
    (found,) = find(DataTable(root=tmp_path / "set"))
    assert found == Found(
        id="set/in/a.png", path=tmp_path / "set" / "in" / "a.png", caption="a", caption_from="file name",
        settings=ItemSettings(multiply=float(len(places))),
    )  # fmt: skip


tag_lists = st.lists(st.tuples(st.sampled_from("tuvwx"), st.none() | st.floats(0, 3)), max_size=5)
layers = st.builds(
    Layer,
    source=st.sampled_from(["one", "two", "three"]),
    prompt=st.none() | st.text("abc", max_size=2),
    tags=tag_lists.map(lambda tags: tuple(dict(reversed(tags)).items())),
    settings=st.dictionaries(st.sampled_from(["multiply", "flip_p"]), st.floats(0, 1)),
)


@given(st.lists(layers, max_size=6), st.integers(0, 6))
def test_layers_may_be_added_up_in_parts(stack: list[Layer], cut: int) -> None:
    assert merge([merge(stack[:cut]), merge(stack[cut:])]) == merge(stack)


@given(st.lists(layers, max_size=6))
def test_tags_are_a_union_by_falling_weight_and_the_most_specific_weight_counts(stack: list[Layer]) -> None:
    merged = merge(stack)
    given_weights = {tag: weight for layer in stack for tag, weight in reversed(layer.tags)}
    assert dict(merged.tags) == given_weights
    assert [tag for tag, _ in merged.tags] == list(dict.fromkeys(tag for one in reversed(stack) for tag, _ in one.tags))
    caption = caption_of(Layer(tags=merged.tags), "first")
    falling = [1.0 if given_weights[tag] is None else given_weights[tag] or 0.0 for tag in caption.split(", ") if tag]
    assert falling == sorted(falling, reverse=True)
    weighted = {tag: weight for tag, weight in given_weights.items() if weight is not None}
    assert settings_of(merged).tag_weights == weighted


def test_tags_of_equal_weight_keep_their_order() -> None:
    layer = layer_of(".yaml", {"tags": ["b", {"tag": "heavy", "weight": 2}, "a", {"tag": "light", "weight": 0.5}, "c"]})
    assert caption_of(layer, "first") == "heavy, b, a, c, light"


def test_a_tag_with_commas_is_several_and_spaces_within_it_are_one() -> None:
    layer = layer_of(".yaml", {"tags": ["red  sofa,\n cat", {"tag": "x, y", "weight": 2}]})
    assert layer.tags == (("red sofa", None), ("cat", None), ("x", 2.0), ("y", 2.0))


def test_every_setting_of_an_item_can_be_given_by_a_file() -> None:
    fields = set(ItemSettings.__dataclass_fields__)
    assert fields == {*SETTINGS, "tag_weights"}


# captions of several lines


def test_the_first_line_is_the_caption() -> None:
    assert caption_of(Layer(prompt="\r\n  one \r\ntwo\r\n"), "first") == "one"


def test_all_lines_are_kept_to_choose_from_and_each_has_the_tags() -> None:
    layer = Layer(prompt=" one\r\n\r\n two \n", tags=(("t", None),))
    assert caption_of(layer, "choose") == "one, t\ntwo, t"


@pytest.mark.parametrize("lines", ["first", "choose"])
def test_an_empty_prompt_leaves_the_tags_alone(lines: Any) -> None:
    assert caption_of(Layer(prompt=" \n ", tags=(("t", None), ("u", None))), lines) == "t, u"
    assert caption_of(Layer(prompt=""), lines) == ""


def test_tags_on_many_lines_that_make_a_caption_too_long_are_refused() -> None:
    layer = Layer(prompt="x\n" * 2_000, tags=(("t" * 600, None),))
    assert len(caption_of(layer, "first")) == 603
    with pytest.raises(Unusable, match="at most 1,000,000 are read"):
        caption_of(layer, "choose")


# wrong values


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cond_dropout", 1.5, "cond_dropout is 1.5; allowed is a number from 0 to 1"),
        ("cond_dropout", float("nan"), "cond_dropout is nan; allowed is a number from 0 to 1"),
        ("multiply", -1, "multiply is -1; allowed is a number from 0 to 10,000"),
        ("multiply", True, "multiply is True; allowed is"),
        ("loss_scale", float("inf"), "loss_scale is inf; allowed is a number from 0"),
        ("flip_p", [0.5], "flip_p is [0.5]; allowed is"),
        ("keep_tags", 1.5, "keep_tags is 1.5; allowed is a whole number from 0"),
        ("max_caption_length", 0, "max_caption_length is 0; allowed is a whole number from 1"),
        ("shuffle_tags", "perhaps", "shuffle_tags is 'perhaps'; allowed is true or false"),
        ("batch_id", ["a"], "batch_id is ['a']; allowed is a name"),
        ("rating", "s", "rating is 's'; allowed is a number"),
        ("no_upscale", 2, "no_upscale is 2; allowed is true or false"),
        ("caption", 7, "caption is 7; it must be text, so put it in quotes"),
        ("text", "a\0b", "text has a NUL character at character 1"),
        ("prompt", "a\ud83d", "prompt has half of a surrogate pair at character 1"),
        ("main_prompt", "x" * 1_000_001, "main_prompt has 1,000,001 characters; at most 1,000,000 are read"),
        ("tags", ["a", 1980], "tags: tag 2 is 1980; it must be text, so put it in quotes"),
        ("tags", [{"tag": "a", "weight": -1}], "tags: the weight of tag 1 is -1; allowed is a number from 0 to 1,000"),
        ("tags", [{"wieght": 1}], "tags: tag 1 is None; it must be text"),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(key: str, value: object, said: str) -> None:
    with pytest.raises(Unusable) as caught:
        layer_of(".yaml", {key: value})
    assert str(caught.value).startswith(said)


def test_a_number_of_more_digits_than_can_be_written_is_told() -> None:
    with pytest.raises(Unusable, match="multiply is too large a number; allowed is"):
        layer_of(".yaml", {"multiply": 10**5000})


def test_all_wrong_values_of_a_file_are_told_together() -> None:
    with pytest.raises(Unusable, match=r"multiply is -1.*, and flip_p is 2.*, and caption is 5"):
        layer_of(".yaml", {"flip_p": 2, "caption": 5, "multiply": -1})


def test_numbers_and_flags_may_be_written_as_text() -> None:
    layer = layer_of(
        "list.csv", {"multiply": " 2.5 ", "shuffle_tags": "Yes", "keep_tags": "3", "batch_id": 7, "rating": ""}
    )
    assert layer.settings == {"multiply": 2.5, "shuffle_tags": True, "keep_tags": 3, "batch_id": "7"}


def test_what_is_ignored_is_not_even_looked_at() -> None:
    values = {"rating": "explicit", "multiply": 2, "tags": [{"tag": "a", "weight": 3}]}
    layer = layer_of(".json", values, {"rating", "tag_weights"})
    assert (layer.settings, layer.tags) == ({"multiply": 2.0}, (("a", None),))


# what an item asks of plugins


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({}, set()),
        ({"multiply": 2, "loss_scale": 2, "flip_p": 1, "batch_id": "x", "rating": 1, "no_upscale": True}, set()),
        ({"cond_dropout": 0.0, "shuffle_tags": False, "keep_tags": 2}, set()),
        ({"cond_dropout": 0.1}, {"cond_dropout"}),
        ({"shuffle_tags": True}, {"shuffle_tags"}),
        ({"shuffle_tags": True, "keep_tags": 2}, {"shuffle_tags", "keep_tags"}),
        ({"max_caption_length": 8}, set()),
        ({"max_caption_length": 7}, {"max_caption_length"}),
    ],
)
def test_an_item_asks_for_what_would_have_an_effect(values: dict[str, Any], asked: set[str]) -> None:
    item = Found(id="a", path=Path("a"), caption="a cat on", caption_from=".txt", settings=ItemSettings(**values))
    assert settings_in_use(item) == asked


def test_several_lines_and_a_mask_are_asked_for_too() -> None:
    item = Found(id="a", path=Path("a"), caption="a\nb", caption_from=".txt", mask="alpha")
    assert settings_in_use(item) == {"caption_lines", "mask"}
    assert settings_in_use(Found(id="a", path=Path("a"), caption="a", caption_from=".txt")) == set()


def test_a_problem_says_the_file_first(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "a.yaml").write_text("cond_dropout: 1.5")
    (problem,) = find(DataTable(root=tmp_path))
    assert isinstance(problem, Problem)
    assert str(problem) == (f"{tmp_path / 'a.png'}: a.yaml: cond_dropout is 1.5; allowed is a number from 0 to 1")
