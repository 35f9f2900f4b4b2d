"""Every bundled plugin keeps the house rules: described settings, quick imports, and a state that a checkpoint takes."""

import inspect
import subprocess
import sys

import pytest
from pydantic import Field

from core.resuming.packing import pack, unpack
from events import Plugin, PluginSettings
from events.plugin import PluginTable
from events.testing import Harness
from plugins.loading import build_plugin
from tests.plugins.bundled_plugins import KINDS, NEEDED

HEAVY = {"torch", "numpy", "PIL", "rich", "tensorboard", "diffusers", "transformers", "accelerate", "wandb", "psutil"}


each_plugin = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def undescribed(kind: type[Plugin]) -> list[str]:
    return [name for name, field in kind.Settings.model_fields.items() if not field.description]


def build(kind: type[Plugin]) -> Plugin:
    use = f"{kind.__module__}.{kind.__name__}"
    table = PluginTable(use=use, name=kind.__name__, position=0, settings=NEEDED.get(kind.__name__, {}))
    return build_plugin(table)


def test_they_are_found() -> None:
    assert {"BasePlugin", "Ema", "MinSnr", "MetricsFile"} <= {kind.__name__ for kind in KINDS}


@each_plugin
def test_every_setting_is_described(kind: type[Plugin]) -> None:
    assert undescribed(kind) == []


def test_a_setting_without_a_description_is_noticed() -> None:
    class Silent(Plugin):
        class Settings(PluginSettings):
            told: int = Field(1, description="something")
            mute: int = 2

    assert undescribed(Silent) == ["mute"]


@each_plugin
def test_it_says_what_it_does(kind: type[Plugin]) -> None:
    assert inspect.getdoc(kind) not in (None, inspect.getdoc(Plugin))
    assert inspect.getdoc(sys.modules[kind.__module__])


@each_plugin
def test_it_is_built_and_attached_from_its_table(kind: type[Plugin]) -> None:
    with Harness(build(kind)) as harness:
        assert list(harness.bus.plugins) == [kind.__name__]


@each_plugin
def test_a_checkpoint_takes_its_state_and_gives_it_back(kind: type[Plugin]) -> None:
    state = build(kind).state_dict()
    packed = unpack(*pack(state, kind.__name__))
    again = build(kind)
    again.load_state_dict(packed)
    assert pack(again.state_dict(), kind.__name__)[0] == pack(state, kind.__name__)[0]


def test_heavy_libraries_load_only_when_they_are_needed() -> None:
    names = ", ".join(sorted({kind.__module__ for kind in KINDS}))
    told = f"import sys, {names}; print(sorted({HEAVY} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
