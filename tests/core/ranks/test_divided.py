"""Work of which each rank does a part: all know what became of every part, and one that ends early ends the others'."""

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator
from time import sleep
from typing import Any

import pytest

from core.cache.division import Damaged, LeftToChance, OutOfReach, ReadsMore, agreed, is_own
from core.cache.keys import digest
from core.errors import DataError, OtherRankError
from core.ranks.crew import ONE
from core.ranks.divided import Divided
from core.ranks.environment import Place
from tests.core.ranks.in_threads import PATIENCE_SECONDS, ThreadCrew, each, places_of

Part = Callable[[], object]


@pytest.fixture
def crews() -> Iterator[list[ThreadCrew]]:
    with places_of(3) as places:
        yield [ThreadCrew(place) for place in places]


def endless() -> Iterator[int]:
    number = 0
    while True:
        sleep(0.01)
        yield (number := number + 1)


def outcome(work: Callable[[], Any]) -> Any:
    """What it returns, or the error that it raises."""
    try:
        return work()
    except Exception as error:
        return error


def test_what_the_parts_came_to_is_known_to_all_by_rank(crews: list[ThreadCrew]) -> None:
    def work(crew: ThreadCrew) -> list[int]:
        sleep(0.05 * crew.rank)
        return Divided(crew, "work").results(lambda: sum(range(crew.rank, 9, 3)))

    assert each(crews, work) == [[9, 12, 15]] * 3
    assert Divided(ONE, "work").results(lambda: "alone") == ["alone"]


def test_a_part_that_is_broken_off_ends_the_others_and_none_is_an_error(crews: list[ThreadCrew]) -> None:
    def work(crew: ThreadCrew) -> list[int]:
        divided = Divided(crew, "work")

        def part() -> int:
            for number in divided.over(endless()):
                if crew.rank == 1 and number == 3:
                    divided.break_off()
                    return number
            return 0

        return divided.results(part)

    assert each(crews, work) == [[0, 3, 0]] * 3


def test_the_next_work_is_not_broken_off_with_the_one_before(crews: list[ThreadCrew]) -> None:
    def work(crew: ThreadCrew) -> list[list[int]]:
        first = Divided(crew, "work")
        first.break_off()
        return [
            divided.results(lambda one=divided: len(list(one.over(range(3)))))
            for divided in (first, Divided(crew, "work"))
        ]

    assert each(crews, work) == [[[0, 0, 0], [3, 3, 3]]] * 3


def test_a_part_that_fails_ends_its_rank_with_its_error_and_the_others_with_that_ranks_end(
    crews: list[ThreadCrew],
) -> None:
    def work(crew: ThreadCrew) -> Any:
        divided = Divided(crew, "work")

        def part() -> int:
            for number in divided.over(endless()):
                if crew.rank == 2 and number == 3:
                    raise DataError("no picture")
            return 0

        return outcome(lambda: divided.results(part))

    first, second, failed = each(crews, work)
    assert isinstance(failed, DataError)
    for other in (first, second):
        assert isinstance(other, OtherRankError)
        assert str(other) == "rank 2 ended: no picture"
        assert other.exit_code == DataError.exit_code


def test_parts_that_exchange_with_each_other_are_not_ended_early_and_a_failure_does_not_wait(
    crews: list[ThreadCrew],
) -> None:
    failed = threading.Event()

    def work(crew: ThreadCrew) -> Any:
        divided = Divided(crew, "work", lockstep=True)

        def part() -> int:
            if crew.rank == 1:
                raise DataError("no picture")
            assert failed.wait(PATIENCE_SECONDS)
            return len(list(divided.over(range(5))))

        try:
            return divided.results(part)
        except DataError as error:
            crew.tell_cause(error, error.exit_code)
            failed.set()
            raise

    outcomes = each(crews, lambda crew: outcome(lambda: work(crew)))
    assert [type(one) for one in outcomes] == [OtherRankError, DataError, OtherRankError]


def test_a_rank_that_has_ended_is_heard_of_within_a_part(crews: list[ThreadCrew]) -> None:
    def work(crew: ThreadCrew) -> Any:
        divided = Divided(crew, "work")
        if crew.rank == 0:
            crew.tell_cause(MemoryError("no memory"), 1)
            return None
        return outcome(lambda: divided.results(lambda: len(list(divided.over(endless())))))

    assert [type(one) for one in each(crews, work)] == [type(None), OtherRankError, OtherRankError]


FOUND: dict[str, tuple[Callable[[], Exception], type[Exception]]] = {
    "chance": (lambda: LeftToChance(["Draws"]), LeftToChance),
    "fields": (lambda: ReadsMore({"caption"}), ReadsMore),
    "disk": (lambda: OSError(errno.ENOSPC, "No space left on device"), OutOfReach),
    "damage": (lambda: sqlite3.DatabaseError("database disk image is malformed"), Damaged),
    "ours": (lambda: OSError(errno.ENOENT, "No such file"), FileNotFoundError),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_one_rank_finds_out_about_a_cache_every_rank_acts_on(crews: list[ThreadCrew], what: str) -> None:
    make, kind = FOUND[what]

    def part(crew: ThreadCrew, work: Divided) -> None:
        for number in work.over(endless()):
            if crew.rank == 1 and number == 3:
                error = make()
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT  # type: ignore[attr-defined]  # as SQLite sets it
                raise error

    outcomes = each(crews, lambda crew: outcome(lambda: agreed(crew, "a pass", lambda work: part(crew, work))))
    others = OtherRankError if what == "ours" else kind
    assert [type(one) for one in outcomes] == [others, kind, others]
    if what == "damage":
        assert all(one.machines == {1} for one in outcomes)  # each is on a machine of its own
    if what == "disk":
        assert all(str(one) == "rank 1: [Errno 28] No space left on device" for one in outcomes)


def test_findings_of_several_ranks_are_acted_on_together_the_gravest_first(crews: list[ThreadCrew]) -> None:
    def part(crew: ThreadCrew, errors: dict[int, Exception]) -> None:
        if crew.rank in errors:
            raise errors[crew.rank]

    def found(errors: dict[int, Exception]) -> list[Any]:
        return each(crews, lambda crew: outcome(lambda: agreed(crew, "a pass", lambda work: part(crew, errors))))

    chance = found({0: LeftToChance(["One"]), 2: LeftToChance(["Other"])})
    assert [one.plugins for one in chance] == [("One", "Other")] * 3
    graver = found({0: ReadsMore({"caption"}), 1: LeftToChance(["One"]), 2: OSError(errno.EROFS, "read-only")})
    assert [type(one) for one in graver] == [OutOfReach] * 3
    both = found({0: ReadsMore({"caption"}), 1: LeftToChance(["One"])})
    assert [type(one) for one in both] == [LeftToChance] * 3


def test_every_entry_falls_to_one_process_of_each_machine() -> None:
    keys = [digest(number) for number in range(200)]
    crews = [_crew(rank, local_rank=rank % 4) for rank in range(8)]
    for machine in (crews[:4], crews[4:]):
        shares = [[key for key in keys if is_own(crew, key)] for crew in machine]
        assert sorted(key for share in shares for key in share) == sorted(keys)
        assert all(shares)


def _crew(rank: int, local_rank: int) -> Any:
    """A rank of two machines with four each."""

    class Standing:
        place = Place(rank=rank, count=8, local_rank=local_rank, local_count=4, port=1)

    return Standing()
