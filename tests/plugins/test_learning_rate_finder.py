"""LearningRateFinder raises the rate in a run of its own, stops where the loss diverges, and plots what it found."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from core.config.tables import TrainTable
from core.step.learning_rate import learning_rate_factor
from events import Plugin, on
from events.payloads import LearningRateFunction, StepEnd
from events.testing import Harness, checkpoint_loaded, metrics_ready, model_context, run_end, run_info, run_start
from plugins.learning_rate_finder import LearningRateFinder, Ramp, find, has_diverged, plot, round_numbers, smooth
from tests.small_runs import Run, assert_same_state

FINDER = '[[plugins]]\nuse = "plugins.learning_rate_finder.LearningRateFinder"\n'
RATES = '[[plugins]]\nuse = "tests.plugins.test_learning_rate_finder.Rates"\n'
RAMP = Ramp(low=1e-6, high=1.0, steps=121)
"""Twenty steps to each power of ten."""


class Rates(Plugin):
    """Notes the learning rates of each step."""

    seen: list[dict[str, float]]

    @on("step.end")
    def note(self, event: StepEnd) -> None:
        self.seen = [*getattr(self, "seen", []), dict(event.learning_rates)]


def valley(steps: int = 121) -> list[float]:
    """Losses that fall from 1 to 0.2, most steeply at 1e-4, are lowest at 2.8e-3, and rise from there on."""
    logs = [math.log10(RAMP.rate(step)) for step in range(steps)]
    return [0.2 + 0.8 / (1 + math.exp(4 * (x + 4))) + 0.02 * 10 ** (x + 2) for x in logs]


def finder(folder: Path, **settings: object) -> tuple[Harness, LearningRateFinder]:
    plugin = LearningRateFinder(LearningRateFinder.Settings.model_validate(settings))
    harness = Harness(plugin)
    run, table = run_info(folder, name="roses-finder", steps=121), {"train": {"learning_rate": 1e-4}}
    harness.emit("run.start", run_start(run=run, config=table))
    return harness, plugin


def report(harness: Harness, folder: Path, losses: list[float]) -> dict[str, object]:
    for step, loss in enumerate(losses, 1):
        harness.emit("metrics.ready", metrics_ready(step=step, values={"loss": loss}))
    harness.emit("run.end", run_end(run=run_info(folder, name="roses-finder", steps=121)))
    found: dict[str, object] = json.loads((folder / "learning_rate.json").read_text())
    return found


def test_the_rate_rises_by_the_same_factor_each_step(tmp_path: Path) -> None:
    harness, _ = finder(tmp_path, low=1e-6, high=1e-2)
    plain: LearningRateFunction = learning_rate_factor(TrainTable())
    factor = harness.compose("schedule", plain, model_context(steps=5))
    rates = [1e-4 * factor(step) for step in range(5)]
    assert rates == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])


def test_it_suggests_the_steepest_fall_and_a_tenth_of_the_lowest(tmp_path: Path) -> None:
    harness, _ = finder(tmp_path, low=1e-6, high=1.0)
    result = report(harness, tmp_path, valley())
    assert result["steepest"] == pytest.approx(1e-4, rel=0.15)
    assert result["lowest"] == pytest.approx(2.8e-3, rel=0.15)
    assert result["tenth_of_lowest"] == pytest.approx(result["lowest"] / 10)  # type: ignore[operator]  # a number


def test_noise_of_single_steps_does_not_mislead_it() -> None:
    noise = [1.4 if step % 3 else 0.6 for step in range(121)]
    losses = [loss * factor for loss, factor in zip(valley(), noise, strict=True)]
    assert find(losses, RAMP, 0.05).steepest == pytest.approx(1e-4, rel=0.3)
    plain = find(losses, RAMP, 0.0)
    assert plain.smoothed == pytest.approx(plain.losses)
    assert plain.steepest != pytest.approx(1e-4, rel=0.9)


def test_a_loss_that_does_not_fall_suggests_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    harness, _ = finder(tmp_path)
    with caplog.at_level("INFO"):
        result = report(harness, tmp_path, [0.2 + 0.01 * step for step in range(40)])
    assert (result["steepest"], result["tenth_of_lowest"]) == (None, None)
    assert "nothing is suggested" in caplog.text


def test_it_ends_once_the_running_mean_is_so_many_times_its_lowest() -> None:
    calm = [0.5] * 30
    assert not has_diverged([*calm, 8.0], 4.0)  # one burst is none
    assert has_diverged([*calm, *[8.0] * 4], 4.0)
    assert not has_diverged([*calm, *[8.0] * 4], 20.0)


def test_the_first_steps_are_too_few_to_say_that_it_diverged() -> None:
    assert not has_diverged([0.01, *[0.5] * 9], 4.0)


def test_steps_without_a_loss_are_left_out_and_only_many_in_a_row_end_it() -> None:
    """With float16 the first few may have none."""
    assert not has_diverged([math.nan] * 9, 4.0)
    assert has_diverged([0.5, *[math.nan] * 10], 4.0)
    found = find([math.nan, math.inf, *valley()[2:]], RAMP, 0.03)
    assert found.rates[0] == pytest.approx(RAMP.rate(2))
    assert found.steepest == pytest.approx(1e-4, rel=0.15)


def test_smoothing_keeps_what_is_even_and_spreads_a_burst() -> None:
    assert smooth([0.5] * 20, 3.0) == pytest.approx([0.5] * 20)
    spread = smooth([1.0] * 10 + [100.0] + [1.0] * 10, 2.0)
    assert max(spread) == spread[10] < 3


def test_the_plot_names_its_axes_and_marks_its_suggestions(tmp_path: Path) -> None:
    harness, _ = finder(tmp_path, low=1e-6, high=1.0)
    report(harness, tmp_path, valley())
    picture = ElementTree.parse(tmp_path / "learning_rate.svg").getroot()
    said = ["".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"learning rate", "loss", "1e-4", "1e0", "Loss by learning rate: roses-finder"} <= set(said)
    assert [text for text in said if text.startswith(("steepest", "a tenth", "lowest"))] == [
        "steepest fall: 8.9e-05", "a tenth of the lowest: 0.00028", "lowest: 0.0028",
    ]  # fmt: skip
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}circle"))) == 121


@pytest.mark.parametrize("losses", [[], [0.5], [math.nan] * 12, [0.5, 0.4]])
def test_a_run_that_ended_early_still_leaves_a_picture(losses: list[float]) -> None:
    picture = ElementTree.fromstring(plot("a < b & c", find(losses, RAMP, 0.03)))
    assert picture.tag.endswith("}svg")
    assert any("a < b & c" in part for part in picture.itertext())


def test_the_numbers_at_the_axis_are_round() -> None:
    for top in (1.0, 0.73, 12.0, 3.3e-5):
        numbers = round_numbers(top)
        assert 4 <= len(numbers) <= 11
        assert numbers[0] == 0
        assert numbers[-1] <= top * (1 + 1e-9)


def test_a_ramp_that_does_not_rise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"low = 0\.1 is not below high = 0\.01"):
        LearningRateFinder.Settings(low=0.1, high=0.01)


def test_a_real_run_is_one_of_its_own_and_leaves_no_model(train: Callable[..., Run]) -> None:
    run = train(
        "export.at_end=true", "preview.at_end=true", "log.every_steps=50", "train.steps=500",
        plugins=FINDER + "low = 1e-6\nhigh = 1e-3\nsteps = 13\n" + RATES,
    )  # fmt: skip
    assert run.folder.name == "test-finder"
    assert not list((run.folder / "exports").glob("*"))
    assert not list((run.folder / "previews").glob("*"))
    result = json.loads((run.folder / "learning_rate.json").read_text())
    rates = [rates["unet"] for rates in run.bus.plugins["Rates"].seen]  # type: ignore[union-attr]  # it is attached
    assert rates == pytest.approx([1e-6 * 10 ** (step / 4) for step in range(13)])
    assert result["rates"] == pytest.approx(rates)
    assert len(result["losses"]) == 13
    assert (run.folder / "learning_rate.svg").is_file()


def test_groups_keep_their_proportion(train: Callable[..., Run]) -> None:
    run = train(
        "train.text_encoder_learning_rate=1e-4",
        plugins=FINDER + "low = 1e-5\nhigh = 1e-2\nsteps = 4\n" + RATES,
    )
    last = run.bus.plugins["Rates"].seen[-1]  # type: ignore[union-attr]  # it is attached
    assert last == pytest.approx({"unet": 1e-2, "text_encoder": 1e-3})


def test_a_real_run_stops_where_it_diverges_and_stays_stopped(train: Callable[..., Run]) -> None:
    plugins = FINDER + "low = 1e-3\nhigh = 1e6\nsteps = 60\ndiverged = 2.0\n"
    run = train(plugins=plugins)
    steps = len(json.loads((run.folder / "learning_rate.json").read_text())["losses"])
    assert 10 < steps < 60
    again = train(plugins=plugins)
    assert again.state()["step"] == run.state()["step"]


def test_resumed_it_finds_the_same(train: Callable[..., Run]) -> None:
    plugins = FINDER + "low = 1e-5\nhigh = 1e-3\nsteps = 0\n"
    settings = ("train.batch_size=5", "checkpoint.every_steps=3", "checkpoint.keep=3")
    whole = train("run.name=whole", "train.steps=9", *settings, plugins=plugins)
    result = (whole.folder / "learning_rate.json").read_text()
    half = train("train.steps=9", *settings, plugins=plugins)
    for step in (6, 9):
        shutil.rmtree(half.folder / "checkpoints" / f"step-{step:08d}")
    resumed = train("train.steps=9", *settings, plugins=plugins)
    assert_same_state(resumed, whole)
    assert (resumed.folder / "learning_rate.json").read_text() == result


def test_a_run_that_had_diverged_ends_before_its_next_step() -> None:
    plugin = LearningRateFinder()
    plugin.load_state_dict({"losses": [0.5] * 20, "is_over": True})
    harness, begun = Harness(plugin), run_start(config={"train": {"learning_rate": 1e-4}}, resumed_step=20)
    harness.emit("run.start", begun)
    harness.emit("checkpoint.loaded", checkpoint_loaded(step=20))
    assert [request.kind for request in begun.control.take("stop")] == ["stop"]
