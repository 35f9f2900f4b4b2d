"""A rank's ways to the others: what main makes reaches all, uneven work is waited for, and a stop is heard meanwhile."""

import logging
import threading
from collections.abc import Iterator
from time import sleep

import pytest

from core.config.tables import DistributedTable
from core.errors import ConfigError, LostRankError, OtherRankError
from core.ranks.crew import ONE, Crew, LaunchedCrew, crew_of
from core.ranks.environment import Place
from core.ranks.lost import is_broken_contact
from events.control import Control
from tests.core.ranks.in_threads import PATIENCE_SECONDS, ThreadCrew, each, places_of, places_with_launcher


@pytest.fixture
def crews() -> Iterator[list[ThreadCrew]]:
    with places_of(3) as places:
        yield [ThreadCrew(place) for place in places]


def test_what_main_makes_is_made_once_and_is_the_same_on_every_rank(crews: list[ThreadCrew]) -> None:
    made: list[int] = []

    def make() -> tuple[int, str]:
        made.append(1)
        return (1, "as JSON has it")

    assert each(crews, lambda crew: crew.from_main("a thing", make)) == [[1, "as JSON has it"]] * 3
    assert made == [1]


def test_outcomes_come_by_rank_also_when_ranks_come_one_after_the_other(crews: list[ThreadCrew]) -> None:
    def work(crew: ThreadCrew) -> list[list[str]]:
        found = []
        for round_number in range(5):
            sleep(0.004 * ((crew.rank + round_number) % 3))
            found.append(crew.outcomes("work", f"{round_number} of {crew.rank}"))
        return found

    expected = [[f"{number} of {rank}" for rank in range(3)] for number in range(5)]
    assert each(crews, work) == [expected] * 3


def test_what_main_fails_to_make_ends_the_others_with_its_cause(crews: list[ThreadCrew]) -> None:
    def work(crew: ThreadCrew) -> str:
        expected = ZeroDivisionError if crew.is_main else OtherRankError
        with pytest.raises(expected) as caught, crew.told():
            crew.from_main("a thing", lambda: fail(crew))
        assert crew.tell_cause(caught.value, 1) == crew.is_main
        return str(caught.value)

    def fail(crew: ThreadCrew) -> float:
        try:
            return 1 / 0
        except ZeroDivisionError as error:
            crew.tell_cause(error, 1)
            raise

    assert each(crews, work) == ["division by zero", *["rank 0 ended: division by zero"] * 2]


def test_a_rank_that_has_another_config_is_told_which_lines(crews: list[ThreadCrew]) -> None:
    def work(crew: ThreadCrew) -> str:
        try:
            crew.require_same("config", ["a = 1", "b = 2"] if crew.rank != 2 else ["a = 1", "b = 3"])
        except ConfigError as error:
            crew.tell_cause(error, error.exit_code)
            return str(error)
        except OtherRankError as error:
            return str(error)
        return ""

    said = each(crews, work)
    assert "rank 2 has another config than rank 0" in said[2]
    assert "- b = 2" in said[2]
    assert "+ b = 3" in said[2]
    assert all("rank 2" in one for one in said)


def test_a_stop_asked_of_a_rank_that_waits_is_heard_by_one_that_works(crews: list[ThreadCrew]) -> None:
    def work(crew: ThreadCrew) -> str:
        control = Control()
        crew.heed(control)
        if crew.rank == 0:  # works for hours unless it is asked to stop
            for _ in range(int(PATIENCE_SECONDS / 0.01)):
                if crew.is_to_stop(control):
                    break
                sleep(0.01)
            crew.together("long work")
            return "stopped" if not control.is_asked("stop") else "asked itself"
        if crew.rank == 1:
            control.stop("enough", asker="a signal")
        crew.together("long work")
        return "waited" if control.is_asked("stop") == (crew.rank == 1) else "lost its request"

    assert each(crews, work) == ["stopped", "waited", "waited"]


def test_a_stop_asked_of_a_rank_that_works_is_heard_by_others_that_work(crews: list[ThreadCrew]) -> None:
    control = Control()
    assert not crews[1].is_to_stop(control)
    asked = Control()
    asked.stop("enough")
    assert crews[2].is_to_stop(asked)
    while not crews[1].is_to_stop(control):  # it looks twice a second
        sleep(0.01)
    assert crews[1].is_to_stop(control)


def test_the_same_sign_twice_is_no_sign_of_life() -> None:
    with places_of(2) as places:
        crew = LaunchedCrew(places[0], wait_seconds=0.3)
        other = LaunchedCrew(places[1])
        is_over = threading.Event()

        def repeat() -> None:
            while not is_over.wait(0.02):
                other.sign_of_life("3 pictures")

        working = threading.Thread(target=repeat)
        working.start()
        try:
            with pytest.raises(LostRankError, match=r"rank 0 has waited 0\.3 s for rank 1 \(encoding\) without a sign"):
                crew.together("encoding")
        finally:
            is_over.set()
            working.join()


def test_a_rank_that_loses_its_launcher_says_so_and_main_alone_shows_it() -> None:
    with places_with_launcher(2) as (places, launcher):
        crews = [ThreadCrew(place) for place in places]
        launcher.kill()
        launcher.wait()
        for crew in crews:
            with pytest.raises(LostRankError, match=f"rank {crew.rank} has lost the launcher") as caught, crew.told():
                crew.together("anything")
            assert crew.tell_cause(caught.value, 8) == crew.is_main
            with crew.saving():
                pass
            crew.close()


def test_one_process_waits_for_nobody() -> None:
    control = Control()
    crew = crew_of(Place(), DistributedTable())
    assert type(crew) is Crew
    assert (crew.from_main("x", lambda: 3), crew.outcomes("x", 4), crew.gather(5)) == (3, [4], [5])
    assert not crew.is_to_stop(control)
    control.stop("enough")
    assert ONE.is_to_stop(control)


@pytest.mark.parametrize(
    ("said", "is_broken"),
    [
        ("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1", True),
        ("NCCL communicator was aborted on rank 1", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_a_broken_exchange_is_told_from_an_error_of_the_model(said: str, *, is_broken: bool) -> None:
    assert is_broken_contact(RuntimeError(said)) == is_broken
    assert not is_broken_contact(ValueError(said))


def test_nobody_hears_of_what_happens_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    with places_of(2) as places, caplog.at_level(logging.DEBUG):
        for crew in [ThreadCrew(place) for place in places]:
            with crew:
                crew.join(1.0)
    assert not caplog.records
