"""A list of pictures is read in three forms, each row by itself; a list that breaks off is refused as a whole."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.sources.layers import Layer, Unusable
from core.sources.manifests import Table, read_table

ROWS = [{"image": "a.png", "caption": "a cat", "multiply": 2}, {"image": "in/b.png", "tags": "red, big"}]
CAT = Layer(prompt="a cat", settings={"multiply": 2.0})
TAGGED = Layer(tags=(("red", None), ("big", None)))


def read(folder: Path, name: str, content: str | bytes) -> Table:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(str(path))


@pytest.mark.parametrize(
    ("name", "content", "numbers"),
    [
        ("list.json", json.dumps(ROWS), (1, 2)),
        ("list.json", json.dumps({row["image"]: row for row in ROWS}), (1, 2)),
        ("list.jsonl", "\ufeff\n" + "\n\n".join(map(json.dumps, ROWS)), (2, 4)),
        ("list.csv", '\ufeffimage, caption, multiply, tags\r\na.png, a cat, 2\r\nin/b.png,,,"red, big"\r\n', (2, 3)),
    ],
)
def test_each_form_gives_the_same_rows(tmp_path: Path, name: str, content: str, numbers: tuple[int, int]) -> None:
    table = read(tmp_path, name, content)
    said = [
        (row.number, row.layer.prompt or None, row.layer.tags, dict(row.layer.settings)) for row in table.rows.values()
    ]
    assert list(table.rows) == ["a.png", "in/b.png"]
    assert said == [(numbers[0], "a cat", (), {"multiply": 2.0}), (numbers[1], None, TAGGED.tags, {})]
    assert {row.layer.source for row in table.rows.values()} == {name}
    assert table.problems == []


@pytest.mark.parametrize("key", ["image", "file_name", "path", "image_path"])
def test_the_picture_may_be_named_by_any_of_four_keys(tmp_path: Path, key: str) -> None:
    assert list(read(tmp_path, "list.json", json.dumps([{key: "a.png"}])).rows) == ["a.png"]


@pytest.mark.parametrize("key", ["caption", "text", "main_prompt", "prompt"])
def test_the_caption_may_be_named_by_any_of_four_keys(tmp_path: Path, key: str) -> None:
    table = read(tmp_path, "list.json", json.dumps([{"image": "a.png", key: "a cat"}]))
    assert table.rows["a.png"].layer.prompt == "a cat"


def test_kohyas_metadata_has_caption_and_tags_by_path(tmp_path: Path) -> None:
    table = read(
        tmp_path, "meta.json", '{"a.png": {"caption": "a cat", "tags": "red, big", "train_resolution": [64, 64]}}'
    )
    assert table.rows["a.png"].layer == Layer(source="meta.json", prompt="a cat", tags=TAGGED.tags)
    assert table.problems == []


def test_an_empty_cell_is_an_empty_caption_and_no_setting(tmp_path: Path) -> None:
    layer = read(tmp_path, "list.csv", "image,caption,multiply\na.png,,\n").rows["a.png"].layer
    assert (layer.prompt, layer.settings) == ("", {})


def test_paths_are_told_from_the_folder_of_the_list_without_detours(tmp_path: Path) -> None:
    paths = ["./in/../a.png", f"{tmp_path}/b.png", "../c.png", f"{tmp_path.parent}/d.png", f"../{tmp_path.name}/e.png"]
    table = read(tmp_path, "list.json", json.dumps([{"image": path} for path in paths]))
    assert list(table.rows) == ["a.png", "b.png", "../c.png", "../d.png", "e.png"]


def test_a_wrong_value_spoils_its_row_alone(tmp_path: Path) -> None:
    table = read(tmp_path, "list.jsonl", '{"image": "a.png", "flip_p": 2}\n{"image": "b.png", "flip_p": 1}')
    assert table.rows["a.png"].wrong == "flip_p is 2; allowed is a number from 0 to 1"
    assert (table.rows["b.png"].wrong, table.rows["b.png"].layer.settings) == ("", {"flip_p": 1.0})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("5", "entry 2 is 5; it must be an object of keys and values"),
        ("{}", "entry 2 names no picture; its path is wanted as one of image, file_name, path, image_path"),
        ('{"image": {"bytes": 1}}', "entry 2 names {'bytes': 1}; its path is wanted"),
        ('{"image": "a\\u0000.png"}', "entry 2 names 'a\\x00.png'; its path is wanted"),
        ('{"image": "./a.png"}', "entry 2 names 'a.png', as entry 1 did before"),
    ],
)
def test_a_row_that_names_no_picture_of_its_own_is_left_out_and_told(tmp_path: Path, row: str, said: str) -> None:
    table = read(tmp_path, "list.json", f'[{{"image": "a.png"}}, {row}]')
    assert list(table.rows) == ["a.png"]
    assert table.problems[0].startswith(said)


def test_a_misspelt_setting_is_told_once_and_keys_of_other_tools_are_not(tmp_path: Path) -> None:
    rows = [
        {"image": f"{number}.png", "cond_droput": 1, "caption_2": "b", "captions": [], "width": 3}
        for number in range(9)
    ]
    table = read(tmp_path, "list.json", json.dumps(rows))
    assert table.problems == ["'cond_droput' is not a key that is read; did you mean 'cond_dropout'?"]
    assert len(table.rows) == 9


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.json", "[{]", "is not JSON: "),
        ("list.json", '"a.png"', "holds 'a.png'; it must be a list of objects"),
        ("list.json", b'["\xe9"]', "is not UTF-8 (invalid continuation byte at byte 2)"),
        (
            "list.jsonl",
            '{"image": "a.png"}\n{',
            "line 2 is not JSON: Expecting property name enclosed in double quotes in column 2",
        ),
        ("list.jsonl", b'{"image": "a.png"}\n\xff', "line 2 is not UTF-8 (invalid start byte at byte 0)"),
        ("list.csv", "", "has no column image, file_name, path, image_path; its first line is ''"),
        ("list.csv", "file_name;text\na.png;a cat", "has no column image, file_name, path, image_path; its first"),
        ("list.csv", 'image,caption\na.png,"a cat', "is not CSV: unexpected end of data in line 2"),
        ("list.csv", "image,caption\na.png,a cat, big", "line 2 has more cells than the first line has names"),
        ("list.csv", f"image,caption\na.png,{'x' * 200_000}", "is not CSV: field larger than field limit"),
    ],
)
def test_a_list_that_cannot_be_read_to_its_end_is_refused(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    with pytest.raises(Unusable) as caught:
        read(tmp_path, name, content)
    assert str(caught.value).startswith(said)


def test_the_first_broken_lines_are_told_and_the_others_counted(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"line 1 .*; line 5 .*; and 3 further lines$"):
        read(tmp_path, "list.jsonl", "x\n" * 8)


@given(st.sampled_from(["fuzz.json", "fuzz.jsonl", "fuzz.csv"]), st.binary(max_size=80))
def test_no_bytes_do_anything_but_list_or_be_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    table = None
    with suppress(Unusable):
        table = read(tmp_path_factory.getbasetemp(), name, b"image,text\n" + content if name.endswith("v") else content)
    assert table is None or isinstance(table.rows, dict)
