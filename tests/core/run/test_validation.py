"""The loss on pictures that are not trained on: the same measure each time, and no effect on training."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.errors import ConfigError, DataError
from tests.core.plugins_for_validation import Captions, Recorder
from tests.small_runs import PICTURES, Run, assert_same_state

Train = Callable[..., Run]
HERE = '[[plugins]]\nuse = "tests.core.plugins_for_validation.{}"\n'


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    for kept in (Recorder.losses, Recorder.images, Recorder.trained, Captions.seen):
        kept.clear()  # type: ignore[attr-defined]  # lists, sets and dicts all have it
    return


def test_the_loss_is_measured_at_start_on_its_rhythm_when_asked_and_at_the_end(train: Train) -> None:
    run = train("validation.fraction=0.3", "validation.every_steps=2", "train.steps=5", plugins=HERE.format("Recorder"))
    assert [step for step, _ in Recorder.losses] == [0, 2, 3, 4, 5]
    assert all(set(losses) == {"held_out"} and losses["held_out"] > 0 for _, losses in Recorder.losses)
    assert run.exit_code == 0


def test_nothing_is_trained_on_and_validated_with(train: Train) -> None:
    train("validation.fraction=0.3", "train.steps=6", plugins=HERE.format("Recorder"))
    (held_out,) = {images["held_out"] for images in Recorder.images}
    assert len(Recorder.trained) == 10 - held_out
    assert held_out > 0


def test_the_measure_of_unchanged_weights_is_the_same_and_follows_no_batch_size(train: Train) -> None:
    settings = ("validation.fraction=0.4", "train.steps=1", "train.learning_rate=1e-30", "train.weight_decay=0.0")
    for name, size in (("one", 1), ("many", 8)):
        train(f"run.name={name}", *settings, f"train.batch_size={size}", plugins=HERE.format("Recorder"))
    losses = [losses["held_out"] for _, losses in Recorder.losses]
    assert losses[0] == losses[1]
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_more_repeats_measure_more_noises(train: Train) -> None:
    for repeats in (1, 4):
        train(f"run.name=of-{repeats}", "validation.fraction=0.3", f"validation.repeats={repeats}", "train.steps=1",
              plugins=HERE.format("Recorder"))  # fmt: skip
    assert Recorder.losses[0][1]["held_out"] != Recorder.losses[2][1]["held_out"]


def test_validation_changes_nothing_of_training(train: Train, picture_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for suffix in (".png", ".txt"):
        shutil.copy((PICTURES / "fruit" / "banana").with_suffix(suffix), other)
    plain = train("run.name=plain")
    watched = train("run.name=watched", "validation.every_steps=1", f'validation.sets={{fruit="{other}"}}')
    assert_same_state(plain, watched, but="validation")


def test_pictures_are_neither_mirrored_nor_cropped_at_random_for_validation(train: Train) -> None:
    settings = ("validation.fraction=0.4", "train.steps=1", "train.learning_rate=1e-30", "train.weight_decay=0.0")
    for name, *more in (("plain",), ("turned", "data.flip_p=1.0", "data.crop=random")):
        train(f"run.name={name}", *settings, *more, plugins=HERE.format("Recorder"))
    plain, turned = ([losses["held_out"] for _, losses in part] for part in (Recorder.losses[:2], Recorder.losses[2:]))
    assert plain[0] == turned[0]


def test_augmentation_and_dropout_are_off_for_validation(train: Train) -> None:
    drop = '[[plugins]]\nuse = "plugins.captions.DropCaption"\nprobability = 1.0\n'
    train("validation.fraction=0.3", "train.steps=3", plugins=drop + HERE.format("Recorder") + HERE.format("Captions"))
    trained = {name: captions for name, captions in Captions.seen.items() if name in Recorder.trained}
    held_out = {name: captions for name, captions in Captions.seen.items() if name not in Recorder.trained}
    assert {caption for captions in trained.values() for caption in captions} == {""}
    assert held_out
    assert all(caption for captions in held_out.values() for caption in captions)


def test_named_sets_stand_beside_what_is_held_out(train: Train, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for suffix in (".png", ".txt"):
        shutil.copy((PICTURES / "fruit" / "banana").with_suffix(suffix), other)
    run = train("validation.fraction=0.3", f'validation.sets={{fruit="{other}"}}', "train.steps=2",
                plugins=HERE.format("Recorder") + '[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n')  # fmt: skip
    assert set(Recorder.images[0]) == {"held_out", "fruit"}
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    written = [line["values"] for line in lines if "validation/fruit" in line["values"]]
    assert written == [{f"validation/{name}": loss for name, loss in losses.items()} for _, losses in Recorder.losses]


def test_a_validation_set_that_is_trained_on_is_refused(train: Train, picture_folder: Path) -> None:
    with pytest.raises(DataError, match=r"must not be trained on(.|\n)*owl\.png of validation set birds is trained on"):
        train(f'validation.sets={{birds="{picture_folder / "birds"}"}}')


def test_a_validation_set_that_is_not_there_is_told_with_its_key(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"validation\.sets\.gone  .*nowhere does not exist"):
        train(f'validation.sets={{gone="{tmp_path / "nowhere"}"}}')


def test_a_resumed_run_measures_what_the_unbroken_one_measures(train: Train) -> None:
    settings = ("validation.fraction=0.3", "validation.every_steps=2", "checkpoint.every_steps=2")
    train("run.name=whole", *settings, "train.steps=4", plugins=HERE.format("Recorder"))
    whole = list(Recorder.losses)
    Recorder.losses.clear()
    for steps in (2, 4):
        train("run.name=broken", *settings, f"train.steps={steps}", plugins=HERE.format("Recorder"))
    broken = [(step, losses) for step, losses in Recorder.losses]
    assert dict(broken) == dict(whole)


def test_the_average_is_validated_unless_it_is_told_not_to_be_and_training_goes_on_as_before(train: Train) -> None:
    ema = '[[plugins]]\nuse = "plugins.ema.Ema"\nvalidation = {}\n'
    settings = ("validation.fraction=0.3", "train.steps=5", "train.learning_rate=0.01")
    plain = train("run.name=none", *settings, plugins=HERE.format("Recorder"))
    raw = train("run.name=raw", *settings, plugins=ema.format("false") + HERE.format("Recorder"))
    mean = train("run.name=mean", *settings, plugins=ema.format("true") + HERE.format("Recorder"))
    assert_same_state(raw, mean, but="validation")
    losses = [losses["held_out"] for step, losses in Recorder.losses if step == 5]
    assert losses[0] == losses[1] != losses[2]
    assert plain.exit_code == 0
