"""Pruning shows what a config does not need, by reason, and removes it when that is confirmed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_runs import Run, sets
from tests.warm import run_py

CACHED = ("cache.latents=true", "cache.text=true", 'model.train=["unet"]', "train.steps=1")
Prune = Callable[..., str]


@pytest.fixture
def prune(write_config: Callable[..., Path]) -> Prune:
    def execute(*overrides: str, answer: str = "", arguments: tuple[str, ...] = ()) -> str:
        words = ("data", str(write_config()), "--prune", *arguments, *sets((*CACHED, *overrides)))
        done = run_py(*words, typed=answer)
        return done.stdout + done.stderr

    return execute


@pytest.fixture
def pictures(picture_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(picture_folder, tmp_path / "set")
    return tmp_path / "set"


def test_orphans_are_shown_by_reason_and_removed_when_confirmed(
    train: Callable[..., Run], prune: Prune, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = f"data.root={pictures}"
    train(root, *CACHED)
    for suffix in (".png", ".txt"):
        (pictures / "birds" / "owl").with_suffix(suffix).unlink()
    refused = prune(root, answer="n\n")
    assert "latents.sqlite: 9 needed and there, 0 to encode, 1 orphaned" in refused
    assert "1  the picture is no longer there" in refused
    assert "1  no caption reads so any more" in refused
    assert "removed" not in refused
    agreed = prune(root, answer="y\n")
    assert "1 orphaned" in agreed
    assert "removed" in agreed
    assert "nothing to remove" in prune(root)
    caplog.clear()
    train(root, *CACHED, "run.name=again")
    assert "latents: 9 reused, 0 to encode, 0 orphaned" in caplog.text


def test_another_resolution_and_another_encoder_are_named(train: Callable[..., Run], prune: Prune) -> None:
    train(*CACHED, "data.resolution=64")
    train(*CACHED, "data.transparent=black", "run.name=other")
    shown = prune(arguments=("--yes",))
    assert "latents.sqlite: 0 needed and there, 10 to encode, 20 orphaned" in shown
    assert "10  the picture or its size changed" in shown
    assert "10  other settings of [data] or the seed" in shown
    assert "removed" in shown


def test_without_a_cache_there_is_nothing_to_remove(prune: Prune) -> None:
    assert prune() == "nothing to remove\n"
