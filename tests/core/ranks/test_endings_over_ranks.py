"""Real processes that end because one of them does: the cause is told once, nothing is left, and what was trained is saved.

The campaign's rows F38, F41 and F42 show the same in many more ways, with processes that are forked and so are warm.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.ranks.launching import command
from tests.core.ranks.watched import Seen, watch

FOREIGN = ("gloo", "Connection closed by peer", "ProcessGroup", "recvValue", "terminate called")
SETTINGS = ("train.batch_size=2", "train.steps=6", "data.workers=1", "distributed.timeout_seconds=20")


def ends(config: Path, note: Path, *overrides: str, by_accelerate: bool = False, **settings: object) -> Seen:
    """A run in which this is done to a rank by the campaign's plugin."""
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    use = f'\n[[plugins]]\nuse = "tests.faults.plugins_for_processes.Harm"\nnote = {json.dumps(str(note))}\n{lines}'
    config.write_text(config.read_text() + use)
    words = command(config, *SETTINGS, *overrides, by_accelerate=by_accelerate)
    return watch(words, config.parent, cwd=config.parent).wait(note)


def saved(config: Path) -> list[str]:
    return sorted(path.name for path in (config.parent / "runs" / "test" / "checkpoints").glob("step-*"))


def test_a_rank_that_is_killed_ends_all_with_8_and_its_loader_workers_too(write_config: Callable[..., Path]) -> None:
    config = write_config()
    seen = ends(config, config.parent / "note", "checkpoint.every_steps=0", does="kill", rank=1, at=3)
    assert seen.code == 8, seen.output
    assert seen.output.count("rank 1 was killed by SIGKILL") == 1, seen.output
    assert not [words for words in FOREIGN if words in seen.output], seen.output
    assert not seen.left, seen.left
    assert saved(config) == ["step-00000002"], seen.output


@pytest.mark.long
def test_under_accelerate_a_rank_that_waits_for_a_killed_one_is_not_taken_for_one_that_a_user_stops(
    write_config: Callable[..., Path],
) -> None:
    """torchrun sends SIGTERM to the others. The killed rank was about to meet the main one at the board, for a checkpoint."""
    config = write_config()
    seen = ends(
        config, config.parent / "note", "checkpoint.every_steps=3", by_accelerate=True,
        does="kill", rank=1, at=3, signal="step.end",
    )  # fmt: skip
    assert seen.code == 1, seen.output  # which is accelerate's own, whatever the cause
    assert seen.output.count("rank 0 ends the run:") == 1, seen.output
    assert any(words in seen.output for words in ("rank 0 waits for rank 1", "rank 0 has lost another")), seen.output
    assert not [words for words in FOREIGN if words in seen.output], seen.output
    assert not seen.left, seen.left
    assert saved(config) == ["step-00000003"], seen.output


@pytest.mark.long
@pytest.mark.parametrize("by_accelerate", [False, True], ids=["by run.py", "by accelerate"])
def test_a_plugin_that_raises_on_another_rank_is_told_once_by_that_rank(
    write_config: Callable[..., Path], *, by_accelerate: bool
) -> None:
    config = write_config()
    seen = ends(
        config,
        config.parent / "note",
        "checkpoint.every_steps=0",
        by_accelerate=by_accelerate,
        does="raise",
        rank=1,
        at=3,
    )
    assert seen.code == (1 if by_accelerate else 6), seen.output
    assert seen.output.count("ends the run:") == seen.output.count("rank 1 ends the run:") == 1, seen.output
    assert not [words for words in FOREIGN if words in seen.output], seen.output
    assert not seen.left, seen.left
    assert saved(config) == ["step-00000002"], seen.output
