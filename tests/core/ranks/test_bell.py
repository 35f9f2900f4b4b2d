"""Ranks that are called to a meeting all meet at the same boundary, soon, and nothing is sent where nobody calls."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from time import sleep

import pytest

from core.errors import LostRankError, OtherRankError
from core.ranks.bell import Bell
from core.ranks.board import Board
from core.ranks.environment import Place
from tests.core.ranks.in_threads import CountingBoard, each, lockstep, places_of, places_with_launcher
from tests.small_runs import ROOT

LIMIT_SECONDS = 60.0
REGULAR = 9
"""Boundaries from one meeting that needs no call to the next."""


def bell_of(place: Place) -> Bell:
    return Bell(CountingBoard(place), place)


@contextmanager
def listening(places: list[Place], limit_seconds: float = LIMIT_SECONDS) -> Iterator[list[Bell]]:
    bells = [bell_of(place) for place in places]
    with ExitStack() as stack:
        for bell in bells:
            stack.callback(bell.close)
            bell.begin(limit_seconds)
        yield bells


def asked_of_the_store(bells: list[Bell]) -> int:
    return sum(board.asked for bell in bells for board in (bell._board, bell._listening))  # type: ignore[attr-defined]


def wait_until_heard(bell: Bell) -> None:
    """Until this rank has answered the ring: from then on it knows the boundary that it will not pass."""
    while not (bell._promises or bell._meetings):
        sleep(0.0005)


@pytest.mark.parametrize("is_held_together", [True, False])
def test_whoever_calls_and_however_ranks_are_delayed_all_meet_at_the_same_boundaries(*, is_held_together: bool) -> None:
    """With a GPU the host runs ahead of gradients, so ranks may be any number of boundaries apart between regular meetings."""
    barrier = lockstep(3)

    def go(bell: Bell) -> tuple[list[int], list[int]]:
        random, met, asked, waiting = Random(bell._place.rank), [], [], False
        for boundary in range(1, 80 * REGULAR + 1):
            is_regular = boundary % REGULAR == 0
            if is_held_together or is_regular:
                barrier.wait()
            sleep(random.choice((0.0, 0.0, 0.0005, 0.003)))
            if random.random() < 0.15:
                asked.append(boundary)
                waiting = True
            if bell.is_meeting() or is_regular:
                met.append(boundary)
                waiting = False
            elif waiting:
                bell.ring()
        return met, asked

    with places_of(3) as places, listening(places) as bells:
        results = each(bells, go)
    meetings = results[0][0]
    assert [met for met, _ in results] == [meetings] * 3
    called = [boundary for boundary in meetings if boundary % REGULAR]
    assert len(called) > 20, "the campaign has hardly called a meeting"
    assert all(any(place >= boundary for place in meetings) for _, asked in results for boundary in asked)


def test_a_meeting_is_within_two_boundaries_of_the_call_once_it_is_heard() -> None:
    barrier = lockstep(3)

    def go(bell: Bell) -> list[int]:
        random, met = Random(bell._place.rank), []
        for boundary in range(1, 61):
            barrier.wait()
            sleep(random.choice((0.0, 0.002)))
            if bell.is_meeting():
                met.append(boundary)
            calls = boundary % 5 == 1
            if calls and boundary % 3 == bell._place.rank:
                bell.ring()
            if calls:
                wait_until_heard(bell)
        return met

    with places_of(3) as places, listening(places) as bells:
        results = each(bells, go)
    assert results == [results[0]] * 3
    assert [place // 5 for place in results[0]] == list(range(12))
    assert all(place % 5 in (2, 3) for place in results[0])


def test_steps_in_which_nobody_calls_ask_nothing_of_the_store() -> None:
    with places_of(3) as places, listening(places) as bells:
        while asked_of_the_store(bells) < len(bells):  # until each has begun to wait for the bell
            sleep(0.001)
        assert not any(any(bell.is_meeting() for _ in range(500)) for bell in bells)
        assert asked_of_the_store(bells) == len(bells)


def test_two_ranks_that_call_at_once_call_one_meeting() -> None:
    barrier = lockstep(3)

    def go(bell: Bell) -> list[bool]:
        barrier.wait()
        bell.ring()
        bell.ring()
        wait_until_heard(bell)
        barrier.wait()
        return [bell.is_meeting() for _ in range(4)]

    with places_of(3) as places, listening(places) as bells:
        assert each(bells, go) == [[True, False, False, False]] * 3
        assert Board(places[0]).read("bell/1") is None


def test_a_rank_says_where_it_is_while_others_have_not_answered_a_call() -> None:
    with places_of(3) as places, listening(places[:2]) as bells:
        bells[0].ring()
        for bell in bells:
            wait_until_heard(bell)
        said = bells[0].whereabouts()
    assert "rank 1 is at" in said
    assert "in test_a_rank_says_where_it_is" in said, "the innermost frames of its own thread"
    assert "rank 2 does not answer" in said
    assert "rank 0" not in said


def test_a_call_beside_a_question_is_a_call_all_the_same() -> None:
    barrier = lockstep(2)

    def go(bell: Bell) -> list[bool]:
        met = []
        for asker in (0, 1, 0, 1):
            barrier.wait()
            if bell._place.rank == asker:
                assert "is at" in bell.whereabouts()
            else:
                bell.ring()
            wait_until_heard(bell)
            met.append(bell.is_meeting())
        return met

    with places_of(2) as places, listening(places) as bells:
        assert each(bells, go) == [[True] * 4] * 2


def test_a_rank_that_does_not_answer_is_waited_for_no_longer_than_for_a_gradient() -> None:
    with places_of(2) as places, listening(places[:1], limit_seconds=0.3) as (bell,):
        bell.ring()
        wait_until_heard(bell)
        with pytest.raises(LostRankError, match=r"waited 0\.3 s for another to say where they meet") as caught:
            bell.is_meeting()
    assert "rank 1 does not answer" in str(caught.value)


def test_a_rank_that_waits_for_a_place_hears_that_another_has_ended() -> None:
    with places_of(2) as places, listening(places[:1]) as (bell,):
        bell.ring()
        wait_until_heard(bell)
        Board(places[1]).tell_cause("the disk is full", 7)
        with pytest.raises(OtherRankError, match="rank 1 ended: the disk is full"):
            bell.is_meeting()


def test_a_bell_closes_also_while_a_meeting_has_no_place() -> None:
    with places_of(2) as places, listening(places[:1]) as (bell,):
        bell.ring()
        wait_until_heard(bell)
        bell.close()
        assert not bell._thread.is_alive()


def test_without_its_launcher_a_rank_goes_no_further_than_the_next_boundary() -> None:
    with places_with_launcher(2) as (places, launcher), listening(places) as bells:
        bells[0].ring()
        for bell in bells:
            wait_until_heard(bell)
        launcher.kill()
        for bell in bells:
            bell._thread.join(LIMIT_SECONDS)
            with pytest.raises(LostRankError, match="has lost the launcher"):
                bell.is_meeting()
            assert bell.whereabouts() == ""


LEAVES = """
import sys
from core.ranks.bell import Bell
from core.ranks.board import Board
from core.ranks.environment import Place

place = Place(rank=0, count=2, port=int(sys.argv[1]))
bell = Bell(Board(place), place)
bell.begin(60.0)
bell.ring()
sys.exit(3)
"""


def test_a_process_ends_in_silence_though_its_bell_still_listens() -> None:
    with places_with_launcher(2) as (places, launcher):
        command = [sys.executable, "-c", LEAVES, str(places[0].port)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env=os.environ | {"TORCH_CPP_LOG_LEVEL": "ERROR"},  # as the command line has it
        ) as process:  # fmt: skip
            killing = threading.Thread(
                target=lambda: (Board(places[1]).hear("bell/0/promises/0", 60.0), launcher.kill())
            )
            killing.start()  # so that the store goes as the interpreter does
            output, _ = process.communicate(timeout=LIMIT_SECONDS)
            killing.join()
    assert (process.returncode, output) == (3, "")
