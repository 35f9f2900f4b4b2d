"""PriorPreservation weighs the class's pictures and shows as many of them as of the subject's."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from events.errors import PluginError
from events.payloads import Item, ItemSettings
from events.testing import Harness, data_context, item
from plugins.prior_preservation import PriorPreservation
from tests.core.plugins_for_tests import Seen
from tests.small_runs import PICTURES, Run

SUBJECT = tuple(item(id=f"dog/{n}", path=f"dog/{n}.png") for n in range(2))
CLASS = tuple(item(id=f"dogs/{n}", path=f"dogs/{n}.png", settings=ItemSettings(loss_scale=0.5)) for n in range(8))


def preserve(items: tuple[Item, ...], validation: str = "", **settings: object) -> tuple[Item, ...]:
    plugin = PriorPreservation(PriorPreservation.Settings(folder=Path("dogs"), **settings))  # type: ignore[arg-type]
    context = replace(data_context(), validation=validation)
    found: tuple[Item, ...] = Harness(plugin).apply("data.items", items, context)
    return found


def test_both_kinds_are_shown_equally_often() -> None:
    found = preserve(SUBJECT + CLASS)
    assert [one.settings.multiply for one in found] == [1.0] * 2 + [0.25] * 8


def test_the_class_weighs_as_much_as_is_asked_beside_what_the_item_says() -> None:
    found = preserve(SUBJECT + CLASS, weight=0.4, balance=False)
    assert [one.settings.loss_scale for one in found] == [1.0] * 2 + [0.2] * 8
    assert [one.settings.multiply for one in found] == [1.0] * 10


def test_validation_sets_stay_as_they_are() -> None:
    assert preserve(CLASS, validation="held_out") == CLASS


@pytest.mark.parametrize(("items", "said"), [(SUBJECT, "of the class lies in"), (CLASS, "of the subject lies outside")])
def test_a_kind_without_pictures_is_refused(items: tuple[Item, ...], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        preserve(items)


def test_the_loss_of_a_balanced_batch_is_half_the_papers_sum(train: Callable[..., Run], tmp_path: Path) -> None:
    """A step on two of each kind: weights 1 and 0.6, each a quarter of the mean."""
    Seen.batches.clear()
    for folder, names in (("dog", ("birds/owl", "birds/duck")), ("dogs", ("animals/fox", "fruit/lemon"))):
        (tmp_path / "both" / folder).mkdir(parents=True)
        for name in names:
            shutil.copy((PICTURES / name).with_suffix(".png"), tmp_path / "both" / folder)
    plugins = (
        f'[[plugins]]\nuse = "plugins.prior_preservation.PriorPreservation"\nfolder = "{tmp_path / "both" / "dogs"}"\n'
        'weight = 0.6\n[[plugins]]\nuse = "tests.core.plugins_for_tests.Seen"\n'
    )
    train(f"data.root={tmp_path / 'both'}", "train.steps=1", plugins=plugins)
    (batch,) = Seen.batches
    weights = {Path(path).parent.name: weight for path, weight in zip(batch.paths, batch.weight.tolist(), strict=True)}
    assert weights == {"dog": 1.0, "dogs": pytest.approx(0.6)}
    assert batch.count == 4
