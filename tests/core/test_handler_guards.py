"""What a handler leaves behind is named, and put back where that is possible."""

import os
import random
import signal
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch

from core.guards import LEAK_SAMPLES, GlobalRandomness, Growth, ProcessState


def complaint(guard: Any, work: Callable[[], object]) -> str | None:
    token = guard.before()
    work()
    said: str | None = guard.after(token)
    return said


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (random.random, "random"),
        (lambda: numpy.random.rand(), "numpy.random"),
        (lambda: numpy.random.seed(1), "numpy.random"),
        (lambda: numpy.random.randn(2), "numpy.random"),
        (lambda: torch.rand(1), "torch"),
        (lambda: torch.manual_seed(1), "torch"),
        (lambda: random.seed(1), "random"),
    ],
)
def test_a_draw_from_a_global_generator_is_named(draw: Callable[[], object], name: str) -> None:
    said = complaint(GlobalRandomness(), draw)
    assert said is not None
    assert said.startswith(f"draws from the global generator of {name}, ")
    assert "draw from context.rng" in said


def test_several_generators_are_named_together() -> None:
    said = complaint(GlobalRandomness(), lambda: (random.random(), torch.rand(1)))
    assert said is not None
    assert "of random and torch," in said


def test_draws_from_a_generator_of_ones_own_are_nobodys_business() -> None:
    def draw() -> None:
        random.Random(1).random()
        numpy.random.default_rng(1).random()
        torch.rand(1, generator=torch.Generator())

    assert complaint(GlobalRandomness(), draw) is None


def test_a_draw_that_only_moves_on_among_numpys_words_is_named() -> None:
    numpy.random.rand()  # the first of all makes them anew
    assert complaint(GlobalRandomness(), numpy.random.rand) is not None


def test_a_draw_is_named_when_numpys_generator_has_been_replaced() -> None:
    before = numpy.random.get_bit_generator()
    try:
        numpy.random.set_bit_generator(numpy.random.PCG64(1))
        assert complaint(GlobalRandomness(), lambda: None) is None
        said = complaint(GlobalRandomness(), numpy.random.rand)
    finally:
        numpy.random.set_bit_generator(before)
    assert said is not None
    assert "of numpy.random," in said


def other_threads() -> None:
    torch.set_num_threads(torch.get_num_threads() + 1)


@pytest.mark.parametrize(
    ("change", "said", "read"),
    [
        (lambda: torch.set_grad_enabled(False), "grad mode (False instead of True)", torch.is_grad_enabled),
        (
            lambda: torch.set_default_dtype(torch.float64),
            "torch's default dtype (torch.float64 instead of torch.float32)",
            torch.get_default_dtype,
        ),
        (other_threads, "torch's threads (", torch.get_num_threads),
        (
            lambda: signal.signal(signal.SIGTERM, lambda number, frame: None),
            "the handler of SIGTERM",
            lambda: signal.getsignal(signal.SIGTERM),
        ),
    ],
    ids=["grad", "dtype", "threads", "signal"],
)
def test_what_belongs_to_the_trainer_is_put_back(
    change: Callable[[], object], said: str, read: Callable[[], object]
) -> None:
    before = read()
    told = complaint(ProcessState(), change)
    assert told is not None
    assert told.startswith(f"has changed {said}")
    assert "has been put back" in told
    assert read() == before


def test_a_handler_that_changes_nothing_is_not_named() -> None:
    assert complaint(ProcessState(), lambda: None) is None


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """MB in use, as the guard is made to see it."""
    used = [100]
    monkeypatch.setattr("core.guards.resident_bytes", lambda: used[0] << 20)
    return used


def grow(memory: list[int], given_back: int = 0) -> str | None:
    guard, told = Growth(), None
    for _ in range(2 * LEAK_SAMPLES):

        def work() -> None:
            memory[0] += 3

        told = told or complaint(guard, work)
        memory[0] -= given_back
    return told


def test_growth_at_every_call_is_named_with_its_rate(memory: list[int]) -> None:
    told = grow(memory)
    assert told is not None
    assert told.startswith(f"made the process grow by 3.0 MB a call, {LEAK_SAMPLES} times in a row")


def test_memory_that_is_given_back_after_the_call_is_no_leak(memory: list[int]) -> None:
    """Such as a picture that a transform returns."""
    assert grow(memory, given_back=3) is None


def test_growth_that_stops_is_no_leak(memory: list[int]) -> None:
    guard = Growth()
    for number in range(4 * LEAK_SAMPLES):

        def work(number: int = number) -> None:
            memory[0] += number % LEAK_SAMPLES > 0

        assert complaint(guard, work) is None


def test_a_leak_is_told_once(memory: list[int]) -> None:
    guard = Growth()

    def work() -> None:
        memory[0] += 1

    told = [complaint(guard, work) for _ in range(5 * LEAK_SAMPLES)]
    assert len([one for one in told if one is not None]) == 1


def test_a_real_leak_is_seen() -> None:
    guard, kept = Growth(), []
    told = [complaint(guard, lambda: kept.append(os.urandom(1 << 20))) for _ in range(40)]
    assert any(told)
