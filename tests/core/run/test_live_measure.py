"""`LiveState.measure` gives handlers the loss of each sample of a batch they choose, and leaves no trace in the run."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from events import Plugin, PluginSettings, on
from events.payloads import Batch, StepEnd
from tests.small_runs import Run

MEASURES = '[[plugins]]\nuse = "tests.core.run.test_live_measure.Measures"\n'
LORA = '[[plugins]]\nuse = "plugins.lora.Lora"\nrank = 2\ndropout = 0.5\n'


class Measures(Plugin):
    """Measures the step's first batch in several ways."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.found: dict[str, Any] = {}

    @on("step.end")
    def measure(self, event: StepEnd) -> None:
        batch, measure = event.batches[0], event.live.measure
        turned = {name: part.roll(1, 0) for name, part in batch.tokens.items()}
        state, modes = torch.get_rng_state(), self._modes(event)
        self.found = {
            "own": measure(batch, 5),
            "again": measure(batch, 5),
            "other noise": measure(batch, 6),
            "other caption": measure(replace(batch, tokens=turned), 5),
            "of three": measure(first_three(batch), 5),
            "draws nothing": torch.equal(state, torch.get_rng_state()),
            "modes": modes == self._modes(event),
            "weighted": measure(replace(batch, weight=batch.weight * 7), 5),
        }

    def _modes(self, event: StepEnd) -> list[bool]:
        return [part.training for module in event.live.modules.values() for part in module.modules()]


def first_three(batch: Batch) -> Batch:
    """A batch of its first three samples, whose pixels are there."""
    assert batch.pixels is not None
    names = ("pixels", "weight", "geometry", "keys", "sample_ids", "captions", "paths", "extras")
    tokens = {name: part[:3] for name, part in batch.tokens.items()}
    return replace(batch, tokens=tokens, **{name: getattr(batch, name)[:3] for name in names})


def found(run: Run) -> dict[str, Any]:
    """What was measured after the last step."""
    assert run.bus is not None
    plugin: Any = run.bus.plugins["Measures"]
    losses: dict[str, Any] = plugin.found
    return losses


def test_it_is_the_loss_of_each_sample_at_a_noise_that_follows_from_sample_and_repeat(
    train: Callable[..., Run],
) -> None:
    losses = found(train("train.steps=1", "train.batch_size=5", plugins=MEASURES))
    assert losses["own"].shape == (5,)
    assert not losses["own"].requires_grad
    assert torch.equal(losses["own"], losses["again"])
    assert not torch.equal(losses["own"], losses["other noise"])
    assert not torch.equal(losses["own"], losses["other caption"])
    torch.testing.assert_close(losses["of three"], losses["own"][:3])
    assert torch.equal(losses["own"], losses["weighted"])


def test_it_measures_without_dropout_and_leaves_modes_and_generators_as_they_are(train: Callable[..., Run]) -> None:
    losses = found(train("train.steps=1", plugins=MEASURES + LORA))
    assert torch.equal(losses["own"], losses["again"])
    assert losses["draws nothing"]
    assert losses["modes"]
