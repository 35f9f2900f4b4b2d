"""A file that a setting names is read once, becomes part of the settings, and travels with its text."""

import os
import pickle
import re
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from events import PluginSettings, TextFile
from events import text_file as module


class Settings(PluginSettings):
    file: TextFile | None = Field(None, description="some words")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("\ufeffgrey\n", encoding="utf-8")
    return tmp_path / "words.txt"


def settings_of(path: Path | str) -> Settings:
    return Settings.model_validate({"file": str(path)})


def test_its_text_is_that_of_the_moment_it_was_read(path: Path) -> None:
    settings = settings_of(path)
    path.write_text("green")
    assert settings.file is not None
    assert (settings.file.text, settings.file.path) == ("grey\n", path)


def test_it_travels_with_its_text(path: Path) -> None:
    settings = settings_of(path)
    path.unlink()
    for copied in (pickle.loads(pickle.dumps(settings)), Settings.model_validate(settings.model_dump())):
        assert copied == settings


def test_as_json_another_text_is_another_and_the_same_text_the_same(path: Path) -> None:
    told = settings_of(path).model_dump(mode="json")
    assert settings_of(path).model_dump(mode="json") == told
    path.write_text("green")
    assert settings_of(path).model_dump(mode="json") != told
    assert Settings().model_dump(mode="json") == {"file": None}


def test_its_schema_is_that_of_a_path() -> None:
    told = Settings.model_json_schema()["properties"]["file"]
    assert {"type": "string", "format": "path"} in told["anyOf"]


def test_lines_have_numbers_and_are_neither_empty_nor_comments() -> None:
    file = TextFile(Path("words.txt"), "# head\n\n one \r\n  # tail\ntwo # three")
    assert list(file.lines()) == [(3, "one"), (5, "two # three")]
    assert file.at(5) == "words.txt, line 5"


def test_what_cannot_be_read_is_refused_in_a_sentence(path: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"gr\xe4y")
    os.mkfifo(tmp_path / "pipe")
    told = {
        tmp_path / "no.txt": "no.txt does not exist (seen from",
        tmp_path: "is no regular file",
        tmp_path / "pipe": "pipe is no regular file",
        tmp_path / "latin.txt": "latin.txt is no UTF-8 text: byte 2 is 0xe4",
        tmp_path / ("x" * 300): "cannot be read: File name too long",
        "": "'' is not the path of a file",
    }
    for wrong, said in told.items():
        with pytest.raises(ValidationError, match=re.escape(said)):
            settings_of(wrong)
    with pytest.raises(ValidationError, match="7 is not the path of a file"):
        Settings.model_validate({"file": 7})


def test_a_file_that_is_too_large_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 3)
    with pytest.raises(ValidationError, match=r"words\.txt is larger than 0 MiB; is it the right file\?"):
        settings_of(path)
