"""Rhythm asks for previews, checkpoints, validation and exports by epochs and by the clock."""

from collections.abc import Callable

import pytest

from events.control import Control
from events.testing import Harness, epoch_end, run_start, step_end
from plugins.rhythm import Rhythm
from tests.small_runs import Run


def rhythm(**settings: object) -> Harness:
    harness = Harness(Rhythm(Rhythm.Settings.model_validate(settings)))
    harness.emit("run.start", run_start())
    return harness


def asked(control: Control) -> list[str]:
    return [request.kind for request in control.take("preview", "save", "evaluate", "export")]


@pytest.mark.parametrize("what", ["preview", "save", "evaluate", "export"])
def test_every_so_many_epochs(what: str) -> None:
    harness, found = rhythm(what=what, epochs=3), []
    for epoch in range(7):
        event = epoch_end(epoch=epoch)
        harness.emit("epoch.end", event)
        found.append(asked(event.control))
    assert found == [[], [], [what], [], [], [what], []]


def test_the_clock_counts_from_the_last_time() -> None:
    for minutes, expected in ((1e-12, ["save"]), (1e9, [])):
        event = step_end()
        rhythm(what="save", minutes=minutes).emit("step.end", event)
        assert asked(event.control) == expected


def test_a_rhythm_by_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="set epochs or minutes"):
        Rhythm.Settings(what="save")


def test_a_run_exports_and_saves_when_asked(train: Callable[..., Run]) -> None:
    """Three steps an epoch: asked for at its end, done after the next step."""
    plugins = "".join(
        f'[[plugins]]\nuse = "plugins.rhythm.Rhythm"\nname = "{what}"\nwhat = "{what}"\nepochs = 1\n'
        for what in ("export", "save")
    )
    run = train("train.steps=7", "checkpoint.every_steps=0", "checkpoint.keep=9", plugins=plugins)
    exports = sorted(path.name for path in run.folder.glob("exports/*"))
    assert exports == ["test-step-000004", "test-step-000007"]
    kept = sorted(path.name for path in run.folder.glob("checkpoints/step-*"))
    assert kept == ["step-00000004", "step-00000007"]
