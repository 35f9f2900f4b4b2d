"""Lists of words replace, leave out and add what they say, whole words only, and a file of them is read or refused."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from events import Plugin
from events.testing import Harness, sample_context
from plugins.caption_words import AddWords, RemoveWords, ReplaceWords
from tests.plugins.test_captions import changed, share_of, validated
from tests.small_runs import Run

Write = Callable[[str], Path]
FILED: tuple[tuple[type[Plugin], str], ...] = ((ReplaceWords, "a => b"), (RemoveWords, "a"), (AddWords, "a"))


def replacing(words: dict[str, str], *, ignore_case: bool = True) -> ReplaceWords:
    return ReplaceWords(ReplaceWords.Settings(words=words, ignore_case=ignore_case))


def removing(*words: str, **settings: object) -> RemoveWords:
    return RemoveWords(RemoveWords.Settings(words=words, **settings))  # type: ignore[arg-type]  # checked by the tests


def adding(*words: str, **settings: object) -> AddWords:
    return AddWords(AddWords.Settings(words=words, **settings))  # type: ignore[arg-type]  # checked by the tests


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a words file."""

    def write(text: str) -> Path:
        path = tmp_path / "words.txt"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("plugin", [replacing({"a": "b"}), removing("a"), adding("a")], ids=lambda one: one.name)
def test_an_empty_caption_stays_empty(plugin: Plugin) -> None:
    assert changed("", plugin) == ""


# ReplaceWords


@pytest.mark.parametrize(
    ("caption", "words", "left"),
    [
        ("a grey cat, grey sky", {"grey": "gray"}, "a gray cat, gray sky"),
        ("a Grey cat", {"grey": "gray"}, "a gray cat"),
        ("greyhound and greyish", {"grey": "gray"}, "greyhound and greyish"),
        ("the cat's tail, cat-like", {"cat": "dog"}, "the dog's tail, dog-like"),
        ("red fox, red", {"red": "blue", "red fox": "vixen"}, "vixen, blue"),
        ("red  \t fox", {"red fox": "vixen"}, "vixen"),
        ("red\nfox", {"red fox": "vixen"}, "red\nfox"),
        ("cat and dog", {"cat": "dog", "dog": "cat"}, "dog and cat"),
        ("c++ (c)", {"c++": "rust", "(c)": "by"}, "rust by"),
        ("über, größe", {"über": "over", "GRÖSSE": "size", "größe": "size"}, "over, size"),
        ("a cat", {"cat": r"\1 \g<0>"}, r"a \1 \g<0>"),
        ("ſ and s", {"s": "t"}, "t and t"),
    ],
)
def test_whole_words_and_phrases_are_replaced_the_longest_first(caption: str, words: dict[str, str], left: str) -> None:
    assert changed(caption, replacing(words)) == left


def test_case_counts_where_it_is_to() -> None:
    plugin = replacing({"us": "America", "Us": "both"}, ignore_case=False)
    assert changed("us, Us, US", plugin) == "America, both, US"


def test_words_of_a_file_are_replaced_too_and_settings_win(write: Write) -> None:
    path = write("\ufeff# colours\n\ngrey => gray\n lorry  =>  big truck \n")
    plugin = ReplaceWords(ReplaceWords.Settings(words={"Grey": "silver"}, file=path))
    assert changed("a grey lorry", plugin) == "a silver big truck"


def test_many_words_are_one_pass() -> None:
    words = {f"word{number}": f"other{number}" for number in range(3000)}
    assert changed("word7, word2999, word3000", replacing(words)) == "other7, other2999, word3000"


def test_validation_has_the_same_words() -> None:
    assert validated("a grey cat", replacing({"grey": "gray"})) == "a gray cat"
    assert validated("a grey cat", removing("grey")) == "a cat"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grey => gray\nlorry truck\n", "line 2: 'lorry truck' is not of the form old => new"),
        ("a => b => c", "line 1: 'a => b => c' is not of the form"),
        ("# x\n\n => b", "line 3: '=> b' is not of the form"),
        ("a =>", "line 1: nothing stands behind =>; RemoveWords leaves words out"),
        ("grey => gray\nb => c\nGrey => silver", "line 3: 'Grey' is there already, in line 1"),
        ("# nothing\n", "nothing is to be replaced; give words or a file"),
    ],
)
def test_a_file_with_a_line_that_says_nothing_is_refused_with_the_line(write: Write, text: str, said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)) as caught:
        ReplaceWords.Settings(file=write(text))
    assert "words.txt" in str(caught.value) or "give words" in said


@pytest.mark.parametrize("words", [{}, {" ": "a"}, {"a": ""}])
def test_settings_that_replace_nothing_are_refused(words: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"nothing is to be replaced|are both needed"):
        ReplaceWords.Settings(words=words)


WORDS = st.lists(st.text("abc", min_size=1, max_size=3), max_size=8)


@settings(deadline=None)
@given(
    WORDS, st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text("ABC", min_size=1, max_size=3), min_size=1)
)
def test_each_word_becomes_what_the_table_says_and_no_other_changes(caption: list[str], words: dict[str, str]) -> None:
    left = changed(" ".join(caption), replacing(words, ignore_case=False))
    assert left == " ".join(words.get(word, word) for word in caption)


# RemoveWords


@pytest.mark.parametrize(
    ("caption", "words", "left"),
    [
        ("a very old cat", ["very"], "a old cat"),
        ("watermark, a cat, signature", ["watermark", "signature"], "a cat"),
        ("a cat, Watermark , sofa", ["watermark"], "a cat, sofa"),
        ("a cat sits here.", ["here"], "a cat sits."),
        ("at 3.5 mm or so", ["so"], "at 3.5 mm or"),
        ("waterproof", ["water"], "waterproof"),
        ("the best quality photo", ["best", "best quality"], "the photo"),
        ("cat", ["cat"], ""),
        ("one\ntwo cat\nthree", ["cat"], "one\ntwo\nthree"),
        ("a , b,,c", ["z"], "a , b,,c"),
    ],
)
def test_words_are_left_out_and_the_rest_closed_up(caption: str, words: list[str], left: str) -> None:
    assert changed(caption, removing(*words)) == left


@pytest.mark.parametrize(
    ("caption", "left"), [("cat, black cat, CAT , sofa", "black cat, sofa"), ("black cat,sofa", "black cat,sofa")]
)
def test_whole_tags_are_left_out_and_what_only_holds_the_word_stays(caption: str, left: str) -> None:
    assert changed(caption, removing("cat", what="tags")) == left


def test_case_can_count_for_what_is_left_out() -> None:
    assert changed("US, us", removing("US", ignore_case=False)) == "us"


@settings(deadline=None)
@given(WORDS, WORDS.filter(bool))
def test_no_word_that_is_left_out_is_there_and_all_others_are(caption: list[str], words: list[str]) -> None:
    left = changed(" ".join(caption), removing(*words))
    assert left.split() == [word for word in caption if word not in words]


# AddWords


@pytest.mark.parametrize(("place", "left"), [("front", "film, a cat,  sofa"), ("back", "a cat,  sofa, film")])
def test_a_word_is_added_before_or_behind_a_caption_that_stays_as_it_is(place: str, left: str) -> None:
    assert changed("a cat,  sofa", adding("film", place=place)) == left


def test_among_the_tags_each_place_is_as_likely() -> None:
    harness = Harness(adding("x", place="among"))
    found = [harness.apply("sample.caption", "a, b, c", sample_context(epoch=epoch)) for epoch in range(2000)]
    assert all(re.sub("x, |, x", "", caption) == "a, b, c" for caption in found)
    places = [caption.split(", ").index("x") for caption in found]
    assert all(share_of(places.count(place), 2000, 0.25) for place in range(4))


def test_as_many_different_words_are_added_as_are_to_be() -> None:
    words = ("x", "y", "z")
    found = {tuple(changed("a", adding(*words, count=2), epoch=epoch).split(", ")) for epoch in range(200)}
    assert found == {("a", one, other) for one in words for other in words if one != other}


def test_words_are_added_to_the_share_of_captions_that_is_set() -> None:
    harness = Harness(adding("x", probability=0.25))
    found = [harness.apply("sample.caption", "a", sample_context(sample_id=f"{number}")) for number in range(2000)]
    assert share_of(found.count("a, x"), 2000, 0.25)
    assert set(found) == {"a", "a, x"}


def test_a_tag_that_is_there_is_not_added_again() -> None:
    assert {changed("a cat, Film", adding("film", "night"), epoch=epoch) for epoch in range(20)} == {
        "a cat, Film, night"
    }
    assert changed("film, a", adding("film")) == "film, a"


def test_validation_goes_without_added_words() -> None:
    assert validated("a", adding("x")) == "a"


def test_what_is_drawn_follows_from_the_place_alone() -> None:
    plugin = adding(*"abcdefgh", place="among", count=3)
    assert changed("1, 2, 3", plugin, epoch=4) == changed("1, 2, 3", plugin, epoch=4)
    assert len({changed("1, 2, 3", plugin, epoch=epoch) for epoch in range(10)}) > 5


def test_more_words_than_there_are_cannot_be_added() -> None:
    with pytest.raises(ValidationError, match="count = 3, but words and file have 2 to draw from"):
        AddWords.Settings(words=("a", "b", "a"), count=3)


# files


@pytest.mark.parametrize(("kind", "line"), FILED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_file_that_is_not_there_is_refused_at_the_door(kind: type[Plugin], line: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"missing\.txt does not exist"):
        kind.Settings.model_validate({"file": tmp_path / "missing.txt"})


@pytest.mark.parametrize(("kind", "line"), FILED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_file_is_read_when_the_plugin_is_made_and_not_again(kind: type[Plugin], line: str, write: Write) -> None:
    path = write(line)
    plugin = kind(kind.Settings.model_validate({"file": path}))
    before = changed("a, x", plugin)
    path.unlink()
    assert changed("a, x", plugin) == before


def test_a_file_that_is_edited_while_a_run_goes_on_changes_nothing_in_it(
    train: Callable[..., Run], write: Write
) -> None:
    """Also for the samples of a validation, which begins after that."""
    path = write("a => the")
    plugins = f"""
[[plugins]]
use = "plugins.caption_words.ReplaceWords"
file = "{path}"
[[plugins]]
use = "tests.core.plugins_for_tests.BreakFile"
path = "{path}"
step = 1
"""
    run = train("train.steps=2", "validation.fraction=0.3", "validation.at_start=false", plugins=plugins)
    assert run.exit_code == 0
    assert path.read_text() == "[[prompts"


def test_lines_of_a_file_join_the_words_of_the_settings(write: Write) -> None:
    path = write("# what else\nfilm\n night sky \nfilm\n")
    assert AddWords.Settings(words=("film", "x"), file=path).all_words() == ("film", "x", "night sky")
    assert changed("a film, night sky", RemoveWords(RemoveWords.Settings(file=path))) == "a"


@pytest.mark.parametrize("kind", [RemoveWords, AddWords])
def test_lists_without_a_word_are_refused(kind: type[RemoveWords | AddWords], write: Write) -> None:
    with pytest.raises(ValidationError, match=r"give words or a file|have 0 to draw from"):
        kind.Settings(file=write("# nothing\n"))
    with pytest.raises(ValidationError, match="an empty one is no word"):
        kind.Settings(words=("a", " "))
