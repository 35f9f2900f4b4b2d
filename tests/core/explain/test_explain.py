"""`run.py plan --explain SIGNAL` tells the chain in order, what is known of each handler, and what it makes of real data."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core.errors import ConfigError
from core.explain.request import Request, explain_signal
from events.errors import PluginError
from events.plugin import PluginTable
from tests.core.surveying import plugin
from tests.core.test_command_line import loaded_by
from tests.small_runs import Run
from tests.warm import run_py

Explain = Callable[..., str]
CAPTIONS = (
    plugin("plugins.captions.ShuffleTags", priority=20)
    + '\n[[plugins]]\nuse = "plugins.captions.Affix"\nprefix = "a "\npriority = { "sample.caption" = 5 }\n'
    + plugin("plugins.captions.DropCaption", probability=1.0, variations=4)
)


@pytest.fixture
def explained(write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> Explain:
    """`explained("sample.caption", "data.workers=2", plugins="...", item="fox")`: what is printed."""
    import logging

    import run

    def execute(signal: str, *overrides: str, plugins: str = "", **options: Any) -> str:
        path = write_config(plugins)
        config = run.load(path, list(overrides))
        bus, source = run.assemble_bus(config, path)
        root = logging.getLogger()
        before = root.handlers[:], root.level
        try:
            explain_signal(Request(signal=signal, **options), config, bus, source, str(path))
        finally:
            root.handlers[:], root.level = before
        return capsys.readouterr().out

    return execute


def section(text: str, title: str) -> dict[str, str]:
    """The rows under a heading that begins so; of a row that comes twice the last."""
    part = next(one for one in text.split("\n\n") if one.lstrip("\n").startswith(title))
    rows = [re.split(r"  +", line.strip(), maxsplit=1) for line in part.strip("\n").splitlines()[1:]]
    return {row[0]: row[1] if len(row) > 1 else "" for row in rows}


# what is known of a handler


def test_the_chain_stands_in_the_order_in_which_it_runs(explained: Explain) -> None:
    text = explained("sample.caption", plugins=CAPTIONS)
    heads = [line for line in text.splitlines() if re.match(r"\d  ", line)]
    assert [head.split()[1] for head in heads] == [
        "Affix.affix", "ShuffleTags.shuffle", "ShuffleTags.take_out", "DropCaption.drop",
    ]  # fmt: skip
    assert all(re.search(r"plugins/captions\.py:\d+$", head) for head in heads)


def test_a_priority_says_where_it_comes_from(explained: Explain) -> None:
    text = explained("sample.caption", plugins=CAPTIONS)
    assert section(text, "1  Affix")["priority"] == "5, by the config for this signal; the decorator says 20"
    assert section(text, "2  Shuf")["priority"] == "20, by the config for all of its handlers; the decorator says 50"
    assert section(text, "4  Drop")["priority"] == "30, by the decorator"


def test_settings_of_the_config_and_defaults_are_apart_and_secrets_are_neither(explained: Explain) -> None:
    text = explained(
        "checkpoint.saved", plugins=plugin("plugins.webhook.Webhook", url="https://example.com/hooks/a1b2c3d4e5f6")
    )
    rows = section(text, "1  Webhook")
    assert rows["settings"] == 'url = "https://example.com/[redacted]"'
    assert "timeout_seconds = 5.0" in rows["by default"]
    assert "a1b2c3d4e5f6" not in text


def test_it_says_where_a_handler_runs(explained: Explain) -> None:
    text = explained("sample.caption", "data.workers=2", plugins=CAPTIONS)
    assert section(text, "1  Affix")["runs"] == "in 2 loader workers, on an instance of the plugin of its own"
    text = explained("sample.image", "cache.latents=true", plugins=plugin("PaintInPlace"))
    assert section(text, "1  Paint")["runs"].endswith("only when a picture's latents are not in the cache")
    text = explained("checkpoint.saved", plugins=plugin("plugins.webhook.Webhook", url="https://example.com/x"))
    assert section(text, "1  Webhook")["runs"].startswith("in the background thread, beside training; while 4 events")
    text = explained("build.weight", plugins=plugin("plugins.min_snr.MinSnr"))
    assert section(text, "1  MinSnr")["runs"] == "in the training process, once, before the first step"


def test_it_says_on_which_of_several_processes_a_handler_runs_where_that_is_not_all(explained: Explain) -> None:
    def ranks(signal: str, use: str, place: str = "1", **settings: Any) -> str | None:
        text = explained(signal, plugins=plugin(use, **settings))
        return section(text, f"{place}  ").get("ranks")

    losses = "plugins.loss_by_image.LossByImage"
    assert ranks("metrics.ready", "plugins.metrics_file.MetricsFile") == (
        "of several processes the main one alone, as this signal has it"
    )
    assert ranks("model.ready", "plugins.ema.Ema") == "of several processes every one, as this signal has it"
    assert ranks("preview.start", "plugins.ema.Ema") == "of several processes every one"
    assert ranks("run.end", losses) == "of several processes every one, and they wait for each other (collective)"
    assert ranks("progress", "plugins.progress_bar.ProgressBar") == (
        "of several processes the main one alone, which is the only one to fire this"
    )
    assert ranks("build.weight", "plugins.min_snr.MinSnr") is None
    text = explained("run.end", plugins=plugin(losses, on_error="warn"))
    assert section(text, "1  ")["on error"].endswith("(always, since it is collective)")


def test_what_validation_goes_without_and_repeating_draws_are_named(explained: Explain) -> None:
    text = explained("sample.caption", plugins=CAPTIONS)
    assert section(text, "4  Drop")["validation"].startswith("goes without it")
    assert section(text, "4  Drop")["variations"] == "its draws come again after 4 showings of a picture"
    assert not {"validation", "variations"} & section(text, "1  Affix").keys()


def test_a_state_is_told_as_it_begins_and_as_the_newest_checkpoint_has_it(
    explained: Explain, train: Callable[..., Run]
) -> None:
    plugins = plugin("tests.core.plugins_for_tests.Counter") + plugin("plugins.ema.Ema")
    before = section(explained("step.end", plugins=plugins), "1  ")
    assert "steps = 0" in before["state"]
    assert "checkpoint" not in before
    train("train.steps=2", plugins=plugins)
    after = explained("step.end", plugins=plugins)
    assert "that of step 2 holds" in section(after, "1  ")["checkpoint"]
    assert "steps = 2" in section(after, "1  ")["checkpoint"]
    held = section(explained("model.ready", plugins=plugins), "1  Ema")
    assert re.search(r"means: \d+ tensors", held["checkpoint"])


def test_a_plugin_that_came_later_has_nothing_in_the_checkpoint(explained: Explain, train: Callable[..., Run]) -> None:
    train("train.steps=1")
    text = explained("epoch.end", plugins=plugin("plugins.example_plugin.ExampleLoggingPlugin"))
    assert section(text, "1  ")["checkpoint"].endswith("holds nothing of ExampleLoggingPlugin, which is new then")


# examples


def test_a_caption_is_shown_before_and_after_each_handler(explained: Explain) -> None:
    text = explained("sample.caption", plugins=CAPTIONS, item="fox")
    assert section(text, "sample.caption")["example"].startswith("pictures/animals/fox.png, sample ")
    first = section(text, "1  Affix")
    assert (first["before"], first["after"]) == ('"fox"', '"a fox"')
    assert first["changed"] == 'put in "a"'
    assert section(text, "2  Shuf")["example"] == '"a fox" stays as it is'
    last = section(text, "4  Drop")
    assert (last["before"], last["after"]) == ('"a fox"', "(empty)")
    assert section(text, "Behind the chain")["the model reads"] == "(empty)"


def test_the_first_sample_that_the_chain_changes_is_chosen(explained: Explain) -> None:
    text = explained("sample.settings", plugins=plugin("Weigh"))
    assert section(text, "sample.settings")["example"].startswith("pictures/birds/owl.png, sample ")
    assert section(text, "sample.settings")["example"].endswith("the first that this chain changes")
    assert section(text, "1  Weigh")["before"] == "loss scale 1, extras: none"
    assert section(text, "1  Weigh")["after"] == "loss scale 0.5, extras: bird = True"


def test_the_sample_of_a_number_is_that_of_the_plan(explained: Explain) -> None:
    texts = [explained("sample.caption", plugins=CAPTIONS, sample=number) for number in (1, 2)]
    shown = [section(text, "sample.caption")["example"] for text in texts]
    assert shown[0] != shown[1]
    assert [one.partition(", ")[2] for one in shown] == ["sample 1 of the first epoch", "sample 2 of the first epoch"]


def test_a_picture_is_told_in_words_and_written_as_png(explained: Explain, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    text = explained("sample.image", plugins=plugin("PaintInPlace"), item="pictures/animals/fox.png", out=out)
    rows = section(text, "1  Paint")
    assert re.fullmatch(r"64 × 64 RGB, mean colour #[0-9a-f]{6}", rows["before"])
    assert rows["changed"].startswith("2 % of its pixels, by ")  # 100 of 4,096
    names = ["sample.image-0-before.png", "sample.image-1-PaintInPlace.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    before, after = (Image.open(out / name) for name in names)
    assert before.getpixel((0, 0)) != after.getpixel((0, 0)) == (0, 0, 255)


def test_pixels_are_told_in_their_own_range(explained: Explain) -> None:
    rows = section(explained("sample.pixels", plugins=plugin("Darken"), sample=1), "1  Darken")
    assert "32 × 32, mean colour #" in rows["before"]
    assert re.search(r"values from -1\.00 to -?0\.\d\d", rows["after"])


def test_items_that_came_and_went_are_counted_and_named(explained: Explain) -> None:
    text = explained("data.items", plugins=plugin("OnlyBirds"))
    rows = section(text, "1  OnlyBirds")
    assert (rows["before"], rows["after"]) == ("10 pictures", "2 pictures")
    assert rows["went"].startswith("8, such as pictures/animals/fox.png, ")
    assert section(text, "Behind the chain")["trained on"] == "2 pictures"


def test_a_plan_is_told_in_samples_and_batches(explained: Explain) -> None:
    rows = section(explained("epoch.plan", plugins=plugin("LastBatchOut")), "1  LastBatchOut")
    assert (rows["before"], rows["after"]) == ("10 samples in 3 batches", "6 samples in 2 batches")
    assert rows["went"].startswith("4, such as pictures/")


def test_a_batch_is_told_by_what_is_another(explained: Explain) -> None:
    rows = section(explained("batch.host", plugins=plugin("HalfWeights")), "1  HalfWeights")
    assert re.match(r"(\d) samples: pixels \(\1, 3, 32, 32\), ", rows["before"])
    assert rows["changed"] == "weight"


def test_a_config_is_told_by_its_keys(explained: Explain) -> None:
    text = explained("run.configure", plugins=plugin("tests.core.plugins_for_tests.Reconfigure"))
    assert " became " in section(text, "1  Reconfigure")["changed"]


def test_without_an_example_it_says_so_in_one_line(explained: Explain) -> None:
    for signal, what in (("step.end", "it tells of a run"), ("build.loss", "it is made with the model")):
        assert section(explained(signal), signal)["example"] == f"none without training: {what}"
    assert section(explained("metrics.record"), "metrics.record")["example"].startswith("none without training: ")


def test_nobody_is_told_of_a_run_that_is_none(explained: Explain, tmp_path: Path) -> None:
    told = tmp_path / "told"
    explained("sample.caption", plugins=CAPTIONS + plugin("tests.core.plugins_for_checks.TellData", file=str(told)))
    assert not told.exists()
    assert not (tmp_path / "runs").exists()


# what is wrong


def test_an_unknown_signal_is_told_with_what_could_be_meant(explained: Explain) -> None:
    for wrong in ("sample.captoin", "caption"):
        with pytest.raises(ConfigError, match=f"'{wrong}' is no signal; did you mean 'sample.caption'"):
            explained(wrong)


def test_an_unknown_item_is_told_with_what_could_be_meant(explained: Explain) -> None:
    with pytest.raises(
        ConfigError, match=r"'animals/fx.png' is no item of the data; did you mean 'pictures/animals/fox"
    ):
        explained("sample.caption", plugins=CAPTIONS, item="animals/fx.png")
    with pytest.raises(ConfigError, match=r"--sample  11, but the first epoch has 10 samples"):
        explained("sample.caption", plugins=CAPTIONS, sample=11)


def test_options_without_a_meaning_are_refused_together(explained: Explain, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        explained("step.end", sample=1, item="fox", out=tmp_path)
    assert len(caught.value.problems) == 4


def test_a_handler_that_fails_is_raised_behind_what_is_known(
    explained: Explain, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PluginError, match=r"FailOnOwls failed in FailOnOwls\.fail .* an owl"):
        explained("sample.caption", plugins=plugin("FailOnOwls"), item="owl")
    text = capsys.readouterr().out
    assert section(text, "1  FailOnOwls")["priority"] == "50, by the decorator"
    assert section(text, "sample.caption")["example"].startswith("could not be made")


# on the command line


def test_the_command_line_takes_it_and_stays_light_for_what_runs_in_training(write_config: Callable[..., Path]) -> None:
    path = write_config(plugin("plugins.min_snr.MinSnr"))
    assert loaded_by("plan", str(path), "--explain", "build.weight") == set()
    done = run_py("plan", str(path), "--item", "fox")
    assert done.returncode == 2
    assert "name a signal with it" in done.stderr


def test_every_signal_can_be_explained(write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    import run
    from core.explain.chain import handler_rows, links_of, signal_rows
    from core.log.redaction import BY_LOOKS

    path = write_config(plugin("tests.core.plugins_for_tests.NoOp"))
    config = run.load(path, [])
    bus, source = run.assemble_bus(config, path)
    assert all(isinstance(table, PluginTable) for table in source.tables)
    for signal in bus.signals:
        links = links_of(bus, source.tables, signal.spec)
        assert links, signal.name
        rows = [*signal_rows(signal.spec, links), *handler_rows(links[0], signal.spec, config, BY_LOOKS)]
        assert all(name and said for name, said in rows), signal.name
    bus.close()
