"""Every picture of the sources is found once, in order, with its caption and settings; all else is told by name."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config.tables import DataTable
from core.errors import DataError
from core.pictures.images import EXTENSIONS
from core.sources.find import find, names_of
from core.sources.found import Found, Problem
from events.payloads import ItemSettings
from tests.zoo import NAMES


def put(folder: Path, *names: str, **texts: str) -> Path:
    """Empty files by path, and text files with `__` for the dot of their names. Pictures are never opened here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def look(root: Path, **data: Any) -> tuple[list[Found], list[Problem]]:
    told = list(find(DataTable(root=root, **data)))
    return [one for one in told if isinstance(one, Found)], [one for one in told if isinstance(one, Problem)]


def pictures(root: Path, **data: Any) -> list[Found]:
    """Where there is no problem."""
    found, problems = look(root, **data)
    assert problems == []
    return found


def ids(root: Path, **data: Any) -> list[str]:
    return [found.id for found in pictures(root, **data)]


def captions(root: Path, **data: Any) -> dict[str, tuple[str, str]]:
    """By path from the root: the caption and what gave it."""
    return {found.id.partition("/")[2]: (found.caption, found.caption_from) for found in pictures(root, **data)}


# folders


def test_pictures_are_found_at_any_depth_in_the_order_of_their_paths(tmp_path: Path) -> None:
    root = put(tmp_path / "set", "b/2.png", "a.png", "b/1.png", "a-b.png", "a/x.png", "a0.png", "b.png", "notes.md")
    assert ids(root) == [
        "set/a-b.png", "set/a.png", "set/a/x.png", "set/a0.png", "set/b.png", "set/b/1.png", "set/b/2.png",
    ]  # fmt: skip


paths = st.lists(st.sampled_from(["a", "b", "a-", "a.", "A", "é"]), min_size=1, max_size=3).map("/".join)


@given(st.sets(paths, min_size=1, max_size=12))
@settings(deadline=None, max_examples=50)
def test_any_tree_is_told_in_the_order_of_whole_paths(
    tmp_path_factory: pytest.TempPathFactory, places: set[str]
) -> None:
    root = put(tmp_path_factory.mktemp("tree") / "set", *(f"{place}.png" for place in places))
    assert ids(root) == sorted(f"set/{place}.png" for place in places)


def test_names_that_begin_with_a_dot_are_skipped(tmp_path: Path) -> None:
    assert ids(put(tmp_path / "set", "a.png", ".hidden.png", ".dir/x.png", "b/._1.png", "b/1.png", ".png")) == [
        "set/a.png", "set/b/1.png",
    ]  # fmt: skip


def test_every_format_is_found_by_its_extension_in_either_case(tmp_path: Path) -> None:
    names = {f"{number}{ending}" for number, ending in enumerate(EXTENSIONS)} | {"X.PNG", "y.JpG"}
    assert {found.path.name for found in pictures(put(tmp_path, *names, "a.heic", "b.txt", "png"))} == names


def test_odd_names_are_distinct(tmp_path: Path) -> None:
    put(tmp_path / "set", *NAMES, x__txt="shared")
    found = {one.id: one.caption for one in pictures(tmp_path / "set")}
    assert set(found) == {f"set/{name}" for name in NAMES}
    assert [found[f"set/{name}"] for name in ("x.jpg", "x.png", "X.png")] == ["shared", "shared", "X"]


def test_a_name_with_a_line_break_is_a_caption_of_one_line(tmp_path: Path) -> None:
    assert captions(put(tmp_path, "a\nb_1.png"), caption_lines="choose") == {"a\nb_1.png": ("a b", "file name")}


def test_a_name_that_is_not_utf8_is_found_and_its_caption_can_be_written(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/gr\xfc\xdf_1.png", "wb"):
        pass
    (found,) = pictures(tmp_path)
    assert found.caption == "gr\ufffd\ufffd"
    assert os.fsencode(found.path.name) == b"gr\xfc\xdf_1.png"
    assert found.path.exists()


def test_folders_named_like_files_are_walked(tmp_path: Path) -> None:
    root = put(tmp_path / "set", "x.png/a.png", "a.png", "a.txt/b.png", "local.yaml/c.png")
    assert ids(root) == ["set/a.png", "set/a.txt/b.png", "set/local.yaml/c.png", "set/x.png/a.png"]


def test_what_is_no_regular_file_is_never_opened_but_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "good.png", "taken.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "taken.txt")
    os.mkfifo(tmp_path / "other")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("plug.png")
    found, problems = look(tmp_path)
    assert [one.path.name for one in found] == ["good.png"]
    assert {problem.path.name: problem.reason for problem in problems} == {
        "gone": "is a link that leads nowhere, not a file",
        "gone.png": "is a link that leads nowhere, not a file",
        "pipe.png": "is a FIFO, not a file",
        "plug.png": "is a socket, not a file",
        "self": "is a link that leads nowhere, not a file",
        "taken.png": "taken.txt: is a FIFO, not a file",
    }


def test_a_path_too_long_to_be_listed_is_told_and_the_rest_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.png", "z.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(17):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    monkeypatch.chdir(tmp_path)
    found, problems = look(tmp_path)
    assert [one.path.name for one in found] == ["a.png", "z.png"]
    assert [problem.reason for problem in problems] == ["cannot be listed: File name too long"]


# links


def test_a_link_to_a_picture_is_a_picture_of_its_own(tmp_path: Path) -> None:
    put(tmp_path / "set", "a.png")
    (tmp_path / "set" / "b.png").symlink_to("a.png")
    assert ids(tmp_path / "set") == ["set/a.png", "set/b.png"]


def test_links_in_a_circle_upwards_and_to_what_is_walked_anyway_are_not_followed(tmp_path: Path) -> None:
    root = put(tmp_path / "above" / "set", "in/a.png")
    (root / "in" / "circle").symlink_to(root / "in")
    (root / "to_root").symlink_to(".")
    (root / "in" / "up").symlink_to(tmp_path)
    (root / "earlier").symlink_to("in")
    (root / "in" / "hidden").symlink_to("..")
    found, problems = look(root)
    assert [one.id for one in found] == ["set/in/a.png"]
    told = {problem.path.name: problem.reason for problem in problems}
    assert told.keys() == {"circle", "to_root", "up", "hidden"}  # nothing is lost with `earlier`
    assert all("would lead in a circle" in reason for reason in told.values())
    assert [one.id for one in look(root, follow_links=True)[0]] == ["set/in/a.png"]


def test_a_folder_elsewhere_is_followed_where_the_config_says_so_once_with_its_own_links(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", "deep/a.png")
    (elsewhere / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    root = put(tmp_path / "set", "b.png")
    (root / "one").symlink_to(elsewhere)
    (root / "two").symlink_to(elsewhere)
    found, problems = look(root, follow_links=True)
    assert [one.id for one in found] == ["set/b.png", "set/one/deep/a.png"]
    assert [problem.path.name for problem in problems] == ["back"]


def test_links_out_of_the_root_are_told_and_neither_walked_nor_read(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "set-elsewhere", "a.png", "deep/b.png", notes__txt="secret")
    root = put(tmp_path / "set", "b.png", "c.png")
    for name, target in (("linked", "."), ("z.png", "a.png"), ("b.txt", "notes.txt"), (".h.png", "a.png")):
        (root / name).symlink_to(elsewhere / target)
    (root / "readme.md").symlink_to(elsewhere / "notes.txt")  # never read, wherever it leads
    found, problems = look(root)
    assert [one.id for one in found] == ["set/c.png"]
    assert {problem.path.name for problem in problems} == {"linked", "z.png", "b.png"}
    assert all("set data.follow_links = true" in problem.reason for problem in problems)
    assert str(elsewhere) in problems[0].reason
    assert ids(root, follow_links=True) == [
        "set/b.png",
        "set/c.png",
        "set/linked/a.png",
        "set/linked/deep/b.png",
        "set/z.png",
    ]
    assert captions(root, follow_links=True)["b.png"] == ("secret", ".txt")


def test_a_link_out_of_the_root_in_the_place_of_a_folders_file_stops_all(tmp_path: Path) -> None:
    put(tmp_path, global__yaml="cond_dropout: 1")
    root = put(tmp_path / "set", "a.png")
    (root / "global.yaml").symlink_to(tmp_path / "global.yaml")
    with pytest.raises(DataError, match=r"global\.yaml: is a link to .*outside the folder of the data set"):
        look(root)


def test_a_list_does_not_lead_behind_links_out_of_its_folder(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", "a.png", "b.png")
    put(tmp_path / "set", "c.png")
    (tmp_path / "set" / "linked").symlink_to(elsewhere)
    (tmp_path / "set" / "b.png").symlink_to(elsewhere / "b.png")
    rows = [{"image": name} for name in ("linked/a.png", "b.png", "c.png", "../elsewhere/a.png")]
    listed = manifest(tmp_path / "set", rows)
    found, problems = look(listed)
    assert [one.id for one in found] == ["list.json/../elsewhere/a.png", "list.json/c.png"]
    assert all("set data.follow_links = true" in problem.reason for problem in problems)
    assert len(pictures(listed, follow_links=True)) == 4


def test_a_link_to_a_hidden_folder_is_followed(tmp_path: Path) -> None:
    root = put(tmp_path / "set", ".store/a.png")
    (root / "shown").symlink_to(".store")
    assert ids(root) == ["set/shown/a.png"]


def test_a_root_may_be_a_link_and_bears_the_name_of_what_it_leads_to(tmp_path: Path) -> None:
    put(tmp_path / "set", "a.png")
    (tmp_path / "link").symlink_to("set")
    assert ids(tmp_path / "link") == ["set/a.png"]


# roots


def test_the_pictures_of_several_roots_stay_apart(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        put(tmp_path / folder / "set", "a.png")
    roots = (tmp_path / "x" / "set", tmp_path / "y" / "set")
    told = list(find(DataTable(root=roots)))
    assert [one.id for one in told if isinstance(one, Found)] == ["set/a.png", "set#2/a.png"]


def test_names_are_unique_even_when_one_looks_like_a_number_of_another() -> None:
    names = names_of([Path("/set#2"), Path("/x/set"), Path("/y/set"), Path("/")])
    assert names == ["set#2", "set", "set#3", "root"]


def test_other_roots_can_be_looked_at_under_given_names(tmp_path: Path) -> None:
    put(tmp_path / "held", "a.png")
    told = list(find(DataTable(root=tmp_path / "none"), roots=[tmp_path / "held"], names=["check"]))
    assert [one.id for one in told if isinstance(one, Found)] == ["check/a.png"]


def test_roots_that_cannot_be_used_are_told_together(tmp_path: Path) -> None:
    put(tmp_path, "list.txt", "empty/notes.md", "good/a.png")
    roots = tuple(tmp_path / name for name in ("gone", "list.txt", "good", "empty"))
    with pytest.raises(DataError) as caught:
        list(find(DataTable(root=roots)))
    assert str(caught.value).splitlines() == [
        "the data cannot be used:",
        f"  {tmp_path}/gone: is not there; data.root names it",
        f"  {tmp_path}/list.txt: is neither a folder nor a .json, .jsonl or .csv file; data.root names it",
    ]


def test_a_root_without_pictures_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}: holds no picture; looked for \.avif \.bmp"):
        list(find(DataTable(root=put(tmp_path, "a.txt"))))


def test_three_thousand_files_are_found(tmp_path: Path) -> None:
    for folder in range(10):
        put(tmp_path / f"{folder}", *(f"{number:03d}.png" for number in range(150)))
        put(tmp_path / f"{folder}", **{f"{number:03d}__txt": f"{folder} {number}" for number in range(150)})
    found = pictures(tmp_path)
    assert len({one.id for one in found}) == 1_500
    assert all(one.caption == f"{one.path.parent.name} {int(one.path.stem)}" for one in found)


def test_pictures_are_told_before_all_are_found(tmp_path: Path) -> None:
    put(tmp_path / "set", "a/1.png", "b/2.png")
    stream = find(DataTable(root=tmp_path / "set"))
    first = next(stream)
    (tmp_path / "set" / "b" / "2.png").unlink()
    assert isinstance(first, Found)
    assert (first.id, list(stream)) == ("set/a/1.png", [])


# captions


def test_each_kind_of_file_captions_and_says_so(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png", "f_1.png", "deep/g.png")
    put(tmp_path, a__txt="A", b__caption="B", c__yml="text: C", d__yaml="main_prompt: D", e__json='{"tags": "E, e"}')
    assert captions(tmp_path) == {
        "a.png": ("A", ".txt"), "b.png": ("B", ".caption"), "c.png": ("C", ".yml"), "d.png": ("D", ".yaml"),
        "e.png": ("E, e", ".json"), "f_1.png": ("f", "file name"), "deep/g.png": ("g", "file name"),
    }  # fmt: skip


def test_a_caption_file_is_found_by_its_ending_in_either_case(tmp_path: Path) -> None:
    assert captions(put(tmp_path, "A.JPG", A__TXT="a cat")) == {"A.JPG": ("a cat", ".txt")}


def test_an_empty_text_file_is_an_empty_caption_and_not_the_name(tmp_path: Path) -> None:
    assert captions(put(tmp_path, "cat.png", cat__txt="")) == {"cat.png": ("", ".txt")}


def test_a_folders_prompt_and_its_subfolders(tmp_path: Path) -> None:
    put(
        tmp_path, "a.png", "in/b.png", "in/deep/c.png", global__yaml="main_prompt: all", local__yaml="main_prompt: here"
    )
    put(tmp_path / "in", global__yaml="main_prompt: inner")
    assert captions(tmp_path) == {
        "a.png": ("here", "local.yaml"), "in/b.png": ("inner", "global.yaml"), "in/deep/c.png": ("inner", "global.yaml"),
    }  # fmt: skip


def test_files_of_a_folder_are_no_captions_of_pictures_of_that_name(tmp_path: Path) -> None:
    put(tmp_path, "multiply.png", "local.png", "global.png", multiply__txt="2", local__yaml="flip_p: 1")
    assert captions(tmp_path) == {f"{name}.png": (name, "file name") for name in ("global", "local", "multiply")}


def test_settings_of_a_folder_hold_for_its_own_pictures_and_global_ones_below_too(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.png",
        "in/b.png",
        multiply__txt="3",
        shuffle_tags__txt="",
        global__yaml="{flip_p: 0.5, multiply: 2}",
    )
    a, b = (one.settings for one in pictures(tmp_path))
    assert a == ItemSettings(multiply=3.0, flip_p=0.5, shuffle_tags=True)
    assert b == ItemSettings(multiply=2.0, flip_p=0.5)


def test_captions_from_names_alone_leave_settings_as_they_are(tmp_path: Path) -> None:
    put(tmp_path, "red cat_1.png", global__yaml="{main_prompt: x, tags: [{tag: t, weight: 2}]}")
    put(tmp_path, **{"red cat_1__txt": "\0", "red cat_1__yaml": "{main_prompt: y, multiply: 2, tags: [u]}"})
    (found,) = pictures(tmp_path, captions="filename")
    assert (found.caption, found.caption_from) == ("red cat", "file name")
    assert found.settings == ItemSettings(multiply=2.0)


def test_weights_of_a_picture_are_its_own_when_only_its_tags_differ_from_its_folders(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png", multiply__txt="2", a__yaml="tags: [{tag: t, weight: 3}]")
    a, b = (one.settings for one in pictures(tmp_path))
    assert a == ItemSettings(multiply=2.0, tag_weights={"t": 3.0})
    assert b == ItemSettings(multiply=2.0)


def test_captions_of_several_lines(tmp_path: Path) -> None:
    put(tmp_path, "a.png", a__txt="one\r\n\r\n two\n", local__yaml="tags: [t]")
    assert [one.caption for one in pictures(tmp_path)] == ["one, t"]
    assert [one.caption for one in pictures(tmp_path, caption_lines="choose")] == ["one, t\ntwo, t"]


def test_ignored_settings_are_as_if_nobody_had_given_them(tmp_path: Path) -> None:
    put(tmp_path / "5_x", "a.png", cond_dropout__txt="broken", local__yaml="{rating: s, multiply: 3, flip_p: 1}")
    put(tmp_path / "5_x", a__yaml="tags: [{tag: t, weight: 2}]")
    ignored = ("cond_dropout", "rating", "multiply", "tag_weights")
    (found,) = pictures(tmp_path, layout="kohya", ignore_settings=ignored)
    assert (found.caption, found.settings) == ("t", ItemSettings(flip_p=1.0))


def test_a_picture_whose_files_are_wrong_is_set_aside_with_all_reasons(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png", a__caption="\0", a__yaml="flip_p: 2", a__txt="fine")
    (tmp_path / "a.json").write_bytes(b'{"caption": "\xff"}')
    found, problems = look(tmp_path)
    assert [one.id for one in found] == [f"{tmp_path.name}/b.png"]
    assert [problem.path.name for problem in problems] == ["a.png"]
    assert problems[0].reason == (
        "a.caption: it has a NUL character at character 0; take it out; "
        "a.yaml: flip_p is 2; allowed is a number from 0 to 1; "
        "a.json: is not UTF-8 (invalid start byte at byte 13); save it as UTF-8"
    )


def test_broken_files_of_folders_stop_all_and_are_told_together(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b/b.png", "c/c.png", "d/d.png", multiply__txt="twice")
    put(tmp_path / "b", local__yaml="cond_droput: 1", b__txt="\0")
    put(tmp_path / "c", metadata__jsonl="{")
    os.mkfifo(tmp_path / "d" / "global.yaml")
    told: list[Found | Problem] = []
    with pytest.raises(DataError) as caught:
        told.extend(find(DataTable(root=tmp_path)))
    assert told == []
    assert str(caught.value).splitlines()[1:] == [
        f"  {tmp_path}/multiply.txt: multiply is 'twice'; allowed is a number from 0 to 10,000",
        f"  {tmp_path}/b/local.yaml: 'cond_droput' is not a key that is read; did you mean 'cond_dropout'?",
        f"  {tmp_path}/c/metadata.jsonl: line 1 is not JSON: Expecting property name enclosed in double quotes in column 2",
        f"  {tmp_path}/d/global.yaml: is a FIFO, not a file",
    ]


# whole folders of other trainers


def test_a_folder_of_everydream_is_loaded_as_it_is(tmp_path: Path) -> None:
    root = put(
        tmp_path / "train", "people/bob smith_01.jpg", "people/bob_02.jpg", "style/a.webp", "style/b.webp", "c.png"
    )
    put(root, global__yaml="cond_dropout: 0.04\ntags:\n  - tag: film\n")
    put(root / "people", multiply__txt="2", bob_02__txt="bob on a bicycle, summer", batch_id__txt="people")
    put(root / "style", shuffle_tags__txt="", local__yaml="main_prompt: a painting\nmax_caption_length: 100\n")
    put(root / "style", b__yaml="main_prompt: a boat\nrating: 0.8\ntags:\n- tag: sea\n  weight: 2.0\n- tag: sky\n")
    found = {one.id: (one.caption, one.settings) for one in pictures(root)}
    people = ItemSettings(cond_dropout=0.04, multiply=2.0, batch_id="people")
    assert found == {
        "train/c.png": ("film", ItemSettings(cond_dropout=0.04)),
        "train/people/bob smith_01.jpg": ("film", people),
        "train/people/bob_02.jpg": ("bob on a bicycle, summer, film", people),
        "train/style/a.webp": (
            "a painting, film", ItemSettings(cond_dropout=0.04, shuffle_tags=True, max_caption_length=100),
        ),
        "train/style/b.webp": (
            "a boat, sea, sky, film",
            ItemSettings(
                cond_dropout=0.04, shuffle_tags=True, max_caption_length=100, rating=0.8, tag_weights={"sea": 2.0}
            ),
        ),
    }  # fmt: skip


def test_a_folder_of_kohya_is_loaded_as_it_is(tmp_path: Path) -> None:
    root = put(
        tmp_path / "train", "10_sks dog/a.png", "10_sks dog/b.png", "1_dog_old/c.png", "1_dog_old/in/d.png", "e.png"
    )
    put(root / "10_sks dog", b__caption="sks dog, running", multiply__txt="4")
    put(root / "1_dog_old", **{"c__txt": ""})
    assert captions(root, layout="kohya") == {
        "10_sks dog/a.png": ("sks dog", "folder name"), "10_sks dog/b.png": ("sks dog, running", ".caption"),
        "1_dog_old/c.png": ("", ".txt"), "1_dog_old/in/d.png": ("dog_old", "folder name"), "e.png": ("e", "file name"),
    }  # fmt: skip
    assert [one.settings.multiply for one in pictures(root, layout="kohya")] == [4.0, 4.0, 1.0, 1.0, 1.0]
    assert captions(root)["10_sks dog/a.png"] == ("a", "file name")
    by_file = captions(root, layout="kohya", captions="filename")
    assert by_file["10_sks dog/b.png"] == ("b", "file name")


def test_repeats_are_the_least_specific_setting_and_the_nearest_folder_counts(tmp_path: Path) -> None:
    root = put(tmp_path / "7_all", "a.png", "3_in/b.png", "3_in/deep/c.png")
    assert [one.settings.multiply for one in pictures(root, layout="kohya")] == [3.0, 3.0, 7.0]
    put(root, global__yaml="multiply: 2")
    assert [one.settings.multiply for one in pictures(root, layout="kohya")] == [2.0, 2.0, 2.0]


def test_an_image_folder_with_metadata_is_loaded_as_it_is(tmp_path: Path) -> None:
    root = put(tmp_path / "set", "a.png", "in/b.png", "in/c.png", "d.png", a__txt="less specific", d__txt="D")
    put(root, metadata__jsonl='{"file_name": "a.png", "text": "A"}\n{"file_name": "in/b.png", "text": "outer"}')
    put(root / "in", metadata__csv="file_name,text,multiply\nb.png,inner,2\nc.png,C,")
    assert captions(root) == {
        "a.png": ("A", "metadata.jsonl"), "d.png": ("D", ".txt"), "in/b.png": ("inner", "metadata.csv"),
        "in/c.png": ("C", "metadata.csv"),
    }  # fmt: skip
    assert [one.settings.multiply for one in pictures(root)] == [1.0, 1.0, 2.0, 1.0]


def test_rows_of_metadata_that_fit_no_picture_are_told(tmp_path: Path) -> None:
    rows = ["a.png", "gone.png", "../out.png", "a.png"]
    put(tmp_path / "set", "a.png", metadata__jsonl="\n".join(json.dumps({"file_name": name}) for name in rows))
    put(tmp_path, "out.png")
    found, problems = look(tmp_path / "set")
    assert [one.id for one in found] == ["set/a.png"]
    assert [(problem.path.name, problem.reason) for problem in problems] == [
        ("metadata.jsonl", "line 4 names 'a.png', as line 1 did before"),
        ("metadata.jsonl", "line 2 names 'gone.png', and there is no such picture in or below this folder"),
        ("metadata.jsonl", "line 3 names '../out.png', and there is no such picture in or below this folder"),
    ]


def test_a_wrong_row_sets_its_picture_aside(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png", metadata__csv="file_name,flip_p\na.png,2\nb.png,1")
    found, problems = look(tmp_path)
    assert [one.settings.flip_p for one in found] == [1.0]
    assert [(one.path.name, one.reason) for one in problems] == [
        ("a.png", "metadata.csv, line 2: flip_p is '2'; allowed is a number from 0 to 1")
    ]


# manifests


def manifest(folder: Path, rows: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "list.json"
    path.write_text(json.dumps(rows))
    return path


def test_a_manifest_lists_pictures_in_order_with_what_lies_beside_them(tmp_path: Path) -> None:
    put(tmp_path, "in/b.png", "in/c.png", "a.png", "unlisted.png", global__yaml="flip_p: 0.5")
    put(tmp_path / "in", b__txt="B", c__txt="less specific", local__yaml="multiply: 2")
    path = manifest(
        tmp_path, [{"path": "in/c.png", "text": "C"}, {"path": "in/b.png", "multiply": 3}, {"path": "a.png"}]
    )
    assert captions(path) == {
        "a.png": ("a", "file name"), "in/b.png": ("B", ".txt"), "in/c.png": ("C", "list.json"),
    }  # fmt: skip
    found = pictures(path)
    assert [one.id for one in found] == ["list.json/a.png", "list.json/in/b.png", "list.json/in/c.png"]
    assert [(one.settings.multiply, one.settings.flip_p) for one in found] == [(1.0, 0.5), (3.0, 0.5), (2.0, 0.5)]
    assert all(one.path.exists() for one in found)


def test_a_manifest_may_list_pictures_elsewhere_with_their_own_folders_files(tmp_path: Path) -> None:
    put(tmp_path / "other" / "deep", "a.png", "b.png", a__txt="A", multiply__txt="2")
    put(tmp_path / "other", global__yaml="flip_p: 1")
    rows = [{"image": "../other/deep/a.png"}, {"image": str(tmp_path / "other" / "deep" / "b.png")}]
    found = pictures(manifest(tmp_path / "lists", rows))
    assert [(one.id, one.caption, one.settings) for one in found] == [
        ("list.json/../other/deep/a.png", "A", ItemSettings(multiply=2.0)),
        ("list.json/../other/deep/b.png", "b", ItemSettings(multiply=2.0)),
    ]
    assert all(one.path.exists() for one in found)


def test_a_manifest_may_list_what_begins_with_a_dot(tmp_path: Path) -> None:
    put(tmp_path, ".store/.a.png")
    assert ids(manifest(tmp_path, [{"image": ".store/.a.png"}])) == ["list.json/.store/.a.png"]


def test_what_a_manifest_lists_but_is_no_picture_file_is_told_and_never_opened(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "notes.txt", "x.png/b.png")
    os.mkfifo(tmp_path / "pipe.png")
    names = ["a.png", "gone.png", "pipe.png", "notes.txt", "x.png", "no/such.png", "\ud800/a.png"]
    found, problems = look(manifest(tmp_path, [{"image": name} for name in names]))
    assert [one.id for one in found] == ["list.json/a.png"]
    assert [problem.reason.partition(" names it, but ")[::2] for problem in problems] == [
        ("entry 2 of list.json", "there is no such file"),
        ("entry 6 of list.json", "its folder cannot be listed: No such file or directory"),
        ("entry 4 of list.json", "it has no picture's extension, nor is it the stem of just one picture"),
        ("entry 3 of list.json", "it is a FIFO, not a file"),
        ("entry 5 of list.json", "it is a folder, not a file"),
        ("entry 7 of list.json", "its folder cannot be listed: 'utf-8' codec can't encode character '\\ud800'"
         f" in position {len(str(tmp_path)) + 1}: surrogates not allowed"),
    ]  # fmt: skip


def test_kohyas_metadata_may_list_pictures_by_their_stems(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a-b.JPG", "c.png", "c.jpg")
    path = manifest(tmp_path, {"a": {"caption": "A"}, "a-b": {"tags": "t, u"}, "c": {}, "a.png": {"caption": "again"}})
    found, problems = look(path)
    assert [(one.id, one.caption) for one in found] == [("list.json/a-b.JPG", "t, u"), ("list.json/a.png", "A")]
    assert [problem.reason for problem in problems] == [
        "entry 4 names 'a.png' again",
        "entry 3 of list.json names it, but it has no picture's extension, nor is it the stem of just one picture",
    ]


def test_a_manifest_that_breaks_off_stops_all(tmp_path: Path) -> None:
    path = put(tmp_path, list__jsonl='{"image": "a.png"}\n{"image"') / "list.jsonl"
    with pytest.raises(DataError, match=r"list\.jsonl: line 2 is not JSON"):
        list(find(DataTable(root=path)))


def test_an_empty_manifest_holds_no_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list\.json: holds no picture"):
        list(find(DataTable(root=manifest(tmp_path, []))))


def test_a_misspelt_key_of_a_manifest_is_told_and_the_pictures_are_found(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    found, problems = look(manifest(tmp_path, [{"image": "a.png", "cond_droput": 1}]))
    assert len(found) == 1
    assert [str(one) for one in problems] == [
        f"{tmp_path}/list.json: 'cond_droput' is not a key that is read; did you mean 'cond_dropout'?"
    ]


# masks


def test_masks_beside_pictures_belong_to_them_and_are_no_pictures(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.jpg",
        "a.png",
        "a.mask.png",
        "b.png",
        "b-masklabel.PNG",
        "c.png",
        "d.png",
        "d.mask.png",
        "d-masklabel.png",
    )
    found = {one.path.name: one.mask for one in pictures(tmp_path, masks="sidecar")}
    assert found == {
        "a.jpg": tmp_path / "a.mask.png", "a.png": tmp_path / "a.mask.png", "b.png": tmp_path / "b-masklabel.PNG",
        "c.png": "", "d.png": tmp_path / "d.mask.png",
    }  # fmt: skip


def test_a_mask_without_its_picture_is_told(tmp_path: Path) -> None:
    found, problems = look(put(tmp_path, "a.png", "b.mask.png"), masks="sidecar")
    assert [one.path.name for one in found] == ["a.png"]
    assert [str(one) for one in problems] == [
        f"{tmp_path}/b.mask.png: is a mask, but the picture it belongs to is not beside it"
    ]


@pytest.mark.parametrize("masks", ["none", "alpha"])
def test_what_looks_like_a_mask_is_never_trained_on_by_accident(tmp_path: Path, masks: str) -> None:
    found, problems = look(put(tmp_path, "a.png", "a.mask.png", "lone.mask.png"), masks=masks)
    assert [(one.path.name, one.mask) for one in found] == [
        ("a.png", "alpha" if masks == "alpha" else ""), ("lone.mask.png", "alpha" if masks == "alpha" else ""),
    ]  # fmt: skip
    assert [str(one) for one in problems] == [
        f'{tmp_path}/a.mask.png: looks like the mask of the picture beside it; set data.masks = "sidecar" or rename it'
    ]
