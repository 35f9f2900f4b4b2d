"""What is wrong with the plugins of a config is said before anything is loaded, with exit code 2."""

from pathlib import Path
from typing import Any

import pytest

from core.config.file import validate
from core.errors import ConfigError
from tests.warm import run_py

AFFIX = "plugins.captions.Affix"


def config_problems(*plugins: Any) -> list[str]:
    config, found = validate({"model": {"path": "m"}, "data": {"root": "d"}, "plugins": list(plugins)})
    assert config is None
    return found


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"use": AFFIX, "on_error": "ignore"},
            "plugins[1].on_error  'ignore': input should be 'raise', 'warn' or 'disable'",
        ),
        ({"prefix": "a "}, "plugins[1].use  is missing"),
        ({"use": "not a path"}, "plugins[1].use  'not a path'"),
        ({"use": AFFIX, "enabled": "maybe"}, "plugins[1].enabled  'maybe'"),
        ({"use": AFFIX, "priority": "high"}, "plugins[1].priority"),
        ({"use": AFFIX, "priority": {"sample.caption": "high"}}, "plugins[1].priority"),
        (5, "plugins[1]  5"),
    ],
)
def test_a_wrong_table_is_named_by_its_place_in_the_list(entry: Any, said: str) -> None:
    assert config_problems(AFFIX, entry)[0].startswith(said)


BROKEN = """
from events import Plugin, on, transform

class Hasty(Plugin):
    @on("epoch.ends")
    def note(self, event): ...

    @transform("sample.caption")
    def change(self, caption): ...
"""
CONFIG = """
plugins = ["hasty_plugin.Hasty", "plugins.captions.Affix"]
[model]
path = "."
[data]
root = "."
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


@pytest.fixture(scope="module")
def refused(folder: Path) -> Any:
    (folder / "hasty_plugin.py").write_text(BROKEN)
    (folder / "config.toml").write_text(CONFIG)
    return run_py("train", "config.toml", cwd=folder)


def test_a_run_with_a_wrong_handler_ends_with_the_exit_code_of_a_config_error(refused: Any) -> None:
    assert refused.returncode == ConfigError.exit_code == 2


def test_every_wrong_handler_is_shown_with_place_and_remedy_and_without_a_traceback(refused: Any) -> None:
    head, *told = refused.stderr.splitlines()
    assert head == "config.toml: 2 problems"
    assert "hasty_plugin.py:5: Hasty: Hasty.note subscribes to 'epoch.ends'" in told[0]
    assert told[0].endswith("did you mean 'epoch.end'?")
    assert "hasty_plugin.py:8: Hasty: Hasty.change: a handler of sample.caption takes (self, value, context)" in told[1]
    assert "Traceback" not in refused.stderr


def test_nothing_is_trained_by_a_run_that_is_refused(refused: Any, folder: Path) -> None:
    assert list(folder.rglob("metrics.jsonl")) == []
    assert list(folder.rglob("*.safetensors")) == []
