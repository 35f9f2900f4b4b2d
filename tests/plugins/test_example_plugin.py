"""ExampleLoggingPlugin says when training begins, when an epoch is over, and when training ends."""

from collections.abc import Callable

import pytest

from tests.small_runs import Run


def test_it_is_named_in_the_short_form_and_logs(train: Callable[..., Run], caplog: pytest.LogCaptureFixture) -> None:
    train("train.steps=4", 'plugins=["plugins.example_plugin.ExampleLoggingPlugin"]')
    said = [record.getMessage() for record in caplog.records if record.name == "signalbox.plugins.example"]
    assert said == ["test begins at step 0", "epoch 0 of 3 steps is over", "test ends at step 4: complete"]
