"""A file beside a picture is read as it is meant, or refused with the byte, line or key that is wrong."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.sources.caption_files import SIDECARS, read_folder_file, read_sidecar
from core.sources.layers import Layer, Unusable
from tests.zoo import KEPT_CAPTIONS, REFUSED_CAPTIONS

BOMB = "a: &a {k1: 1, k2: 2}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join(['*' + before] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""Each line holds nine times what the line before it holds."""


def read(folder: Path, name: str, content: str | bytes) -> Layer:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_sidecar(str(path), path.suffix)


def refusal(folder: Path, name: str, content: str | bytes) -> str:
    with pytest.raises(Unusable) as caught:
        read(folder, name, content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# text


@pytest.mark.parametrize("ending", [".txt", ".caption"])
def test_a_text_file_is_the_prompt_without_its_byte_order_mark(tmp_path: Path, ending: str) -> None:
    assert read(tmp_path, f"a{ending}", "\ufeffred heart") == Layer(source=ending, prompt="red heart")


def test_an_empty_text_file_is_an_empty_prompt(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "").prompt == ""


@pytest.mark.parametrize("kind", KEPT_CAPTIONS)
def test_other_scripts_and_odd_text_are_kept_as_they_are(tmp_path: Path, kind: str) -> None:
    content, caption = KEPT_CAPTIONS[kind]
    prompt = read(tmp_path, "a.txt", content).prompt
    assert prompt == content.decode("utf-8-sig")
    assert prompt.startswith(caption)


@pytest.mark.parametrize("kind", REFUSED_CAPTIONS)
def test_a_text_file_that_is_no_caption_is_refused(tmp_path: Path, kind: str) -> None:
    content, said = REFUSED_CAPTIONS[kind]
    assert refusal(tmp_path, "a.txt", content).startswith(said)


def test_a_file_that_cannot_be_opened_is_refused_with_the_systems_reason(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="cannot be read: No such file or directory"):
        read_sidecar(str(tmp_path / "gone.txt"), ".txt")


# keys


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "main_prompt: a cat\ntags: [red, {tag: big, weight: 2}]\nmultiply: 2\n"),
        ("a.yml", "\ufefftext: a cat\r\ntags:\r\n- red\r\n- {tag: big, weight: 2}\r\nmultiply: 2\r\n"),
        ("a.json", '{"caption": "a cat", "tags": ["red", {"tag": "big", "weight": 2}], "multiply": 2, "author": "x"}'),
    ],
)
def test_keys_are_read_from_yaml_and_json(tmp_path: Path, name: str, content: str) -> None:
    assert read(tmp_path, name, content) == Layer(
        source=Path(name).suffix, prompt="a cat", tags=(("red", None), ("big", 2.0)), settings={"multiply": 2.0}
    )


@pytest.mark.parametrize(("name", "content"), [("a.yaml", ""), ("a.yaml", "# nothing"), ("a.json", "null")])
def test_a_file_of_no_keys_says_nothing(tmp_path: Path, name: str, content: str) -> None:
    assert read(tmp_path, name, content) == Layer()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.yaml", "a cat", 'holds a str; write keys with values, such as main_prompt: "a cat"'),
        ("a.json", "[1]", "holds a list; write keys"),
        ("a.yaml", "main_prompt: a: b", "is not YAML: mapping values are not allowed here in line 1, column 15"),
        ("a.yaml", "tags: [a", "is not YAML: expected ',' or ']', but got '<stream end>' in line 1, column 9"),
        ("a.yaml", "a: \0", "is not YAML that can be read: ReaderError"),
        ("a.yaml", "a: 2024-13-45", "is not YAML that can be read: ValueError: month must be in 1..12"),
        ("a.yaml", "a: !!python/object/apply:os.system ['true']", "is not YAML: could not determine a constructor"),
        ("a.yaml", "a: !!bool maybe", "is not YAML that can be read: KeyError"),
        ("a.yaml", "[" * 5_000, "is not YAML that can be read: RecursionError"),
        ("a.yaml", BOMB, "has a YAML alias (*name), by which a few lines can fill the memory"),
        ("a.json", '{"a": 1,}', "is not JSON: "),
        ("a.json", "[" * 100_000, "is not JSON that can be read: "),
        ("a.json", "1" * 5_000, "is not JSON that can be read: "),
        ("a.json", '{"caption": "\\ud83d"}', "caption has half of a surrogate pair at character 0"),
        ("a.json", '{"flip_p": NaN}', "flip_p is nan; allowed is a number from 0 to 1"),
        ("a.yaml", "main_prompt: no", "main_prompt is False; it must be text, so put it in quotes"),
        ("a.yaml", "cond_droput: 0.5", "'cond_droput' is not a key that is read; did you mean 'cond_dropout'?"),
        ("a.json", '{"tag": ["a"]}', "'tag' is not a key that is read; did you mean 'tags'?"),
        ("a.json", '{"MULTIPLY": 2}', "'MULTIPLY' is not a key that is read; did you mean 'multiply'?"),
        ("a.yaml", "#" * 1_000_001, "has more than 1,000,000 bytes"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    assert refusal(tmp_path, name, content).startswith(said)


def test_an_ampersand_and_an_asterisk_in_a_caption_are_no_alias(tmp_path: Path) -> None:
    assert read(tmp_path, "a.yaml", "main_prompt: salt & pepper *new*").prompt == "salt & pepper *new*"


@given(
    st.sampled_from(SIDECARS),
    st.binary(max_size=60) | st.text("!&*<:[]{}-\"'\n \0tagsmulti1.x", max_size=60).map(str.encode),
)
@settings(max_examples=300, deadline=None)
def test_no_bytes_do_anything_but_speak_or_be_refused(
    tmp_path_factory: pytest.TempPathFactory, ending: str, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz{ending}"
    path.write_bytes(content)
    layer = Layer()
    with suppress(Unusable):
        layer = read_sidecar(str(path), ending)
    assert isinstance(layer, Layer)


# files of a folder


@pytest.mark.parametrize(
    ("name", "content", "value"),
    [
        ("multiply.txt", "2.5\n", 2.5),
        ("cond_dropout.txt", "\ufeff0.25", 0.25),
        ("flip_p.txt", " 1 ", 1.0),
        ("loss_scale.txt", "0.5", 0.5),
        ("batch_id.txt", "scene 7\n", "scene 7"),
        ("shuffle_tags.txt", "whatever \0", True),
    ],
)
def test_a_file_of_a_folder_gives_one_setting(tmp_path: Path, name: str, content: str, value: object) -> None:
    (tmp_path / name).write_text(content)
    assert read_folder_file(str(tmp_path / name), name).settings == {name.removesuffix(".txt"): value}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("multiply.txt", "twice", "multiply is 'twice'; allowed is a number from 0 to 10,000"),
        ("flip_p.txt", "50%", "flip_p is '50%'; allowed is a number from 0 to 1"),
        ("batch_id.txt", " \n", "is empty; write the value of batch_id in it"),
        ("local.yaml", "multiply: [", "is not YAML"),
    ],
)
def test_a_file_of_a_folder_that_gives_none_is_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(Unusable) as caught:
        read_folder_file(str(tmp_path / name), name)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("name", ["multiply.txt", "shuffle_tags.txt"])
def test_an_ignored_setting_of_a_folder_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff")
    assert read_folder_file(str(tmp_path / name), name, {name.removesuffix(".txt")}).settings == {}
