"""The scan's view of a file: its upright size and what its bytes are, or in a sentence why it cannot be used."""

import logging
import multiprocessing
import os
import socket
import sqlite3
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from core.pictures import headers as headers_module
from core.pictures.files import MAX_BYTES, Contents, reason_of
from core.pictures.header_cache import Entry
from core.pictures.headers import Check, Header, HeaderCache, read_headers
from tests.zoo import UNUSABLE, encoded, grainy, half, with_a_flipped_bit


def read(*paths: Path, check: Check = "decode", hashes: bool = False, cache: Path | None = None) -> list[Header | str]:
    with HeaderCache(cache) as remembered:
        return list(read_headers(paths, check=check, hashes=hashes, cache=remembered))


# files that cannot be used


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_file_that_cannot_be_used_is_told_in_a_sentence(tmp_path: Path, kind: str) -> None:
    name, make, reason = UNUSABLE[kind]
    (tmp_path / name).write_bytes(make())
    (result,) = read(tmp_path / name)
    assert isinstance(result, str)
    assert reason in result
    assert "\n" not in result
    assert len(result) < 240
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_a_reason_is_one_printable_line_of_bounded_length() -> None:
    reasons = [reason_of(error) for error in (ValueError("x\n" * 999), struct.error("\udcff"), EOFError())]
    assert reasons[0] == "cannot be decoded: " + "x " * 100
    assert reasons[1:] == ["cannot be decoded: \\udcff", "cannot be decoded: EOFError"]


@pytest.mark.parametrize("action", ["ignore", "error", "default"])
def test_bombs_are_refused_whatever_the_process_does_with_warnings_and_its_filters_stay(
    tmp_path: Path, action: str
) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG", Image.new("1", (10_000, 10_000))))
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter(action)  # type: ignore[arg-type]
        filters = list(warnings.filters)
        (result,) = read(tmp_path / "a.png", check="headers")
        assert warnings.filters == filters
    assert result == "claims more than the 64,000,000 pixels that are read"
    assert not shown
    assert limit == Image.MAX_IMAGE_PIXELS


def test_ghostscript_is_never_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    name, make, _ = UNUSABLE["EPS"]
    (tmp_path / name).write_bytes(make())
    assert isinstance(read(tmp_path / name)[0], str)
    assert not started.exists()


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.png"))
        paths = [tmp_path / f"{name}.png" for name in ("folder", "pipe", "socket", "link", "circle")]
        results = read(*paths, Path("/dev/null"), tmp_path / "nul\0.png")
    assert results[:4] == [
        "is a folder, not a file", "is a named pipe, not a file", "is a socket, not a file", "does not exist",
    ]  # fmt: skip
    assert results[4] == "cannot be read: Too many levels of symbolic links"
    assert results[5:] == ["is a device, not a file", "cannot be decoded: embedded null byte"]


def test_a_file_of_more_bytes_than_pictures_have_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert read(tmp_path / "a.png") == ["has 1,073,741,825 bytes, more than the 1,073,741,824 that are read"]


def test_a_file_the_system_does_not_let_us_read_is_asked_for_again_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = tmp_path / "a.png", tmp_path / "cache.sqlite"
    path.write_bytes(encoded("PNG"))

    def deny(*args: object, **options: object) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:  # the tests may run as root, whom nothing is denied
        patch.setattr(headers_module, "read_contents", deny)
        assert read(path, cache=cache) == ["cannot be read: Permission denied"]
    assert isinstance(read(path, cache=cache)[0], Header)


def test_a_picture_that_does_not_fit_into_memory_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = tmp_path / "a.png", tmp_path / "cache.sqlite"
    path.write_bytes(encoded("PNG"))

    def exhaust(image: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", exhaust)
        assert read(path, cache=cache) == ["does not fit into memory"]
    assert isinstance(read(path, cache=cache)[0], Header)


# files that can


def test_one_flipped_byte_of_a_jpeg_cannot_be_seen_and_changes_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG"))
    (tmp_path / "b.jpg").write_bytes(with_a_flipped_bit(encoded("JPEG")))
    first, second = read(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert isinstance(first, Header)
    assert isinstance(second, Header)
    assert first.content != second.content


@pytest.mark.parametrize(
    ("name", "mode", "alpha"),
    [
        ("a.jpg", "CMYK", False), ("a.png", "LA", True), ("a.png", "RGBA", True), ("a.png", "RGB", False),
        ("a.png", "I;16", False), ("a.png", "1", False), ("a.webp", "RGBA", True), ("a.avif", "RGBA", True),
    ],
)  # fmt: skip
def test_a_picture_of_any_colours_has_a_header(tmp_path: Path, name: str, mode: str, alpha: bool) -> None:
    image = Image.new(mode, (9, 7)) if mode == "I;16" else Image.new("RGBA", (9, 7), (9, 9, 9, 9)).convert(mode)
    image.save(tmp_path / name)
    (header,) = read(tmp_path / name)
    assert isinstance(header, Header)
    assert (header.width, header.height, header.alpha, header.frames) == (9, 7, alpha, 1)


def test_a_palette_with_a_transparent_colour_can_be_transparent(tmp_path: Path) -> None:
    Image.new("P", (8, 8)).save(tmp_path / "a.png", transparency=0)
    Image.new("P", (8, 8)).save(tmp_path / "b.png")
    assert [isinstance(one, Header) and one.alpha for one in read(tmp_path / "a.png", tmp_path / "b.png")] == [
        True,
        False,
    ]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("check", ["headers", "decode"])
def test_sizes_are_upright(tmp_path: Path, name: str, check: Check) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    grainy().save(tmp_path / name, exif=exif)
    (header,) = read(tmp_path / name, check=check)
    assert isinstance(header, Header)
    assert (header.width, header.height) == (64, 96)


def test_headers_alone_do_not_show_what_is_damaged_behind_them(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(half(encoded("JPEG")))
    assert isinstance(read(tmp_path / "a.jpg", check="headers")[0], Header)
    assert isinstance(read(tmp_path / "a.jpg", check="headers", hashes=True)[0], Header)


def test_animated_files_count_as_their_first_frame_and_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [grainy(seed=number) for number in range(3)]
    paths = [tmp_path / name for name in ("a.gif", "a.webp", "a.png", "still.png", "views.jpg")]
    for path in paths[:3]:
        frames[0].save(path, save_all=True, append_images=frames[1:])
    frames[0].save(paths[3])
    frames[0].save(paths[4], format="MPO", save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.WARNING, logger="signalbox.data"):
        results = read(*paths)
    assert [one.frames for one in results if isinstance(one, Header)] == [3, 3, 3, 1, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "3 animated files: only the first frame of each is used"
    ]


def test_a_picture_whose_later_frames_are_damaged_counts_as_a_still(tmp_path: Path) -> None:
    data = encoded("TIFF", save_all=True, append_images=[grainy(seed=1)])
    (tmp_path / "a.tif").write_bytes(data[:-40])
    with Image.open(tmp_path / "a.tif") as image:
        first = image.tag_v2.next  # type: ignore[attr-defined]
    (tmp_path / "a.tif").write_bytes(data[:first] + b"\xff" * (len(data) - first))
    (header,) = read(tmp_path / "a.tif")
    assert isinstance(header, Header)
    assert (header.width, header.height, header.frames) == (96, 64, 1)


def test_content_is_the_digest_of_the_bytes_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data := encoded("PNG"))
    digest = blake2b(data, digest_size=16).digest()
    contents = [
        header.content
        for check, hashes in (("headers", False), ("headers", True), ("decode", False), ("decode", True))
        for header in read(tmp_path / "a.png", check=check, hashes=hashes)  # type: ignore[arg-type]
        if isinstance(header, Header)
    ]
    assert contents == [b"", digest, digest, digest]


def test_results_come_in_the_order_of_the_paths_and_reading_does_not_run_far_ahead(tmp_path: Path) -> None:
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        Image.new("1", (number + 1, 1)).save(paths[-1])
    given = 0

    def endless() -> Iterator[Path]:
        nonlocal given
        while True:
            given += 1
            yield paths[given % 5]

    with HeaderCache(None) as cache:
        results = read_headers(endless(), check="headers", hashes=False, cache=cache, threads=3)
        widths = [header.width for header, _ in zip(results, range(1200), strict=False) if isinstance(header, Header)]
        results.close()  # type: ignore[attr-defined]
    assert widths == [number % 5 + 1 for number in range(1, 1201)]
    assert given <= 1200 + headers_module.AHEAD


# what is remembered


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were opened."""
    names: list[str] = []
    genuine = headers_module.header_of

    def note(path: Path, *, check: Check, hashes: bool) -> Header:
        names.append(path.name)
        return genuine(path, check=check, hashes=hashes)

    monkeypatch.setattr(headers_module, "header_of", note)
    return names


def test_what_has_not_changed_is_not_opened_again(tmp_path: Path, opened: list[str]) -> None:
    (tmp_path / "good.png").write_bytes(encoded("PNG"))
    (tmp_path / "bad.png").write_text("no picture")
    paths, cache = [tmp_path / "good.png", tmp_path / "bad.png"], tmp_path / "cache" / "files.sqlite"
    first = read(*paths, cache=cache)
    assert sorted(opened) == ["bad.png", "good.png"]
    assert read(*paths, cache=cache) == first
    assert len(opened) == 2


def test_a_touched_file_is_read_again_and_has_the_same_content(tmp_path: Path, opened: list[str]) -> None:
    path, cache = tmp_path / "a.png", tmp_path / "files.sqlite"
    path.write_bytes(encoded("PNG"))
    first = read(path, cache=cache)
    os.utime(path, ns=(1, 1))
    assert read(path, cache=cache) == first
    assert len(opened) == 2


def test_a_changed_file_has_new_content_even_at_the_same_size(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.bmp", tmp_path / "files.sqlite"
    path.write_bytes(encoded("BMP"))
    (before,) = read(path, cache=cache)
    path.write_bytes(encoded("BMP", grainy(seed=1)))
    os.utime(path, ns=(1, 1))
    (after,) = read(path, cache=cache)
    assert isinstance(before, Header)
    assert isinstance(after, Header)
    assert before.content != after.content


def test_a_renamed_file_has_the_content_it_had(tmp_path: Path, opened: list[str]) -> None:
    path, cache = tmp_path / "a.png", tmp_path / "files.sqlite"
    path.write_bytes(encoded("PNG"))
    first = read(path, cache=cache)
    assert read(path.rename(tmp_path / "b.png"), cache=cache) == first
    assert opened == ["a.png", "b.png"]


def test_a_file_is_opened_again_only_where_more_is_asked_than_is_known(tmp_path: Path, opened: list[str]) -> None:
    path, cache = tmp_path / "a.png", tmp_path / "files.sqlite"
    path.write_bytes(encoded("PNG"))
    counts = []
    for check, hashes in (
        ("headers", False), ("headers", False), ("headers", True), ("headers", True), ("headers", False),
        ("decode", False), ("decode", True), ("headers", True),
    ):  # fmt: skip
        read(path, check=check, hashes=hashes, cache=cache)  # type: ignore[arg-type]
        counts.append(len(opened))
    assert counts == [1, 1, 2, 2, 2, 3, 3, 3]


def test_a_reason_that_decoding_gave_does_not_count_where_only_headers_are_checked(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.jpg", tmp_path / "files.sqlite"
    path.write_bytes(half(encoded("JPEG")))
    kinds = [type(read(path, check=check, cache=cache)[0]) for check in ("decode", "headers", "decode", "headers")]
    assert kinds == [str, Header, str, Header]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    path, cache = tmp_path / "a.png", tmp_path / "files.sqlite"
    path.write_bytes(encoded("PNG"))
    genuine = headers_module.read_contents

    def change_after(path: Path) -> Contents:
        contents = genuine(path)
        os.utime(path, ns=(2, 2))
        return contents

    entry = (path, path.stat().st_size, path.stat().st_mtime_ns)
    with monkeypatch.context() as patch:
        patch.setattr(headers_module, "read_contents", change_after)
        read(path, cache=cache)
    with HeaderCache(cache) as remembered:
        assert list(remembered.lookup_many([entry])) == [None]


def test_names_of_any_bytes_are_told_apart(tmp_path: Path) -> None:
    names = ["\u00e9.png", "e\u0301.png", "new\nline.png", "\U0001f600.png", os.fsdecode(b"\xff.png"), "a.PNG", "a.png"]
    paths = [tmp_path / name for name in names]
    for number, path in enumerate(paths):
        Image.new("1", (number + 1, 1)).save(path, "PNG")
    for _ in range(2):
        results = read(*paths, cache=tmp_path / "files.sqlite")
        assert [one.width for one in results if isinstance(one, Header)] == [1, 2, 3, 4, 5, 6, 7]


def test_files_are_remembered_by_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    monkeypatch.chdir(tmp_path)
    read(Path("a.png"), cache=tmp_path / "files.sqlite")
    read(tmp_path / "a.png", cache=tmp_path / "files.sqlite")
    assert len(opened) == 1


def entries_of(folder: Path, count: int) -> list[Entry]:
    return [(folder / f"{number:04}.png", number, number) for number in range(count)]


def header_of(entry: Entry) -> Header:
    return Header(width=entry[1] + 1, height=2, content=bytes(16), alpha=False, frames=1)


def test_a_lookup_gives_each_file_its_header_reason_or_nothing_in_order(tmp_path: Path) -> None:
    entries = entries_of(tmp_path / "x", 4)
    with HeaderCache(tmp_path / "files.sqlite") as cache:
        cache.remember_many([(entries[0], header_of(entries[0])), (entries[2], "is no picture")], check="headers")
        later, larger = (entries[0][0], entries[0][1], 99), (entries[0][0], 99, entries[0][2])
        found = list(cache.lookup_many([entries[2], entries[1], later, larger, entries[0]]))
    assert found == ["is no picture", None, None, None, header_of(entries[0])]


def remember_a_folder(path: Path, folder: Path) -> None:
    """Run in a process of its own: twenty transactions of ten files."""
    with HeaderCache(path) as cache:
        for start in range(0, 200, 10):
            some = entries_of(folder, 200)[start : start + 10]
            cache.remember_many([(entry, header_of(entry)) for entry in some], check="decode")
            assert None not in list(cache.lookup_many(some))


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    folders = [tmp_path / "x", tmp_path / "y"]
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=remember_a_folder, args=(tmp_path / "files.sqlite", one)) for one in folders]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    with HeaderCache(tmp_path / "files.sqlite") as cache:
        for folder in folders:
            entries = entries_of(folder, 200)
            assert list(cache.lookup_many(entries, check="decode")) == [header_of(entry) for entry in entries]


# damage


def damaged_everywhere(path: Path) -> None:
    path.write_bytes(b"rubbish" * 1000)


def damaged_within(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(half(path.read_bytes()))


def somebody_elses(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE files (page INTEGER)")
    database.close()


def of_another_schema(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()


def with_a_changed_width(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE files SET width = width + 1")
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "damage",
    [damaged_everywhere, damaged_within, cut_short, somebody_elses, of_another_schema, with_a_changed_width],
)
def test_a_damaged_cache_is_set_aside_and_begun_anew(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture, opened: list[str]
) -> None:
    paths, cache = [tmp_path / f"{number}.png" for number in range(600)], tmp_path / "files.sqlite"
    data = encoded("PNG", Image.new("1", (8, 8)))
    for path in paths:
        path.write_bytes(data)
    whole = read(*paths, cache=cache)
    damage(cache)
    with caplog.at_level(logging.WARNING, logger="signalbox.data"):
        assert read(*paths, cache=cache) == whole
    assert [record.getMessage().split(":")[1].split("(")[0] for record in caplog.records] == [" is damaged "]
    assert (tmp_path / "files.sqlite.corrupt").exists()
    count = len(opened)
    assert read(*paths, cache=cache) == whole
    assert len(opened) == count


def test_damage_that_two_find_is_set_aside_once_and_the_second_goes_on_with_the_new_cache(tmp_path: Path) -> None:
    path, old, new = tmp_path / "files.sqlite", entries_of(tmp_path / "x", 2), entries_of(tmp_path / "y", 2)
    with HeaderCache(path) as first, HeaderCache(path) as second:
        first.remember_many([(entry, header_of(entry)) for entry in old], check="decode")
        assert None not in list(second.lookup_many(old))
        with_a_changed_width(path)
        assert list(first.lookup_many(old)) == [None, None]
        first.remember_many([(entry, header_of(entry)) for entry in new], check="decode")
        assert list(second.lookup_many(old)) == [None, None]
        assert list(second.lookup_many(new)) == [header_of(entry) for entry in new]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_only_one_process_opens_or_sets_aside_a_cache_at_a_time(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "files.sqlite"
    opener = threading.Thread(target=lambda: HeaderCache(path).close())
    with open(f"{path}.lock", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        opener.start()
        opener.join(0.2)
        assert opener.is_alive()
        assert not path.exists()
    opener.join()
    assert path.exists()


def test_a_cache_that_cannot_be_written_does_not_stop_the_scan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    (tmp_path / "files.sqlite").mkdir()
    with caplog.at_level(logging.WARNING, logger="signalbox.data"):
        (result,) = read(tmp_path / "a.png", cache=tmp_path / "files.sqlite")
    assert isinstance(result, Header)
    assert len(caplog.records) == 1
    assert "for this run only" in caplog.text
    assert (tmp_path / "files.sqlite").is_dir()


def test_a_full_disk_does_not_stop_the_scan_and_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = entries_of(tmp_path / "x", 2000)
    with HeaderCache(tmp_path / "files.sqlite") as cache, caplog.at_level(logging.WARNING, logger="signalbox.data"):
        cache._database.execute("PRAGMA max_page_count = 12")
        cache.remember_many([(entry, header_of(entry)) for entry in entries], check="decode")
        cache.remember_many([(entries[0], header_of(entries[0]))], check="decode")
        assert list(cache.lookup_many(entries[:1])) == [header_of(entries[0])]
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "cannot be used (database or disk is full); headers are remembered for this run only"
    ]
    assert not (tmp_path / "files.sqlite.corrupt").exists()


def test_what_an_older_pillow_refused_is_tried_again_and_what_it_read_is_not(tmp_path: Path) -> None:
    path, entries = tmp_path / "files.sqlite", entries_of(tmp_path / "x", 2)
    with HeaderCache(path) as cache:
        cache.remember_many([(entries[0], header_of(entries[0])), (entries[1], "is no picture")], check="decode")
        cache._database.execute("UPDATE pillow SET version = '1.0'")
    with HeaderCache(path) as cache:
        assert list(cache.lookup_many(entries)) == [header_of(entries[0]), None]
