"""Ranks wait for each other at the board as long as work goes on, and hear of an end at once."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

import pytest

from core.errors import LostRankError, OtherRankError
from core.ranks.board import Board
from tests.core.ranks.in_threads import CountingBoard, each, places_of

LONG_SECONDS = 60.0


@pytest.fixture(scope="module")
def boards() -> Iterator[list[CountingBoard]]:
    with places_of(3) as places:
        yield [CountingBoard(place) for place in places]


def never() -> str:
    raise AssertionError("nobody is missing")


def test_what_was_posted_is_read_and_what_was_not_is_none(boards: list[CountingBoard]) -> None:
    boards[0].post("a/value", {"step": 7, "names": ["x"]})
    assert boards[1].read("a/value") == {"step": 7, "names": ["x"]}
    assert boards[1].read("a/nothing") is None
    assert boards[1].hear("a/nothing", 0.01) is None


def test_of_several_that_post_first_all_are_told_the_same_winner(boards: list[CountingBoard]) -> None:
    for number in range(20):
        told = each(boards, lambda board, key=f"first/{number}": board.post_first(key, board._place.rank))
        assert len(set(told)) == 1


def test_a_list_is_there_once_every_rank_has_given_its_part_and_in_the_order_of_ranks(
    boards: list[CountingBoard],
) -> None:
    for board in reversed(boards[1:]):
        board.contribute("list", [board._place.rank])
    assert boards[0].read("list") is None
    assert boards[1].missing("list") == [0]
    boards[0].contribute("list", [0])
    assert each(boards, lambda board: board.wait_for("list", LONG_SECONDS, missing=never)) == [[[0], [1], [2]]] * 3


def test_a_look_at_the_board_asks_as_much_for_many_ranks_as_for_two(boards: list[CountingBoard]) -> None:
    before = boards[2].asked
    boards[2].post("there", True)
    boards[2].wait_for("there", LONG_SECONDS, missing=never)
    assert boards[2].asked - before == 3


def test_who_waits_in_vain_says_for_whom() -> None:
    with places_of(2) as places:
        board = Board(places[0])
        board.contribute("late", True)
        with pytest.raises(LostRankError, match=r"waiting for \[1\]"):
            board.wait_for("late", 0.05, missing=lambda: f"waiting for {board.missing('late')}")


def test_signs_of_life_make_a_rank_wait_on() -> None:
    with places_of(2) as places:
        waiting, working = Board(places[0]), Board(places[1])
        looks = 0

        def look() -> None:
            nonlocal looks
            looks += 1
            if looks < 12:
                working.tell_sign()
            else:
                working.post("done", "after all")

        begun = monotonic()
        assert waiting.wait_for("done", 0.4, missing=never, meanwhile=look) == "after all"
        assert monotonic() - begun > 0.4


def test_the_end_of_a_rank_is_heard_by_whoever_waits_and_the_first_cause_stays() -> None:
    with places_of(3) as places:
        boards = [Board(place) for place in places]
        heard: list[str] = []

        def wait(board: Board) -> None:
            try:
                board.wait_for("never", LONG_SECONDS, missing=never)
            except OtherRankError as error:
                heard.append(f"{error} {error.exit_code}")

        waiting = [threading.Thread(target=wait, args=(board,)) for board in boards[:2]]
        for thread in waiting:
            thread.start()
        assert boards[2].tell_cause("rank 2: the disk is full\nand more", 7)
        for thread in waiting:
            thread.join(LONG_SECONDS)
        assert heard == ["rank 2 ended: rank 2: the disk is full 7"] * 2
        assert not boards[0].tell_cause("connection closed", 1)
        assert boards[2].tell_cause("said again by the same rank", 7)
        boards[2].raise_cause()  # which is its own
        with pytest.raises(OtherRankError), suppress(LostRankError):
            boards[0].wait_for_cause()
