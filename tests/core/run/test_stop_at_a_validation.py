"""A stop goes before the validation that is due at its step; the run that goes on makes up for it."""

from collections.abc import Callable

import pytest

from events.errors import PluginError
from tests.core.plugins_for_validation import Spoiled
from tests.faults import plugins_for_misbehaviour
from tests.small_runs import Run, assert_same_state

PLUGINS = """
[[plugins]]
use = "tests.core.plugins_for_validation.Spoiled"
[[plugins]]
use = "plugins.keep_best.KeepBest"
[[plugins]]
use = "tests.core.plugins_for_tests.StopAt"
step = {}
"""
VALIDATED = ("train.steps=4", "validation.fraction=0.3", "validation.every_steps=2", "checkpoint.every_steps=0")


def test_the_resumed_run_has_every_measurement_and_what_follows_from_it(train: Callable[..., Run]) -> None:
    Spoiled.least_at = 2
    whole = train("run.name=whole", *VALIDATED, plugins=PLUGINS.format(99))
    train(*VALIDATED, plugins=PLUGINS.format(2))
    resumed = train(*VALIDATED, plugins=PLUGINS.format(99))
    assert_same_state(resumed, whole)
    history = resumed.state()["state"]["validation"]["held_out"]  # type: ignore[index]  # a dict
    assert [step for step, _ in history] == [0, 2, 4]
    kept = sorted(path.name for path in (resumed.folder / "checkpoints").glob("step-*"))
    assert kept == ["step-00000002", "step-00000004"]


def test_a_measurement_that_is_made_again_counts_once(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a handler fails on hearing of the first, and the resumed run makes it anew."""
    failing = '\n[[plugins]]\nuse = "tests.faults.plugins_for_misbehaviour.Misbehaving"\nsignal = "validation.end"\n'
    with pytest.raises(PluginError, match="Misbehaving"):
        train(*VALIDATED, plugins=failing)
    monkeypatch.setattr(plugins_for_misbehaviour, "IS_MENDED", True)
    history = train(*VALIDATED, plugins=failing).state()["state"]["validation"]["held_out"]  # type: ignore[index]
    assert [step for step, _ in history] == [0, 2, 4]
