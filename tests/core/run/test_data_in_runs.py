"""Whole runs over data as users have it: bad files, folders of other trainers, several sizes, other worker counts."""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from core.errors import ConfigError, DataError
from core.run.artefacts import Artefacts
from core.step.closed import Step
from events.payloads import Batch
from tests.small_runs import Run, assert_same_state

Train = Callable[..., Run]
DROP, SHUFFLE = (f'[[plugins]]\nuse = "plugins.captions.{name}"\n' for name in ("DropCaption", "ShuffleTags"))


@pytest.fixture
def pictures(picture_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(picture_folder, tmp_path / "set")
    return tmp_path / "set"


def add_bad_files(folder: Path) -> int:
    """Files that cannot be used, in among the good ones; returns how many."""
    image = Image.effect_noise((64, 64), 60).convert("RGB")
    image.save(folder / "birds" / "half.jpg", quality=95)
    whole = (folder / "birds" / "half.jpg").read_bytes()
    (folder / "birds" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "aaa empty.png").touch()
    (folder / "birds" / "text.png").write_text("no picture")
    (folder / "birds" / "drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    Image.new("1", (10000, 10000)).save(folder / "birds" / "bomb.png")
    os.mkfifo(folder / "birds" / "pipe.png")
    image.save(folder / "zzz.png")
    (folder / "zzz.txt").write_bytes("größe".encode("latin-1"))
    return 7


def test_workers_get_ready_while_the_first_previews_are_rendered(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the ones that load the batches, and there are no others."""
    there: list[list[int | None]] = []
    at_start, take = Artefacts.at_start, Step.take

    def look_at_start(self: Artefacts) -> None:
        there.append([child.pid for child in multiprocessing.active_children()])
        at_start(self)

    def look(self: Step, batches: Sequence[Batch], steps_taken: int) -> dict[str, float]:
        there.append([child.pid for child in multiprocessing.active_children()])
        return take(self, batches, steps_taken)

    monkeypatch.setattr(Artefacts, "at_start", look_at_start)
    monkeypatch.setattr(Step, "take", look)
    train("data.workers=1", "train.steps=1")
    assert [len(pids) for pids in there] == [1, 1]
    assert there[0] == there[1]


def test_a_run_with_bad_files_is_the_run_without_them_bit_for_bit(
    train: Train, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = (f"data.root={pictures}", "data.max_bad_fraction=0.5")
    without = train("run.name=without", *settings)
    count = add_bad_files(pictures)
    caplog.clear()
    among = train("run.name=among", *settings, "data.workers=1")
    assert_same_state(without, among)
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("set aside: ")]
    assert len(told) == count
    for name in ("half.jpg", "aaa empty.png", "text.png", "drawing.png", "bomb.png", "pipe.png", "zzz.txt"):
        assert any(name in line for line in told), name


def test_more_bad_files_than_allowed_stop_before_training_with_their_names(train: Train, pictures: Path) -> None:
    add_bad_files(pictures)
    with pytest.raises(DataError, match=r"7 of 17 files in .* cannot be used") as caught:
        train(f"data.root={pictures}")
    assert "half.jpg" in str(caught.value)


def test_a_folder_of_everydream2_trains_as_it_is_and_what_it_asks_for_is_not_ignored(
    train: Train, pictures: Path
) -> None:
    (pictures / "global.yaml").write_text("tags:\n  - tag: emoji\n  - tag: flat\n    weight: 0.5\n")
    (pictures / "birds" / "multiply.txt").write_text("2.5")
    (pictures / "birds" / "cond_dropout.txt").write_text("0.5")
    (pictures / "fruit" / "shuffle_tags.txt").touch()
    (pictures / "fruit" / "lemon.yaml").write_text("main_prompt: a lemon\nmax_caption_length: 6\n")
    with pytest.raises(ConfigError) as caught:
        train(f"data.root={pictures}")
    told = str(caught.value)
    for name, plugin in (
        ("cond_dropout", "DropCaption"),
        ("shuffle_tags", "ShuffleTags"),
        ("max_caption_length", "LimitCaption"),
    ):
        assert f"pictures have {name}" in told
        assert f'use = "plugins.captions.{plugin}"' in told
    plugins = DROP + SHUFFLE + '[[plugins]]\nuse = "plugins.captions.LimitCaption"\n'
    assert train(f"data.root={pictures}", plugins=plugins).exit_code == 0
    assert train(f"data.root={pictures}", 'data.ignore_settings=["cond_dropout", "shuffle_tags", "max_caption_length"]',
                 "run.name=ignoring").exit_code == 0  # fmt: skip


def test_a_kohya_folder_repeats_and_captions(train: Train, pictures: Path, tmp_path: Path) -> None:
    root = tmp_path / "kohya"
    for number, (folder, name) in enumerate((("3_sks owl", "birds/owl"), ("1_heart", "hearts/red-heart"))):
        (root / folder).mkdir(parents=True)
        shutil.copy(pictures / f"{name}.png", root / folder / f"{number}.png")
    run = train(f"data.root={root}", "data.layout=kohya", "train.steps=4", "train.batch_size=1",
                plugins='[[plugins]]\nuse = "tests.core.plugins_for_tests.Captions"\n')  # fmt: skip
    assert run.bus is not None
    seen: list[str] = run.bus.plugins["Captions"].seen  # type: ignore[attr-defined]  # of the test's plugin
    assert sorted(seen) == ["heart", "sks owl", "sks owl", "sks owl"]


@pytest.mark.parametrize("cached", ["true", "false"])
def test_a_run_resumed_within_an_epoch_with_other_workers_ends_as_the_unbroken_one(train: Train, cached: str) -> None:
    settings = (
        f"cache.latents={cached}", "data.resolution=[32, 64]", "data.flip_p=0.5", "data.variations=2",
        "data.short_batches=fill", "train.batch_size=3", "validation.fraction=0.2",
    )  # fmt: skip
    whole = train("run.name=whole", *settings, "train.steps=7")
    for steps, workers, method in ((2, 2, "forkserver"), (5, 0, "forkserver"), (7, 1, "spawn")):
        broken = train("run.name=broken", *settings, f"train.steps={steps}", f"data.workers={workers}",
                       f"data.start_method={method}")  # fmt: skip
    assert_same_state(whole, broken, but="validation")  # measured at each of the ends too


def test_pictures_that_would_have_to_be_enlarged_are_named_when_they_are_too_small(
    train: Train, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (3, 90)).save(pictures / "tiny.png")
    run = train(f"data.root={pictures}", "data.no_upscale=true", "data.resolution=64", "train.steps=1")
    assert run.exit_code == 0
    assert "tiny.png: 3 x 90 is below 4" in caplog.text


def test_a_plan_that_a_plugin_has_made_impossible_is_refused_before_it_is_trained(train: Train) -> None:
    stranger = '[[plugins]]\nuse = "tests.core.plugins_for_tests.PlansAStranger"\n'
    with pytest.raises(DataError, match=r"after the epoch\.plan plugins batch 3 names item 10 of 10"):
        train("train.steps=1", plugins=stranger)
