"""What a plugin says would go wrong with it keeps a run from starting, all of it together and before anything is made."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.attached.checks import plugin_problems, require_fit_plugins
from core.errors import ConfigError
from events import Plugin
from events.bus import Bus
from events.plugin import PluginTable
from tests.core.checking import checked
from tests.core.plugins_for_checks import CannotCheck, ForgetsToReturn, Needs, SaysOne
from tests.core.surveying import plugin
from tests.small_runs import Run

CHECKS = "tests.core.plugins_for_checks."
NEEDS = plugin(CHECKS + "Needs", problems=["port 80 is in use", "there is no program called banana"])


def bus_of(*plugins: Plugin) -> Bus:
    bus = Bus()
    tables = [
        PluginTable(use="x.Y", name=type(one).__name__, position=place, settings={})
        for place, one in enumerate(plugins)
    ]
    bus.attach(list(zip(plugins, tables, strict=True)))
    return bus


def test_by_default_nothing_would_go_wrong() -> None:
    assert plugin_problems(bus_of(Plugin(), ForgetsToReturn())) == []


def test_everything_is_told_of_every_plugin_with_its_name() -> None:
    needs = Needs(Needs.Settings(problems=("one", "two")))
    assert plugin_problems(bus_of(needs, SaysOne())) == [
        "Needs  one", "Needs  two", "SaysOne  there is no program called banana",
    ]  # fmt: skip


def test_a_check_that_fails_is_a_problem_like_any_other() -> None:
    assert plugin_problems(bus_of(CannotCheck(), SaysOne())) == [
        "CannotCheck  port 80 is in use",
        "CannotCheck  its own check failed: LookupError: where is it?",
        "SaysOne  there is no program called banana",
    ]
    with pytest.raises(ConfigError, match="plugins: 3 problems"):
        require_fit_plugins(bus_of(CannotCheck(), SaysOne()))


def test_a_run_does_not_start_and_leaves_no_folder(train: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(plugins=NEEDS)
    assert caught.value.exit_code == 2
    assert caught.value.problems == ("Needs  port 80 is in use", "Needs  there is no program called banana")
    assert not (tmp_path / "runs").exists()


def test_check_tells_the_same(write_config: Callable[..., Path]) -> None:
    _, problems = checked(write_config(NEEDS))
    assert problems == ["Needs  port 80 is in use", "Needs  there is no program called banana"]
