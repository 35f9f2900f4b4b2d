"""The map at the head of the catalogue is what fires."""

import re
from collections.abc import Callable

import pytest

import events.catalogue
from events.catalogue import CATALOGUE
from events.errors import PluginError
from tests.core.plugins_for_tests import RecordAll
from tests.small_runs import Run

RECORD = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.RecordAll"\n'


def map_lines() -> list[tuple[int, str]]:
    """(depth, text) of the map's lines."""
    text = str(events.catalogue.__doc__).partition("Map:\n")[2].partition("\n\n")[0]
    return [((len(line) - len(line.lstrip())) // 4, line.strip()) for line in text.splitlines()]


def to_regex(lines: list[tuple[int, str]]) -> str:
    """The map as a regular expression over the names that fired, each followed by a space."""
    pattern, depth = "", lines[0][0]
    place = 0
    while place < len(lines):
        level, text = lines[place]
        assert level == depth, text
        place += 1
        if text.endswith(":"):
            block = []
            while place < len(lines) and lines[place][0] > level:
                block.append(lines[place])
                place += 1
            pattern += f"(?:{to_regex(block)})" + ("?" if text.startswith("when") else "*")
        else:
            name, sign = re.fullmatch(r"([\w.]+)([?*+]?)", text).groups()  # type: ignore[union-attr]
            pattern += f"(?:{re.escape(name)} ){sign}"
    return pattern


def fired(run: Run) -> list[str]:
    assert run.bus is not None
    return run.bus.plugins["RecordAll"].fired  # type: ignore[attr-defined,no-any-return]


def matches(names: list[str]) -> bool:
    return re.fullmatch(to_regex(map_lines()), "".join(name + " " for name in names)) is not None


def test_it_is_true_for_three_epochs_with_everything_on(train: Callable[..., Run]) -> None:
    run = train(
        "train.steps=6", "train.accumulate=1", "preview.at_start=true", "preview.at_end=true", "preview.every_steps=4",
        "export.at_end=true", "export.every_steps=5", "validation.fraction=0.2", "validation.every_steps=4",
        "cache.latents=true", "cache.text=true", 'model.train=["unet"]', plugins=RECORD,
    )  # fmt: skip
    names = fired(run)
    assert matches(names), names
    assert names.count("epoch.end") == 3
    assert names.count("step.end") == 6
    assert names.count("checkpoint.saved") == 3
    assert names.count("preview.end") == 3
    assert names.count("validation.end") == 3
    assert names.count("cache.end") == 2


def test_it_is_true_for_a_run_that_resumes_within_an_epoch(train: Callable[..., Run]) -> None:
    train("train.steps=4", plugins=RECORD)
    names = fired(train("train.steps=7", plugins=RECORD))
    assert matches(names), names
    assert names.count("checkpoint.loaded") == 1
    assert names.index("epoch.plan") < names.index("step.start")
    assert names.count("epoch.plan") == names.count("epoch.start") + 1


def test_it_is_true_for_a_run_that_fails(train: Callable[..., Run]) -> None:
    failing = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.Failing"\npriority = 99\n'
    with pytest.raises(PluginError):
        train(plugins=RECORD + failing)
    names = RecordAll.newest.fired
    assert matches(names), names
    assert names[-4:] == ["checkpoint.start", "checkpoint.saved", "run.error", "run.close"]


def test_it_names_every_signal_of_the_training_process() -> None:
    named = {re.sub(r"[?*+]$", "", text) for _, text in map_lines() if not text.endswith(":")}
    assert named == {spec.name for spec in CATALOGUE if spec.where == "training"}


def test_a_wrong_order_would_be_noticed(train: Callable[..., Run]) -> None:
    names = fired(train("train.steps=3", plugins=RECORD))
    assert matches(names)
    place = names.index("step.start")
    assert not matches([*names[:place], "step.end", "step.start", *names[place + 2 :]])


def test_accumulation_moves_all_batches_before_the_step(train: Callable[..., Run]) -> None:
    names = fired(train("train.steps=2", "train.accumulate=2", plugins=RECORD))
    first = names[names.index("epoch.start") :]
    assert first[1:5] == ["batch.device", "batch.device", "step.start", "step.end"]
