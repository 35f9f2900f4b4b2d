"""Ranks that share a plan train on each of its batches once, in the steps and the order of one process."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from core.ranks.share import Keys, Share, batches_a_step, shares
from events.payloads import SampleKey
from events.ranks import Ranks


@dataclass(frozen=True)
class Rank(Ranks):
    rank: int = 0
    count: int = 1


def all_of(count: int) -> list[Rank]:
    return [Rank(rank, count) for rank in range(count)]


ALONE = Rank()
plans = st.lists(st.integers(1, 4), min_size=1, max_size=23).map(
    lambda sizes: [tuple(SampleKey(0, batch, 0, copy) for copy in range(size)) for batch, size in enumerate(sizes)]
)
"""Batch b is of item b, and of copies of it."""
counts, rounds = st.integers(1, 5), st.integers(1, 4)


def counted(share: Share) -> dict[int, Keys]:
    """The batches that count, by their number in the step."""
    return {
        number: keys
        for place, (number, keys) in enumerate(zip(share.numbers, share.keys, strict=True))
        if not share.is_stand_in(place)
    }


def trained_on(steps: list[tuple[Share, ...]]) -> list[list[Keys]]:
    """By step the batches of all ranks that count, in the step's order."""
    found = []
    for step in steps:
        by_number: dict[int, Keys] = {}
        for share in step:
            assert not by_number.keys() & counted(share).keys()
            by_number |= counted(share)
        assert sorted(by_number) == list(range(step[0].batches))
        found.append([by_number[number] for number in sorted(by_number)])
    return found


def steps_of(plan: list[Keys], start: int, count: int, each: int) -> list[tuple[Share, ...]]:
    """By step the shares of all ranks, which have as many steps."""
    return list(zip(*(shares(plan, start, count * each, rank) for rank in all_of(count)), strict=True))


@given(plans, counts, rounds, st.integers(0, 25))
def test_every_batch_counts_once_on_one_rank_in_the_steps_of_one_process(
    plan: list[Keys], count: int, each: int, start: int
) -> None:
    together = trained_on(steps_of(plan, start, count, each))
    alone = [list(share.keys) for share in shares(plan, start, count * each, ALONE)]
    assert together == alone
    assert [keys for step in together for keys in step] == plan[start:]


@given(plans, counts, rounds)
def test_every_rank_takes_as_many_rounds_in_each_step(plan: list[Keys], count: int, each: int) -> None:
    for step in steps_of(plan, 0, count, each):
        (taken,) = {len(share.keys) for share in step}
        assert 1 <= taken <= each
        assert all(len(share.numbers) == taken for share in step)


@given(plans, counts, rounds)
def test_no_rank_goes_through_more_rounds_than_it_must(plan: list[Keys], count: int, each: int) -> None:
    """A stand-in is another rank's batch of the same step, and only the last round has any."""
    for step in steps_of(plan, 0, count, each):
        own = [keys for share in step for keys in counted(share).values()]
        for share in step:
            stand_ins = [place for place in range(len(share.keys)) if share.is_stand_in(place)]
            assert stand_ins in ([], [len(share.keys) - 1])
            assert all(share.keys[place] in own for place in stand_ins)


@given(plans, counts, rounds)
def test_every_rank_knows_how_many_images_share_the_step(plan: list[Keys], count: int, each: int) -> None:
    """Copies that fill a batch are none; those of stand-ins are counted where they count."""
    steps = steps_of(plan, 0, count, each)
    for step, batches in zip(steps, trained_on(steps), strict=True):
        images = sum(not key.is_copy for keys in batches for key in keys)
        assert {share.images for share in step} == {images}
        assert {share.batches for share in step} == {len(batches)}
    assert sum(step[0].images for step in steps) == len(plan)


@given(rounds, counts)
def test_a_step_has_the_rounds_of_every_rank(each: int, count: int) -> None:
    assert batches_a_step(each, Rank(0, count)) == each * count


@given(rounds, counts, st.integers(1, 20))
def test_an_epoch_keeps_its_batches_a_step_on_other_counts_or_takes_the_next_higher_number_that_divides(
    each: int, count: int, begun_with: int
) -> None:
    now = batches_a_step(each, Rank(0, count), begun_with)
    assert now % count == 0
    assert begun_with <= now < begun_with + count


@given(plans, st.lists(st.tuples(counts, rounds, st.integers(0, 3)), min_size=1, max_size=4))
def test_an_epoch_that_is_broken_and_goes_on_with_other_counts_has_every_batch_once(
    plan: list[Keys], sessions: list[tuple[int, int, int]]
) -> None:
    """Each session takes some steps; the last takes what is left."""
    done: list[Keys] = []
    begun_with = 0
    for number, (count, each, steps) in enumerate(sessions):
        batches = batches_a_step(each, Rank(0, count), begun_with)
        begun_with = begun_with or batches
        taken = trained_on(steps_of(plan, len(done), count, batches // count))
        done += [keys for step in (taken if number == len(sessions) - 1 else taken[:steps]) for keys in step]
    assert done == plan
