"""An amount is a number or a range within its bounds; a range draws at its place, and a number draws nothing."""

import re
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from core.config.amount import Amount, Within, drawn, in_training_only, is_random
from events import Plugin, PluginSettings, transform
from events.payloads import SampleContext
from events.randomness import Streams
from tests.plugins.pictures_for_tests import NoDraws


class Settings(PluginSettings):
    size: Annotated[Amount, Within(-2, 3)] = Field(1.0, description="of something")


@pytest.mark.parametrize(
    ("given_value", "kept"), [(2, 2.0), (-2, -2.0), ([0, 3], (0.0, 3.0)), ((0.5, 1), (0.5, 1.0)), ([1, 1], 1.0)]
)
def test_a_number_or_a_range_is_kept_and_comes_back_from_what_is_dumped(given_value: Any, kept: Amount) -> None:
    settings = Settings.model_validate({"size": given_value})
    assert settings.size == kept
    for mode in ("python", "json"):
        assert Settings.model_validate(settings.model_dump(mode=mode)) == settings


@pytest.mark.parametrize(
    ("given_value", "said"),
    [
        (4, "4 is not between -2 and 3"),
        ([0, 3.5], "3.5 is not between -2 and 3"),
        ([2, 1], "low = 2 is above high = 1"),
        ("wide", "'wide' is neither a number nor [low, high], two numbers to draw from"),
        (True, "True is neither a number"),
        (float("nan"), "nan is neither a number"),
        ([1], "[1] is neither a number"),
        ([1, 2, 3], "[1, 2, 3] is neither a number"),
        ([[1, 2], 3], "[[1, 2], 3] is neither a number"),
        (None, "None is neither a number"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(given_value: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)) as caught:
        Settings.model_validate({"size": given_value})
    assert caught.value.error_count() == 1


def test_its_schema_tells_the_bounds() -> None:
    number = {"type": "number", "minimum": -2, "maximum": 3}
    told = Settings.model_json_schema()["properties"]["size"]
    assert told["anyOf"] == [number, {"type": "array", "items": number, "minItems": 2, "maxItems": 2}]


@settings(deadline=None)
@given(st.floats(-5, 5), st.floats(0, 5), st.integers())
def test_a_range_draws_within_itself_the_same_at_the_same_place(low: float, width: float, seed: int) -> None:
    amount = (low, low + width)
    assert low <= drawn(amount, Streams(seed)) <= low + width
    assert drawn(amount, Streams(seed)) == drawn(amount, Streams(seed))


def test_a_number_draws_nothing() -> None:
    assert drawn(0.5, NoDraws()) == 0.5
    assert not is_random(0.5, 1.0)
    assert is_random(0.5, (0.0, 1.0))


class Both(Plugin):
    @transform("sample.caption", priority=7)
    def one(self, caption: str, sample: SampleContext) -> str:
        return caption

    @transform("sample.caption", training_only=True)
    def other(self, caption: str, sample: SampleContext) -> str:
        return caption


@pytest.mark.parametrize("when", [True, False])
def test_handlers_are_for_training_only_as_is_said_and_else_as_they_were(when: bool) -> None:
    plain = list(Both().subscriptions())
    found = list(in_training_only(plain, when=when))
    assert [one.mark.training_only for one in found] == [when, when]
    assert [one.mark.priority for one in found] == [7, 50]
    assert [one.method for one in found] == [one.method for one in plain]
