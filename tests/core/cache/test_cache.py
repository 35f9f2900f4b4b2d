"""What is cached is exactly what would be made, and only what changed is made anew (P13)."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image, ImageOps

from core.cache.store import Store
from tests.small_runs import Run, assert_same_state

Train = Callable[..., Run]
LATENTS, TEXT = "cache.latents=true", "cache.text=true"
FROZEN_TEXT = ('model.train=["unet"]', 'model.from_scratch=["unet", "text_encoder"]')
GAMMA = '[[plugins]]\nuse = "plugins.image_color.Gamma"\nlow = {low}\nhigh = {high}\n'
SHIFT = '[[plugins]]\nuse = "shift_pixels.Shift"\namount = {amount}\n'
SHIFT_SOURCE = """
from events import Plugin, PluginSettings, transform

def moved(pixels, amount):
    return (pixels + amount).clamp(-1, 1)  # as written

class Shift(Plugin):
    class Settings(PluginSettings):
        amount: float = 0.1

    @transform("sample.pixels")
    def shift(self, pixels, sample):
        return moved(pixels, self.settings.amount)
"""


@pytest.fixture
def pictures(picture_folder: Path, tmp_path: Path) -> Path:
    """A copy of the pictures that a test may change."""
    shutil.copytree(picture_folder, tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def cached(
    train: Train, pictures: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., dict[str, tuple[int, int, int]]]:
    """Trains one step from the pictures and returns (reused, encoded, orphaned) by product."""

    def execute(*overrides: str, plugins: str = "") -> dict[str, tuple[int, int, int]]:
        caplog.clear()
        train(f"data.root={pictures}", "train.steps=1", *overrides, plugins=plugins, fresh=True)
        found = {}
        for record in caplog.records:
            if "to encode" in record.getMessage():
                product, reused, missing, orphaned, *_ = record.args  # type: ignore[misc]
                found[str(product)] = (int(str(reused)), int(str(missing)), int(str(orphaned)))
        return found

    return execute


Cached = Callable[..., dict[str, tuple[int, int, int]]]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_weights_are_those_of_a_run_without_caches_bit_for_bit(
    train: Train, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    plugins = GAMMA.format(low=1.3, high=1.3) + '[[plugins]]\nuse = "plugins.captions.Affix"\nprefix = "an emoji of "\n'
    plugins = plugins.replace("low = 1.3\nhigh = 1.3\n", "low = 1.3\nhigh = 1.3\nvariations = 1\n")
    settings = (*FROZEN_TEXT, f"data.workers={workers}", "data.resolution=[32, 64]")
    plain = train("run.name=plain", *settings, plugins=plugins)
    cached = train("run.name=cached", LATENTS, TEXT, *settings, plugins=plugins)
    again = train("run.name=again", LATENTS, TEXT, *settings, plugins=plugins)
    assert_same_state(plain, cached)
    assert_same_state(plain, again)
    assert "latents: 20 reused, 0 to encode" in caplog.text
    assert "text: 10 reused, 0 to encode" in caplog.text


def test_random_transforms_that_repeat_give_the_same_run_with_and_without_caches(
    train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = GAMMA.format(low=0.5, high=2.0) + "variations = 3\n"
    plugins += '[[plugins]]\nuse = "plugins.captions.DropCaption"\nprobability = 0.5\nvariations = 2\n'
    settings = (*FROZEN_TEXT, "data.flip_p=0.5", "data.variations=2", "train.steps=9")
    plain = train("run.name=plain", *settings, plugins=plugins)
    cached = train("run.name=cached", LATENTS, TEXT, *settings, plugins=plugins)
    assert_same_state(plain, cached)
    assert "latents: 0 reused, 60 to encode" in caplog.text  # ten pictures in lcm(2, 3) variations
    assert "text: 0 reused" in caplog.text


def test_a_second_run_reuses_everything(cached: Cached) -> None:
    assert cached(LATENTS, TEXT, *FROZEN_TEXT) == {"latents": (0, 10, 0), "text": (0, 10, 0)}
    assert cached(LATENTS, TEXT, *FROZEN_TEXT) == {"latents": (10, 0, 0), "text": (10, 0, 0)}


def test_an_edited_caption_re_encodes_that_caption_and_no_latent(cached: Cached, pictures: Path) -> None:
    cached(LATENTS, TEXT, *FROZEN_TEXT)
    (pictures / "birds" / "owl.txt").write_text("a very old owl")
    assert cached(LATENTS, TEXT, *FROZEN_TEXT) == {"latents": (10, 0, 0), "text": (9, 1, 1)}


def test_changed_pixels_re_encode_that_picture_alone(cached: Cached, pictures: Path) -> None:
    cached(LATENTS, TEXT, *FROZEN_TEXT)
    path = pictures / "birds" / "owl.png"
    ImageOps.mirror(Image.open(path).convert("RGB")).save(path)
    assert cached(LATENTS, TEXT, *FROZEN_TEXT) == {"latents": (9, 1, 1), "text": (10, 0, 0)}


def test_a_touched_or_renamed_picture_is_not_encoded_again(cached: Cached, pictures: Path) -> None:
    cached(LATENTS, TEXT, *FROZEN_TEXT)
    os.utime(pictures / "birds" / "owl.png")
    for suffix in (".png", ".txt"):
        (pictures / "birds" / "duck").with_suffix(suffix).rename((pictures / "birds" / "swan").with_suffix(suffix))
    assert cached(LATENTS, TEXT, *FROZEN_TEXT) == {"latents": (10, 0, 0), "text": (10, 0, 0)}


def test_a_new_picture_is_the_only_one_that_is_encoded(cached: Cached, pictures: Path) -> None:
    cached(LATENTS, TEXT, *FROZEN_TEXT)
    Image.new("RGB", (50, 50), "teal").save(pictures / "teal square.png")
    assert cached(LATENTS, TEXT, *FROZEN_TEXT) == {"latents": (10, 1, 0), "text": (10, 1, 0)}


def test_another_resolution_re_encodes_every_latent_and_no_text(cached: Cached) -> None:
    cached(LATENTS, TEXT, *FROZEN_TEXT)
    assert cached(LATENTS, TEXT, *FROZEN_TEXT, "data.resolution=64") == {"latents": (0, 10, 10), "text": (10, 0, 0)}


def test_another_vae_re_encodes_every_latent_and_no_text(cached: Cached) -> None:
    cached(LATENTS, TEXT, *FROZEN_TEXT)
    changed = cached(LATENTS, TEXT, 'model.from_scratch=["unet", "text_encoder", "vae"]', 'model.train=["unet"]')
    assert changed == {"latents": (0, 10, 10), "text": (10, 0, 0)}


def test_another_text_encoder_re_encodes_all_text_and_no_latent(cached: Cached) -> None:
    cached(LATENTS, TEXT, *FROZEN_TEXT)
    changed = cached(LATENTS, TEXT, *FROZEN_TEXT, "run.seed=1")  # its weights are drawn from the seed
    assert changed == {"latents": (10, 0, 0), "text": (0, 10, 10)}


def test_a_plugins_setting_re_encodes_what_it_changes_alone(cached: Cached, tmp_path: Path) -> None:
    affix = '[[plugins]]\nuse = "plugins.captions.Affix"\nprefix = "{}"\n'
    shift = SHIFT.format(amount=0.1)
    (tmp_path / "shift_pixels.py").write_text(SHIFT_SOURCE)
    cached(LATENTS, TEXT, *FROZEN_TEXT, plugins=shift + affix.format("x "))
    pictures = cached(LATENTS, TEXT, *FROZEN_TEXT, plugins=SHIFT.format(amount=0.2) + affix.format("x "))
    assert pictures == {"latents": (0, 10, 10), "text": (10, 0, 0)}
    captions = cached(LATENTS, TEXT, *FROZEN_TEXT, plugins=SHIFT.format(amount=0.2) + affix.format("y "))
    assert captions == {"latents": (10, 0, 10), "text": (0, 10, 10)}


def test_a_plugins_source_counts_and_its_comments_do_not(
    cached: Cached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    plugin = tmp_path / "moved_pixels.py"
    counts = []
    for source in (
        SHIFT_SOURCE,
        SHIFT_SOURCE.replace("# as written", "# said otherwise"),
        SHIFT_SOURCE.replace("pixels + amount", "pixels - amount"),  # a function that the class calls
    ):
        plugin.write_text(source)
        monkeypatch.delitem(sys.modules, "moved_pixels", raising=False)
        counts.append(
            cached(LATENTS, plugins=SHIFT.format(amount=0.1).replace("shift_pixels", "moved_pixels"))["latents"]
        )
    monkeypatch.delitem(sys.modules, "moved_pixels", raising=False)
    assert counts == [(0, 10, 0), (10, 0, 0), (0, 10, 10)]


def test_what_a_picture_transform_reads_of_its_sample_counts(cached: Cached, pictures: Path) -> None:
    plugins = '[[plugins]]\nuse = "tests.core.plugins_for_tests.PaintedCaption"\n'
    assert cached(LATENTS, plugins=plugins)["latents"] == (0, 10, 0)
    assert cached(LATENTS, plugins=plugins)["latents"] == (10, 0, 0)
    (pictures / "birds" / "owl.txt").write_text("a longer caption than the one before")
    assert cached(LATENTS, plugins=plugins)["latents"] == (9, 1, 1)


def test_an_edited_file_that_a_setting_names_re_encodes_what_is_made_by_it(cached: Cached, tmp_path: Path) -> None:
    look, words = tmp_path / "look.cube", tmp_path / "words.txt"
    rows = [f"{red} {green} {blue}" for blue in (0, 1) for green in (0, 1) for red in (0, 1)]
    look.write_text("\n".join(["LUT_3D_SIZE 2", *rows]))
    words.write_text("owl => bird")
    plugins = f'[[plugins]]\nuse = "plugins.image_lut.Lut"\nfile = "{look}"\n'
    plugins += f'[[plugins]]\nuse = "plugins.caption_words.ReplaceWords"\nfile = "{words}"\n'
    assert cached(LATENTS, TEXT, *FROZEN_TEXT, plugins=plugins) == {"latents": (0, 10, 0), "text": (0, 10, 0)}
    assert cached(LATENTS, TEXT, *FROZEN_TEXT, plugins=plugins) == {"latents": (10, 0, 0), "text": (10, 0, 0)}
    look.write_text("\n".join(["LUT_3D_SIZE 2", *reversed(rows)]))
    assert cached(LATENTS, TEXT, *FROZEN_TEXT, plugins=plugins) == {"latents": (0, 10, 10), "text": (10, 0, 0)}
    words.write_text("owl => night bird")
    assert cached(LATENTS, TEXT, *FROZEN_TEXT, plugins=plugins) == {"latents": (10, 0, 10), "text": (9, 1, 1)}


def test_another_crop_by_a_plugin_is_encoded_anew_and_a_random_one_switches_the_cache_off(
    cached: Cached, caplog: pytest.LogCaptureFixture
) -> None:
    crop = '[[plugins]]\nuse = "plugins.image_crop.CropJitter"\n'
    assert cached(LATENTS, plugins=crop + 'scale = 0.5\nplace = "same"\n')["latents"] == (0, 10, 0)
    assert cached(LATENTS, plugins=crop + 'scale = 0.5\nplace = "same"\n')["latents"] == (10, 0, 0)
    assert cached(LATENTS, plugins=crop + 'scale = 0.6\nplace = "same"\n')["latents"] == (0, 10, 10)
    assert cached(LATENTS, plugins=crop + "variations = 2\n")["latents"][:2] == (0, 20)
    assert cached(LATENTS, plugins=crop) == {}
    assert "CropJitter draws anew" in caplog.text


@pytest.mark.parametrize(
    ("plugins", "overrides", "said"),
    [
        (GAMMA.format(low=0.5, high=2.0), (), "Gamma draws anew"),
        ("", ("data.crop=random",), "data.crop = 'random' draws anew"),
        ("", ("data.flip_p=0.5",), "flip_p draws anew"),
        ('[[plugins]]\nuse = "tests.core.plugins_for_tests.GlobalNoise"\n', (), "global random generator"),
    ],
)
def test_a_random_transform_switches_the_cache_off_and_is_named(
    cached: Cached, caplog: pytest.LogCaptureFixture, plugins: str, overrides: tuple[str, ...], said: str
) -> None:
    assert cached(LATENTS, *overrides, plugins=plugins) == {}
    assert [record for record in caplog.records if said in record.getMessage() and record.levelname == "WARNING"]


def test_random_captions_switch_the_text_cache_off_and_are_named(
    cached: Cached, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = '[[plugins]]\nuse = "plugins.captions.DropCaption"\n'
    assert set(cached(LATENTS, TEXT, *FROZEN_TEXT, plugins=plugins)) == {"latents"}
    assert "text is not cached: DropCaption draws anew" in caplog.text


def test_a_trained_text_encoder_switches_the_text_cache_off(cached: Cached, caplog: pytest.LogCaptureFixture) -> None:
    assert cached(TEXT) == {}
    assert "text is not cached: model.train has text_encoder" in caplog.text


def test_a_flipped_bit_in_an_entry_is_seen_and_the_entry_made_anew(train: Train, tmp_path: Path) -> None:
    whole = train("run.name=whole", LATENTS, TEXT, *FROZEN_TEXT)
    for product in ("latents", "text"):
        with sqlite3.connect(tmp_path / "cache" / f"{product}.sqlite") as connection:
            key, data = connection.execute("SELECT key, data FROM entries ORDER BY key LIMIT 1").fetchone()
            spoilt = bytearray(data)
            spoilt[len(spoilt) // 2] ^= 1
            connection.execute("UPDATE entries SET data = ? WHERE key = ?", (bytes(spoilt), key))
        connection.close()
    for workers in (0, 1):
        again = train(f"run.name=again-{workers}", LATENTS, TEXT, *FROZEN_TEXT, f"data.workers={workers}")
        assert_same_state(whole, again)


def test_a_bit_flipped_anywhere_in_the_file_never_changes_the_run(train: Train, tmp_path: Path) -> None:
    whole = train("run.name=whole", LATENTS, "train.steps=3")
    path = tmp_path / "cache" / "latents.sqlite"
    good, random = path.read_bytes(), Random(5)
    for number in range(6):
        spoilt = bytearray(good)
        spoilt[random.randrange(len(spoilt))] ^= 1 << random.randrange(8)
        path.write_bytes(spoilt)
        assert_same_state(whole, train(f"run.name=again-{number}", LATENTS, "train.steps=3"))


def test_a_file_that_is_no_database_is_set_aside_and_made_anew(cached: Cached, tmp_path: Path) -> None:
    cached(LATENTS)
    path = tmp_path / "cache" / "latents.sqlite"
    path.write_bytes(b"no database" * 1000)
    assert cached(LATENTS)["latents"] == (0, 10, 0)
    assert path.with_name("latents.sqlite.corrupt").is_file()


def test_a_store_shows_only_whole_entries(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite")
    tensors = {"mean": torch.arange(6.0).reshape(2, 3)}
    store.write([(b"one", tensors, {"id": "a"}), (b"two", {}, {"id": "b"})])
    one = store.read(b"one")
    assert one is not None
    assert torch.equal(one["mean"], tensors["mean"])
    assert store.read(b"two") == {}
    assert store.read(b"three") is None
    comparison = store.compare([b"one", b"three"])
    assert (comparison.reused, comparison.missing, comparison.orphaned) == (1, 1, 1)
    assert [(key, about) for key, about, _ in comparison.orphans()] == [(b"two", {"id": "b"})]
    store.close()
