"""A checkpoint is complete or absent, and a damaged one is noticed and passed over."""

from pathlib import Path

import pytest
import torch

from core.checkpoint.contents import Contents
from core.checkpoint.folder import CheckpointFolder
from core.checkpoint.manifest import NAME as MANIFEST
from core.checkpoint.manifest import problem_with
from core.config.changes import differences
from core.errors import CheckpointError


def contents(number: float = 1.0) -> Contents:
    return Contents(
        tensors={"weights": {"a": torch.full((3,), number)}}, jsons={"state": {"x": 1}}, texts={"note.toml": "n = 1"}
    )


def save(folder: CheckpointFolder, step: int) -> None:
    folder.save(step, contents(), folder.going(step))


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "checkpoints", keep=2)


def test_what_is_saved_is_read_back(folder: CheckpointFolder) -> None:
    folder.save(5, contents(2.5))
    checkpoint, passed_over = folder.newest()
    assert checkpoint is not None
    assert (checkpoint.step, passed_over) == (5, ())
    assert torch.equal(checkpoint.tensors("weights")["a"], torch.full((3,), 2.5))
    assert (checkpoint.json("state"), checkpoint.toml("note.toml")) == ({"x": 1}, {"n": 1})


def test_there_is_none_in_a_new_folder(folder: CheckpointFolder) -> None:
    assert folder.newest() == (None, ())


def test_the_newest_is_by_step_and_older_ones_go_only_after_it(folder: CheckpointFolder) -> None:
    for step in (5, 1000, 20):
        save(folder, step)
    assert sorted(path.name for path in folder.folder.iterdir()) == ["step-00000020", "step-00001000"]
    assert folder.newest()[0].step == 1000  # type: ignore[union-attr]


def kept(folder: CheckpointFolder) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.folder.iterdir())


def test_those_at_a_multiple_of_some_steps_stay_for_good(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1, keep_every=4)
    for step in range(2, 15, 2):
        save(folder, step)
    assert kept(folder) == [4, 8, 12, 14]


def test_whoever_is_asked_may_let_others_stay_and_never_the_newest_go(tmp_path: Path) -> None:
    folder, asked = CheckpointFolder(tmp_path, keep=1), []

    def let_odd_ones_stay(new: int, going: tuple[int, ...]) -> tuple[int, ...]:
        asked.append((new, going))
        return tuple(step for step in going if step % 2 == 0)

    for step in (1, 2, 3, 4):
        folder.save(step, contents(), folder.going(step, let_odd_ones_stay))
    assert kept(folder) == [1, 3, 4]
    assert asked == [(2, (1,)), (3, (2, 1)), (4, (3, 1))]


@pytest.mark.parametrize("name", ["weights.safetensors", "state.json", "note.toml", MANIFEST])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "empty"])
def test_a_damaged_file_makes_the_one_before_it_the_newest(folder: CheckpointFolder, name: str, damage: str) -> None:
    folder.save(1, contents())
    path = folder.save(2, contents()) / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes({"truncated": bytes(data[:-1]), "flipped": bytes(data), "empty": b""}[damage])
    checkpoint, passed_over = folder.newest()
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert len(passed_over) == 1
    assert name in passed_over[0].reason or "manifest" in passed_over[0].reason


def test_an_extra_file_and_swapped_folders_are_noticed(folder: CheckpointFolder) -> None:
    one = folder.save(1, contents())
    (one / "extra.txt").write_text("?")
    assert "extra.txt is not part of it" in str(problem_with(one))
    two = folder.save(2, contents())
    moved = two.with_name("step-00000003")
    two.rename(moved)
    assert "its manifest is of step 2" in str(problem_with(moved))


def test_when_all_are_damaged_it_refuses_to_start_from_zero(folder: CheckpointFolder) -> None:
    for step in (1, 2):
        (folder.save(step, contents()) / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="--fresh") as caught:
        folder.newest()
    assert caught.value.exit_code == 4
    assert "step-00000001" in str(caught.value)


def test_what_an_interrupted_save_left_is_swept_by_the_next(folder: CheckpointFolder) -> None:
    folder.save(1, contents())
    (folder.folder / ".tmp-abandoned").mkdir()
    half_removed = folder.folder / "step-00000000"
    half_removed.mkdir()
    folder.save(2, contents())
    assert sorted(path.name for path in folder.folder.iterdir()) == ["step-00000001", "step-00000002"]


def test_a_damaged_checkpoint_of_the_same_step_is_kept_aside(folder: CheckpointFolder) -> None:
    (folder.save(3, contents(1.0)) / "state.json").write_text("{}")
    folder.save(3, contents(2.0))
    checkpoint, _ = folder.newest()
    assert checkpoint is not None
    assert checkpoint.tensors("weights")["a"][0] == 2.0
    assert [path.name for path in folder.folder.glob("*.corrupt*")] == ["step-00000003.corrupt"]


def test_nothing_in_it_is_pickled(folder: CheckpointFolder) -> None:
    suffixes = {path.suffix for path in folder.save(1, contents()).iterdir()}
    assert suffixes <= {".safetensors", ".json", ".toml"}


def test_differences_name_the_dotted_key() -> None:
    old, new = {"train": {"steps": 1, "lr": 2}}, {"train": {"steps": 3, "lr": 2}, "log": {}}
    assert list(differences(old, new)) == [("log", None, {}), ("train.steps", 1, 3)]
