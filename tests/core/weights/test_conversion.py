"""`run.py convert` makes a safetensors file of pickled tensors, and of nothing else."""

import os
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.errors import ConfigError
from core.weights.conversion import convert
from core.weights.files import adapter_problem, problem_with_weights


class Program:
    """Its pickle makes a folder when it is opened by a pickler that obeys."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.place),)


def refused(source: Path, target: Path, **options: bool) -> str:
    with pytest.raises(ConfigError) as caught:
        list(convert(source, target, **options))
    return str(caught.value)


@pytest.mark.parametrize("inside", [lambda tensors: tensors, lambda tensors: {"state_dict": tensors, "epoch": 3}])
def test_tensors_come_through_and_their_memory_is_their_own(tmp_path: Path, inside: object) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    assert callable(inside)
    torch.save(inside({"a": whole[0], "b": whole}), tmp_path / "old.ckpt")
    lines = list(convert(tmp_path / "old.ckpt", tmp_path / "new.safetensors"))
    made = load_file(tmp_path / "new.safetensors")
    assert lines[0] == f"wrote 2 tensors to {tmp_path / 'new.safetensors'}"
    assert torch.equal(made["b"], whole)
    assert not problem_with_weights(tmp_path / "new.safetensors")


def test_what_is_no_tensor_is_left_out_and_named(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "note": "x"}, tmp_path / "old.ckpt")
    assert list(convert(tmp_path / "old.ckpt", tmp_path / "new.safetensors"))[1].endswith("such as note")


def test_a_program_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"a": Program(tmp_path / "marker")}, tmp_path / "old.ckpt")
    assert "it asks for posix.mkdir" in refused(tmp_path / "old.ckpt", tmp_path / "new.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.ckpt"]


def test_an_archive_that_is_compressed_is_refused(tmp_path: Path) -> None:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    (tmp_path / "old.ckpt").write_bytes(stream.getvalue())
    assert "torch writes no such file" in refused(tmp_path / "old.ckpt", tmp_path / "new.safetensors")


def test_a_file_that_is_there_is_replaced_on_request_only(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "old.ckpt")
    (tmp_path / "new.safetensors").write_text("mine")
    assert "--force replaces it" in refused(tmp_path / "old.ckpt", tmp_path / "new.safetensors")
    assert list(convert(tmp_path / "old.ckpt", tmp_path / "new.safetensors", force=True))


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("nowhere.ckpt", "new.safetensors", "does not exist"),
        ("empty.pt", "new.safetensors", "nothing else is tried"),
        ("list.pt", "new.safetensors", "a list is no table of tensors"),
        ("no-tensors.pt", "new.safetensors", "holds no tensors"),
        ("list.pt", "new.bin", "is to end in .safetensors"),
    ],
)
def test_whatever_else_is_wrong_is_said(tmp_path: Path, source: str, target: str, said: str) -> None:
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save([1], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "no-tensors.pt")
    assert said in refused(tmp_path / source, tmp_path / target)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.safetensors", b"\x80\x04\x95 pickled", "is a pickle"),
        ("a.SAFETENSORS", b"PK\x03\x04 zipped", "is a zip archive"),
        ("a.ckpt", b"(dp0\nS'a'", "is a pickle"),
        ("a.safetensors", (1 << 63).to_bytes(8, "little") + b"{}", "its header would have"),
        ("a.safetensors", (200).to_bytes(8, "little") + b"{}", "its header would have"),
        ("a.safetensors", b"text", "by its content"),
        ("a.safetensors", b"", "by its content"),
    ],
)
def test_a_file_is_what_its_content_says(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert said in problem_with_weights(tmp_path / name)
    assert ("python run.py convert" in problem_with_weights(tmp_path / name)) == ("pickle" in said or "zip" in said)


def test_an_adapter_that_is_not_there_is_no_problem_of_its_content(tmp_path: Path) -> None:
    assert adapter_problem(tmp_path) == adapter_problem(tmp_path / "nowhere.safetensors") == ""
