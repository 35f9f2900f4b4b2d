"""Rooms for runs on several processes, and the runs that tests of several files look at, which take place once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.ranks.launching import train_here, train_in_processes
from tests.small_runs import CONFIG, Run

NewRoom = Callable[..., Path]
DRAWING = """
[[plugins]]
use = "plugins.captions.ShuffleTags"
[[plugins]]
use = "plugins.captions.DropCaption"
probability = 0.5
[[plugins]]
use = "plugins.noise_offset.NoiseOffset"
[[plugins]]
use = "plugins.input_perturbation.InputPerturbation"
[[plugins]]
use = "plugins.embedding_noise.EmbeddingNoise"
[[plugins]]
use = "plugins.min_snr.MinSnr"
[[plugins]]
use = "plugins.ema.Ema"
[[plugins]]
use = "plugins.metrics_file.MetricsFile"
[[plugins]]
use = "tests.core.plugins_for_tests.Jitter"
[[plugins]]
use = "tests.core.plugins_for_tests.ExtraNoise"
[[plugins]]
use = "tests.core.ranks.plugins_for_equality.Dropout"
[[plugins]]
use = "tests.core.ranks.plugins_for_equality.Witness"
"""
"""Plugins that draw wherever one may, and one that notes what each rank has trained on."""


@pytest.fixture(scope="session")
def new_room(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, picture_folder: Path) -> NewRoom:
    """Write the config of a small quick run into a folder of its own: `new_room("equality", plugins)`."""

    def write(name: str, plugins: str = "") -> Path:
        folder = tmp_path_factory.mktemp(name)
        values = {"dir": folder / "runs", "model": model_folder, "data": picture_folder, "cache": folder / "cache"}
        path = folder / "config.toml"
        path.write_text(CONFIG.format(**{key: json.dumps(str(value)) for key, value in values.items()}) + plugins)
        return path

    return write


@pytest.fixture(scope="session")
def drawing_room(new_room: NewRoom) -> Path:
    """The config of runs in which whatever may draw does. Of ten pictures a step of 2 batches leaves a short last one."""
    return new_room("drawing", DRAWING)


@pytest.fixture(scope="session")
def alone(drawing_room: Path) -> Run:
    """Seven steps of 2 rounds by one process."""
    return train_here(drawing_room, "run.name=alone", "train.accumulate=2")


@pytest.fixture(scope="session")
def together(drawing_room: Path) -> Run:
    """Seven steps by two processes, each with a loader worker, started as a shell does."""
    return train_in_processes(drawing_room, "run.name=together", "data.workers=1", cold=True)
