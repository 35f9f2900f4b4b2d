"""The bundled plugins in real runs: each leaves what it promises, and a resumed run leaves the same."""

import json
from collections.abc import Callable

import pytest

from tests.small_runs import Run, assert_same_state, reports

PLUGINS = """
[[plugins]]
use = "plugins.captions.ShuffleTags"
[[plugins]]
use = "plugins.captions.DropCaption"
[[plugins]]
use = "plugins.image_color.Gamma"
[[plugins]]
use = "plugins.min_snr.MinSnr"
[[plugins]]
use = "plugins.noise_offset.NoiseOffset"
[[plugins]]
use = "plugins.ema.Ema"
[[plugins]]
use = "plugins.metrics_file.MetricsFile"
[[plugins]]
use = "plugins.tensorboard.TensorBoard"
[[plugins]]
use = "plugins.progress_bar.ProgressBar"
[[plugins]]
use = "plugins.preview_evolution.PreviewEvolution"
[[plugins]]
use = "plugins.prompt_recall.PromptRecall"
count = 2
"""
PREVIEWS = ("preview.at_start=true", "preview.at_end=true", "preview.every_steps=3")


@pytest.fixture
def whole(train: Callable[..., Run]) -> Run:
    return train("run.name=whole", *PREVIEWS, plugins=PLUGINS)


def test_each_leaves_what_it_promises(whole: Run) -> None:
    assert [line["step"] for line in reports(whole.folder)] == [2, 4, 6, 7]
    assert (whole.folder / "previews" / "evolution.png").is_file()
    assert json.loads((whole.folder / "prompt_recall.json").read_text())["pictures"] == 10
    assert list((whole.folder / "tensorboard").glob("events.out.tfevents.*"))


def test_a_resumed_run_leaves_the_same(whole: Run, train: Callable[..., Run]) -> None:
    train("train.steps=4", *PREVIEWS, plugins=PLUGINS)
    resumed = train(*PREVIEWS, plugins=PLUGINS)
    assert_same_state(resumed, whole)
    assert reports(resumed.folder) == reports(whole.folder)
    assert (resumed.folder / "prompt_recall.json").read_text() == (whole.folder / "prompt_recall.json").read_text()
