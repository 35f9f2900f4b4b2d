"""A run that is stopped at any step and resumed ends as the unbroken one, bit for bit."""

from collections.abc import Callable

import pytest

from tests.small_runs import Run, assert_same_state

PLUGINS = """
[[plugins]]
use = "plugins.ema.Ema"
[[plugins]]
use = "plugins.captions.DropCaption"
probability = 0.5
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    return []


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6])
def test_resumed_at_a_step_in_or_between_epochs(train: Callable[..., Run], stop: int) -> None:
    whole = train("run.name=whole", plugins=PLUGINS)
    train(f"train.steps={stop}", plugins=PLUGINS)
    resumed = train(plugins=PLUGINS)
    assert_same_state(resumed, whole)
