"""What a handler leaves behind is named, and put back where that is possible."""

import mmap
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
import torch
import torch.distributed as dist

from core.attached.guards import LEAK_SAMPLES, GlobalRandomness, Growth, ProcessState, UndeclaredCollective


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
    _ = random.random(), numpy.random.rand(), torch.rand(1)  # so that none stands where the seed would put it
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
def group() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    "exchange",
    [
        lambda: dist.all_reduce(torch.ones(1)),
        lambda: dist.all_reduce(torch.ones(1), async_op=True).wait(),
        lambda: dist.all_gather([torch.ones(1)], torch.ones(1)),
        lambda: dist.broadcast(torch.ones(1), 0),
        lambda: dist.all_gather_object([None], "a word"),
        dist.barrier,
    ],
)
def test_an_exchange_between_ranks_is_named(exchange: Callable[[], object]) -> None:
    said = complaint(UndeclaredCollective(), exchange)
    assert said is not None
    assert said.startswith("exchanges something between ranks without saying so")
    assert 'ranks="all", collective=True' in said


@pytest.mark.usefixtures("group")
def test_asking_for_the_rank_and_exchanging_in_a_group_of_the_trainers_are_no_exchange_of_a_handlers() -> None:
    own = dist.new_group(backend="gloo")
    assert complaint(UndeclaredCollective(), lambda: (dist.get_rank(), dist.get_world_size())) is None
    assert complaint(UndeclaredCollective(), lambda: dist.all_reduce(torch.ones(1), group=own)) is None


def test_where_there_is_no_group_there_is_no_exchange() -> None:
    assert complaint(UndeclaredCollective(), lambda: None) is None


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """MB in use, as the guard is made to see it."""
    used = [100]
    monkeypatch.setattr("core.attached.guards.resident_bytes", lambda: used[0] << 20)
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
    """Of pages that are new to the process, which may have others to spare."""
    guard, kept = Growth(), []

    def leak() -> None:
        kept.append(mmap.mmap(-1, 1 << 20))
        kept[-1].write(bytes(1 << 20))

    assert any(complaint(guard, leak) for _ in range(40))
