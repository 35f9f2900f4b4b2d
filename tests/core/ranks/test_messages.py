"""A step that neither logs nor saves sends nothing but gradients, and what a boundary sends stays small.

Seen from within two real processes: by every exchange of torch's and every look into the store, and, on Linux, by the bytes
that each connection has sent.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.messages import (
    ASK_AT,
    KEYS,
    KINDS,
    NOTHING,
    OURS,
    OVERRIDES,
    QUIET_STEPS,
    REPEATS,
    THEIRS,
    Interval,
    Said,
)
from benchmarks.scaling import repeat
from core.config.tables import DistributedTable
from core.ranks.arithmetic import Sizes, sent
from tests.core.ranks.launching import train_in_processes
from tests.core.surveying import plugin
from tests.small_runs import CONFIG

HEADERS = 1.02
"""What gloo adds to gradients of half a megabyte."""
ROUNDS = 2
"""Of a step whose weights are divided."""
needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells how many bytes a connection has sent"
)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, picture_folder: Path) -> list[Said]:
    """By each of two processes, in a run in which every kind of boundary comes."""
    return count(tmp_path_factory.mktemp("messages"), model_folder, picture_folder)


def count(folder: Path, model: Path, pictures: Path, *overrides: str) -> list[Said]:
    shutil.copytree(pictures, folder / "pictures")
    repeat(folder / "pictures", REPEATS)
    values = {"dir": folder / "runs", "model": model, "data": folder / "pictures", "cache": folder / "cache"}
    counting = plugin("benchmarks.messages.Messages", folder=str(folder / "said"), ask_at=ASK_AT)
    path = folder / "config.toml"
    path.write_text(CONFIG.format(**{key: json.dumps(str(value)) for key, value in values.items()}) + counting)
    ended = train_in_processes(path, *OVERRIDES, *overrides)
    assert ended.exit_code == 0, ended.output
    return [Said.read(folder / "said" / f"rank-{rank}.json") for rank in range(2)]


def quiet(said: list[Said]) -> Iterator[Interval]:
    """After steps at whose boundary nothing was due."""
    return (rank.after(step) for rank in said for step in QUIET_STEPS)


def test_a_step_that_neither_logs_nor_saves_makes_no_exchange_and_looks_up_no_key(said: list[Said]) -> None:
    assert [one for one in quiet(said) if one.calls_of(OURS, KEYS)] == []


@needs_linux
def test_it_sends_no_byte_but_gradients(said: list[Said]) -> None:
    assert [one for one in quiet(said) if one.sent_by(OURS, KEYS)] == []
    steady = [one for one in quiet(said) if one.step > 1]  # the first of all steps prepares what is sent
    for one in steady:
        assert 1 <= one.sent_by(THEIRS) / said[0].gradient_bytes <= HEADERS


def test_buffers_are_never_broadcast(said: list[Said]) -> None:
    calls = [name for rank in said for one in rank.intervals for name in one.calls]
    assert [name for name in calls if name.startswith(THEIRS)] == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != NOTHING])
def test_where_something_is_due_it_is_seen(said: list[Said], kind: str) -> None:
    """Which shows that the counting works."""
    assert all(rank.at(kind).calls_of(OURS, KEYS) for rank in said)


def test_a_report_takes_a_handful_of_exchanges(said: list[Said]) -> None:
    assert all(rank.at("a step that logs").calls_of(OURS) <= 3 for rank in said)
    assert all(rank.at("a step that logs").calls_of(KEYS) == 0 for rank in said)


@needs_linux
def test_every_boundary_sends_less_than_a_picture(said: list[Said]) -> None:
    assert max(one.sent_by(OURS, KEYS) for rank in said for one in rank.intervals) < 20_000


@needs_linux
def test_a_rank_has_three_connections_to_the_store_and_one_to_each_other_rank(said: list[Said]) -> None:
    """Those of our group and those of accelerate's."""
    assert [rank.connections for rank in said] == [{KEYS: 3, OURS: 1, THEIRS: 1}] * 2


@needs_linux
def test_divided_weights_are_gathered_twice_a_round_in_half_precision_and_gradients_added_up_whole(
    tmp_path: Path, model_folder: Path, picture_folder: Path
) -> None:
    """As core/ranks/arithmetic.py has it, but that gloo sends gradients twice round where they go once round in a ring."""
    settings = (
        "distributed.strategy=fsdp", "train.precision=bf16", "train.steps=4", f"train.accumulate={ROUNDS}",
        "checkpoint.every_steps=0",
    )  # fmt: skip
    said = count(tmp_path, model_folder, picture_folder, *settings)
    weights = said[0].gradient_bytes // 4
    sizes = Sizes(trained=weights, frozen=0, frozen_bytes=0, state_bytes=0)
    ring = sent(sizes, DistributedTable(strategy="fsdp"), 2, ROUNDS, is_half=True)
    assert ring == ROUNDS * weights * (2 * 2 + 4) / 2
    for rank in said:
        assert 1 <= rank.after(2).sent_by(THEIRS) / (ring + ROUNDS * 4 * weights / 2) <= HEADERS
        assert rank.after(2).calls_of(OURS, KEYS) == 0
