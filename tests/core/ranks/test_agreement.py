"""What any rank asks for is taken up by all of them, at the same boundary and once, and nobody asks the device for it."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from time import sleep

import pytest

from core.ranks.agreement import Agreement, merge
from core.ranks.crew import ONE
from events.control import Control, Request
from tests.core.ranks.in_threads import ThreadCrew, each, lockstep, places_of

LIMIT_SECONDS = 60.0
STEPS, WINDOW = 240, 10
"""Of the campaign, and steps from one regular meeting to the next."""


@contextmanager
def crews_of(count: int) -> Iterator[list[ThreadCrew]]:
    with places_of(count) as places, ExitStack() as stack:
        crews = [stack.enter_context(ThreadCrew(place)) for place in places]
        for crew in crews:
            crew.join(LIMIT_SECONDS)
        yield crews


def ask(control: Control, random: Random, reason: str) -> Request:
    """Anything that a handler may ask for, after a step."""
    kind = random.choice(("stop", "save", "preview", "evaluate", "export", "set"))
    if kind == "set":
        control.set("train.accumulate", random.randint(1, 4), asker=reason)
    elif kind == "stop":
        control.stop(reason, asker="campaign")
    else:
        getattr(control, kind)(reason=reason, asker="campaign")
    return control._requests[-1]


@pytest.mark.parametrize("seed", range(3))
def test_a_campaign_of_requests_from_handlers_and_threads_of_three_ranks_is_taken_up_alike(seed: int) -> None:
    barrier = lockstep(3)

    def go(crew: ThreadCrew) -> tuple[list[tuple[int, Request]], list[Request]]:
        random, control, asked, taken = Random(f"{seed} {crew.rank}"), Control(), [], []
        agreement, is_over = Agreement(crew, control), threading.Event()

        def ask_from_a_lane() -> None:
            own = Random(f"{seed} lane {crew.rank}")
            for number in range(8):
                if is_over.wait(own.choice((0.0, 0.01, 0.03))):
                    return
                asked.append(ask(control, own, f"lane {crew.rank} {number}"))

        lane = threading.Thread(target=ask_from_a_lane)
        lane.start()
        for step in range(1, STEPS + 1):
            barrier.wait()  # gradients
            sleep(random.choice((0.0, 0.0, 0.0005, 0.002)))
            if random.random() < 0.06:
                asked.append(ask(control, random, f"step {step} of rank {crew.rank}"))
            if step == STEPS:
                is_over.set()
                lane.join()
            is_regular = step % WINDOW == 0 or step == STEPS
            taken += [(step, request) for request in agreement.at_boundary(is_meeting=is_regular)]
            if step % 50 == 0:
                taken += [(step, request) for request in agreement.together("an epoch")]
        return taken, asked

    with crews_of(3) as crews:
        results = each(crews, go)
    agreed = results[0][0]
    assert [taken for taken, _ in results] == [agreed] * 3
    assert Counter(request for _, request in agreed) == Counter(request for _, asked in results for request in asked)
    assert any(step % WINDOW for step, _ in agreed), "the campaign has met at regular meetings alone"
    for _, asked in results:  # what one rank asks is taken up in its order, but for what its lane asks meanwhile
        own = [request for request in asked if request.reason.startswith("step")]
        assert [request for _, request in agreed if request in own] == own


def test_a_request_of_one_rank_is_taken_up_within_two_boundaries_of_its_being_heard() -> None:
    barrier = lockstep(3)

    def go(crew: ThreadCrew) -> list[int]:
        control, taken = Control(), []
        agreement = Agreement(crew, control)
        for step in range(1, 41):
            barrier.wait()
            if step % 8 == 1 and crew.rank == step % 3:
                control.save(asker="somebody")
            taken += [step for _ in agreement.at_boundary(is_meeting=False)]
            if step % 8 == 1:
                while not (crew._bell._promises or crew._bell._meetings):
                    sleep(0.0005)
        return taken

    with crews_of(3) as crews:
        results = each(crews, go)
    assert results == [results[0]] * 3
    assert [step // 8 for step in results[0]] == list(range(5))
    assert all(step % 8 in (2, 3) for step in results[0])


def test_a_wish_to_skip_that_has_come_too_late_stays_with_the_rank_that_has_it() -> None:
    def go(crew: ThreadCrew) -> tuple[list[Request], list[Request]]:
        control = Control()
        agreement = Agreement(crew, control)
        if crew.rank:
            control.skip_batch("after the step", asker="late")
        return agreement.at_boundary(is_meeting=False), agreement.skips()

    with crews_of(2) as crews:
        (none, no_skip), (late, neither) = each(crews, go)
    assert [request.reason for request in late] == ["after the step"]
    assert [none, no_skip, neither] == [[], [], []], "the next step would have been skipped for it"


def test_a_wish_to_skip_is_that_of_every_rank() -> None:
    def go(crew: ThreadCrew) -> list[Request]:
        control = Control()
        control.save(asker="stays")
        if crew.rank == 1:
            control.skip_batch("a bad picture", asker="picky")
        skips = Agreement(crew, control).skips()
        assert control.is_asked("save")
        return skips

    with crews_of(3) as crews:
        assert each(crews, go) == [[Request(kind="skip_batch", reason="a bad picture", asker="picky")]] * 3


def test_what_every_rank_asks_in_the_same_words_is_one_request_and_what_one_asks_twice_are_two() -> None:
    stop = Request(kind="stop", reason="interrupted by SIGTERM", asker="the terminal")
    save, other = Request(kind="save", asker="one"), Request(kind="save", asker="another")
    assert merge([[stop], [stop], [stop]]) == [stop]
    assert merge([[save, save, other], [stop, save]]) == [save, save, other, stop]


def test_alone_a_request_is_taken_up_at_once() -> None:
    control = Control()
    control.stop("enough", asker="me")
    control.skip_batch("late", asker="me")
    taken = Agreement(ONE, control).at_boundary(is_meeting=False)
    assert [request.kind for request in taken] == ["stop", "skip_batch"]
    assert not control.is_asked("stop", "skip_batch")
