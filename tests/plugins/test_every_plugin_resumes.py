"""Every bundled plugin: a run that ends after step 3 and goes on comes to the bits of one that was never disturbed.

A new plugin is put through it without being named here. One that has a state and no `state_dict` fails.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from events import Plugin
from tests.plugins.bundled_plugins import KINDS, NEEDED
from tests.small_runs import Run, assert_same

STEPS, STOP = 5, 3
SMALL = (f"train.steps={STEPS}", f"checkpoint.every_steps={STOP}", "checkpoint.keep=9", "train.batch_size=3")
MEASURED = ("validation.fraction=0.3", "validation.every_steps=1")
RENDERED = ("preview.every_steps=2", "preview.at_start=true", "preview.at_end=true", "preview.count=1")
OVERRIDES: dict[str, tuple[str, ...]] = {
    "KeepBest": MEASURED,
    "EarlyStop": MEASURED,
    "Ema": MEASURED,
    "PreviewEvolution": RENDERED,
    "PromptRecall": RENDERED,
}
"""What some need to have anything to do; without an entry a plugin is tried all the same."""
OWN_SETTINGS: dict[str, dict[str, Any]] = {
    "AccumulationRamp": {"end": 3, "epochs": 2},
    "EarlyStop": {"patience": 99},
    "Ema": {"decay": 0.5, "every_steps": 2},
    "LearningRateFinder": {"high": 1e-3, "steps": 0},
    "LossByImage": {"noise_from": 0.0},
    "PromptRecall": {"count": 1},
    "RollingCheckpoint": {"every_epochs": 0.5},
}


def table_of(kind: type[Plugin], settings: Mapping[str, Any]) -> str:
    lines = "".join(f"{key} = {toml(value)}\n" for key, value in settings.items())
    return f'\n[[plugins]]\nuse = "{kind.__module__}.{kind.__qualname__}"\n{lines}'


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {json.dumps(word)}" for key, word in value.items()) + " }"
    return json.dumps(value)


@pytest.fixture
def try_plugin(train: Callable[..., Run]) -> Callable[..., None]:
    """Train, take back all that came after the stop, go on from there, and compare."""

    def try_it(table: str, *overrides: str) -> None:
        whole = train(*SMALL, *overrides, plugins=table)
        expected, checkpoints = whole.state(), whole.folder / "checkpoints"
        assert expected["step"] == f"step-{STEPS:08d}"
        for path in checkpoints.glob("step-*"):
            if int(path.name.removeprefix("step-")) > STOP:
                shutil.rmtree(path)
        assert (checkpoints / f"step-{STOP:08d}").is_dir()
        assert_same(train(*SMALL, *overrides, plugins=table).state(), expected)

    return try_it


@pytest.fixture
def needed(train: Callable[..., Run], picture_folder: Path) -> Callable[[str], dict[str, Any]]:
    """Settings without which a plugin cannot be tried."""

    def make(name: str) -> dict[str, Any]:
        if name == "PriorPreservation":
            return {"folder": str(picture_folder / "hearts")}
        if name == "MergeLora":
            lora = '\n[[plugins]]\nuse = "plugins.lora.Lora"\n'
            adapter = train(
                "run.name=adapter", "train.steps=1", "export.at_end=true", "export.model=false", plugins=lora
            )
            return {"file": str(next((adapter.folder / "exports").iterdir()))}
        return NEEDED.get(name, {}) | OWN_SETTINGS.get(name, {})

    return make


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_resumed_it_ends_as_it_would_have(
    kind: type[Plugin], try_plugin: Callable[..., None], needed: Callable[[str], dict[str, Any]]
) -> None:
    try_plugin(table_of(kind, needed(kind.__name__)), *OVERRIDES.get(kind.__name__, ()))


FORGETFUL = '\n[[plugins]]\nuse = "tests.plugins.forgetful_plugins.{}"\n'


@pytest.mark.parametrize("name", ["ForgetsItsCount", "DrawsFromEverybodys"])
def test_a_plugin_that_cannot_be_resumed_fails_it(try_plugin: Callable[..., None], name: str) -> None:
    with pytest.raises(AssertionError):
        try_plugin(FORGETFUL.format(name))


def test_a_plugin_that_stores_its_count_passes_it(try_plugin: Callable[..., None]) -> None:
    try_plugin(FORGETFUL.format("KeepsItsCount"))
