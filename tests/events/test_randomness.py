"""A draw is a pure function of its place: the same in every process, apart for every other place, and touching nothing global."""

import os
import random
import subprocess
import sys
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from events.randomness import Streams, derive
from tests.small_runs import ROOT

PARTS = st.one_of(st.integers(), st.text(), st.from_regex(r"[0-9:]{0,4}", fullmatch=True))
PLACES = st.lists(PARTS, max_size=4).map(tuple)


@given(PLACES)
def test_a_seed_has_63_bits(place: tuple[int | str, ...]) -> None:
    assert 0 <= derive(*place) < 2**63


@given(PLACES, PLACES)
def test_two_places_share_a_seed_only_if_they_are_one(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    assert (derive(*one) == derive(*other)) == (one == other)


@given(st.lists(st.text(min_size=1), min_size=2, max_size=4))
def test_parts_do_not_run_together(parts: list[str]) -> None:
    assert derive(*parts) != derive("".join(parts))


def test_text_and_number_are_two_places() -> None:
    assert derive("1") != derive(1)


def test_a_number_of_numpy_is_the_number() -> None:
    assert derive(numpy.int64(3)) == derive(3)


@pytest.mark.parametrize("part", [1.5, None, object(), ("a",), b"a"])
def test_a_part_without_a_lasting_text_is_refused(part: Any) -> None:
    with pytest.raises(TypeError):
        derive(part)


def test_a_file_name_that_is_no_utf8_has_a_place() -> None:
    assert derive("a\udcff.png") != derive("a.png")


def test_the_seed_of_a_place_never_changes() -> None:
    """By hashlib alone: BLAKE2b-64 of `int:7`, `str:epoch`, ..., each after its length in 8 bytes, shifted by one bit."""
    assert derive(7, "epoch", 3, "cats/a.png") == 3507585804269361968


@given(PLACES, st.lists(PARTS, min_size=1, max_size=2).map(tuple))
def test_a_place_inside_another_is_the_longer_place(outer: tuple[int | str, ...], inner: tuple[int | str, ...]) -> None:
    assert Streams(*outer).of(*inner).place == (*outer, *inner)
    assert Streams(*outer).of(*inner).py.random() == Streams(*outer, *inner).py.random()


def draws(streams: Streams) -> tuple[float, float, float]:
    return streams.py.random(), float(streams.np.random()), float(torch.rand((), generator=streams.torch))


def test_all_three_streams_repeat() -> None:
    assert draws(Streams(1, "a")) == draws(Streams(1, "a"))


def test_a_stream_goes_on_where_it_was() -> None:
    streams = Streams(1, "a")
    assert streams.py.random() != streams.py.random()


def test_the_three_streams_do_not_move_each_other() -> None:
    streams = Streams(1, "a")
    expected = draws(Streams(1, "a"))
    assert float(torch.rand((), generator=streams.torch)) == expected[2]
    assert float(streams.np.random()) == expected[1]
    assert streams.py.random() == expected[0]


def test_nothing_global_is_read_or_moved() -> None:
    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()
    drawn = draws(Streams(1, "a"))
    assert (random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()) == before
    random.seed(2)
    torch.manual_seed(2)
    assert draws(Streams(1, "a")) == drawn


def test_draws_are_the_same_in_every_process() -> None:
    script = "from events.randomness import Streams; s = Streams(1, 'a'); print(s.py.random(), s.np.random())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True, timeout=120,
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    expected = Streams(1, "a")
    assert seen == {f"{expected.py.random()} {expected.np.random()}\n"}


def test_numpy_and_torch_are_loaded_only_by_who_draws_from_them() -> None:
    script = (
        "import sys; from events.randomness import Streams; Streams(1).py.random();"
        " print([name for name in ('numpy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "[]\n"
