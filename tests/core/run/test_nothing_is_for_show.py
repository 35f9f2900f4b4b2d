"""Every signal of the catalogue fires in some run, and every key of the config is read in one by what it is for."""

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pydantic import BaseModel

from core.config.tables import Config, Table
from events.catalogue import CATALOGUE
from events.errors import PluginError
from tests.core.checking import checked
from tests.core.plugins_for_tests import HearAll
from tests.small_runs import Run

HEAR = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.HearAll"\n'
ASK = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.AskForPreview"\n'
FAIL = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.Failing"\n'
EVERYTHING = (
    "preview.at_end=true", "export.at_end=true", "validation.fraction=0.2", "validation.every_steps=2",
    "cache.latents=true", "cache.text=true", 'model.train=["unet"]',
)  # fmt: skip
WITH_WORKERS = (
    "run.name=workers",
    "train.steps=3",
    "train.warmup_steps=0",
    "data.workers=1",
    'train.schedule="cosine"',
)
WITH_RULES = (
    "run.name=rules", "train.steps=2", "train.warmup_steps=0", 'train.schedule="polynomial"', 'data.on_bad="skip"',
    'train.parameters=[{match = "unet.conv_in.*", lr = 1e-4, weight_decay = 0.0}, {match = "unet.conv_out.*", freeze = true}]',
)  # fmt: skip
BESIDE_OTHERS = {
    ("DistributedTable", "offload"): "core.ranks.sharding",
    ("DistributedTable", "wrap"): "core.ranks.sharding",
    ("DistributedTable", "wait_seconds"): "core.ranks.crew",
    ("ModelTable", "base_config"): "core.families.parts.folder",
    ("TrainTable", "tf32"): "core.compute.device",
    ("LogTable", "level"): "run",
}
"""Keys that these runs have no use for: of several processes, a GPU, a single file, the terminal; and who reads them."""


class Reads:
    """Which keys of which table were read, apart from the config's own checks of them."""

    def __init__(self) -> None:
        self.keys: set[tuple[str, str]] = set()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        def read(table: Table, name: str) -> Any:
            if name in type(table).model_fields and is_use(sys._getframe(1)):
                self.keys.add((type(table).__name__, name))
            return object.__getattribute__(table, name)

        patch.setattr(Table, "__getattribute__", read)


def is_use(caller: FrameType) -> bool:
    """A property of a table is read for whoever asks for it; its validators read for nobody."""
    module = caller.f_globals.get("__name__", "")
    if module == "core.config.tables":
        kind = type(caller.f_locals.get("self"))
        return isinstance(inspect.getattr_static(kind, caller.f_code.co_name, None), property)
    return not module.startswith(("pydantic", "core.config"))


def keys_of(kind: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Of a table and of those in it."""
    for name, field in kind.model_fields.items():
        yield kind.__name__, name
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, Table):
                yield from keys_of(inner)


def reads_of(module: str) -> set[str]:
    """The attributes that its code reads."""
    source = Path(str(import_module(module).__file__)).read_text()
    nodes = ast.walk(ast.parse(source))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    reads = Reads()
    reads.install(monkeypatch)
    return reads


def test_every_signal_fires_and_every_key_is_read(
    train: Callable[..., Run], write_config: Callable[..., Path], reads: Reads
) -> None:
    HearAll.heard.clear()
    train("train.steps=3", *EVERYTHING, plugins=HEAR + ASK)
    train("train.steps=4", *EVERYTHING, plugins=HEAR + ASK)
    with pytest.raises(PluginError):
        train("run.name=failing", "train.steps=4", *EVERYTHING, plugins=HEAR + FAIL)
    assert {spec.name for spec in CATALOGUE} == HearAll.heard
    train(*WITH_WORKERS)
    train(*WITH_RULES)
    for strategy in ("fsdp", "deepspeed"):
        checked(write_config(), f"distributed.strategy={strategy}", "run.name=several", processes=2)
    unread = set(keys_of(Config)) - reads.keys
    assert unread == set(BESIDE_OTHERS)


@pytest.mark.parametrize(("key", "module"), BESIDE_OTHERS.items())
def test_what_such_a_run_does_not_use_has_its_reader(key: tuple[str, str], module: str) -> None:
    assert key[1] in reads_of(module)
