"""Rules: what becomes of one key, given its value and what else its trainer was told. Tables of them are data."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from ..errors import ConfigError
from .outcome import NOTHING, OFF, UNKNOWN, UNSET, Outcome, Row, already, became, lacking, taken, without_effect

LARGEST = 1e18
"""No setting is beyond it."""
GUESSED_STEPS = 1000
"""Of a run whose pictures cannot be counted."""


class WrongValue(ValueError):
    """A value of the source that cannot be read."""

    def __init__(self, wanted: str, found: Any) -> None:
        super().__init__(f"{found!r} is not {wanted}")
        self.found = found


class Problems:
    """What is wrong with the values of a file, key by key; each is told of its own key alone, whoever stumbled on it."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._own: list[str] = []
        self._others: list[str] = []

    def add(self, key: str, value: Any, error: WrongValue) -> None:
        inside = value if isinstance(value, list | tuple) else value.values() if isinstance(value, Mapping) else ()
        is_own = (
            error.found is value
            or error.found == value
            or any(error.found == one for one in inside)
            or isinstance(value, str)
        )
        (self._own if is_own else self._others).append(f"{key}  {error}")

    def raise_if_any(self) -> None:
        """Raises ConfigError with all of them."""
        if self._own or self._others:
            raise ConfigError(self._file, self._own or self._others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a trainer was told, its own defaults where it was told nothing."""

    values: Mapping[str, Any]
    """By key; those of further files have the file's name before them, as in `optimizer.base.lr`."""
    defaults: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    forced: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    """What it does whatever it was told."""
    forced_by: str = ""
    epoch_batches: int | None = None
    """Batches in an epoch of the pictures that were found; None where they cannot be counted."""

    def __getitem__(self, key: str) -> Any:
        """None where nothing is said."""
        for values in (self.forced, self.values):
            if key in values:
                return values[key]
        return self.defaults.get(key)

    def is_on(self, key: str) -> bool:
        return flag(self[key]) if self[key] is not None else False


Rule = Callable[[Any, Facts], Outcome]
Rules = Mapping[str, Rule]
"""By key; a key may be a glob. A rule raises WrongValue for a value of the wrong kind."""
Read = Callable[[Any], Any]


def rows_of(file: str, values: Mapping[str, Any], rules: Rules, facts: Facts, prefix: str = "") -> tuple[Row, ...]:
    """A row for each key of a file, in its order. Raises ConfigError naming the file and all values that are wrong."""
    rows: list[Row] = []
    problems = Problems(file)
    for key, value in values.items():
        rule = rule_for(key, rules)
        is_forced = prefix + key in facts.forced
        try:
            outcome = UNKNOWN if rule is None else rule(facts[prefix + key] if is_forced else value, facts)
        except WrongValue as error:
            problems.add(key, value, error)
            continue
        rows.append(Row(file=file, key=key, value=value, outcome=outcome.noting(facts.forced_by if is_forced else "")))
    problems.raise_if_any()
    return tuple(rows)


def default_rows(
    defaults: Mapping[str, Any], rules: Rules, facts: Facts, rows: Sequence[Row], prefix: str = ""
) -> tuple[Row, ...]:
    """A row for each default of a file that counts since nothing is said, unless `rows` say the same."""
    found: list[Row] = []
    for key, value in defaults.items():
        rule = rule_for(key, rules)
        assert rule is not None, f"the default of {key} has no rule"
        if prefix + key not in facts.values:
            outcome = rule(facts[prefix + key], facts)
            if not without_effect([*rows, *found], outcome):
                found.append(Row(file="", key=key, value=value, outcome=outcome, is_given=False))
    return tuple(found)


def always(what: str, outcome: Outcome) -> Row:
    """How a trainer works whatever its files say."""
    return Row(file="", key="", value=what, outcome=outcome, is_given=False)


def rule_for(key: str, rules: Rules) -> Rule | None:
    """The rule of this very key, else of the first glob that fits."""
    return rules.get(key) or next(
        (rule for glob, rule in rules.items() if "*" in glob and fnmatchcase(key, glob)), None
    )


# rules


def to(key: str, read: Read, remark: str = "") -> Rule:
    """The same value under another name."""
    return lambda value, _: UNSET if value is None else became(key, read(value), remark)


def if_set(rule: Rule) -> Rule:
    """A rule that need not ask whether there is a value."""
    return lambda value, facts: UNSET if value is None else rule(value, facts)


def says(outcome: Outcome) -> Rule:
    """The same whatever the value is."""
    return lambda value, _: outcome


def lacks(remark: str) -> Rule:
    """Without a counterpart, and of no matter where it is off or empty."""
    return lambda value, _: OFF if is_off(value) else lacking(remark)


def works(remark: str) -> Rule:
    return says(already(remark))


def switch(on: Outcome, off: Outcome = OFF) -> Rule:
    """Of a key that is true or false."""
    return lambda value, _: on if value is not None and flag(value) else off


def either(key: str, on: Any, off: Any) -> Rule:
    """One of two values for what is true, and for what is false or not set."""
    return lambda value, _: became(key, on if value is not None and flag(value) else off)


def amount(plugin: str, setting: str, remark: str = "") -> Rule:
    """A plugin with this setting, unless it is 0 or not set."""
    return lambda value, _: OFF if is_off(value) else taken(plugin, remark, **{setting: number(value)})


def of(key: str, rule: Rule) -> Rule:
    """A rule for what matters only where another key is on."""
    return lambda value, facts: already(f"{key} is off there") if is_off(facts[key]) else rule(value, facts)


def choice(key: str, names: Mapping[str, Any], remark: str = "") -> Rule:
    """A name of theirs for one of ours."""

    def choose(value: Any, facts: Facts) -> Outcome:
        name = text(value).lower()
        if name not in names:
            return lacking(f"there is none such; {key} may be {', '.join(sorted(set(map(str, names.values()))))}")
        return became(key, names[name], remark)

    return if_set(choose)


def steps_of(epochs: float, facts: Facts, epochs_in_all: float | None, accumulate: int) -> tuple[int, str]:
    """Optimizer steps of so many epochs, and what is to be said of the number."""
    if facts.epoch_batches is not None:
        steps = max(1, round(epochs * math.ceil(facts.epoch_batches / accumulate)))
        return steps, f"{epochs:g} epoch{'' if epochs == 1 else 's'} of the pictures found"
    share = epochs / epochs_in_all if epochs_in_all else 1
    return max(1, round(GUESSED_STEPS * share)), "A GUESS, since the pictures cannot be counted"


# values


def is_off(value: Any) -> bool:
    return (
        value is None or value is False or value in (0, "", "0", "false", "False", "none", "None") or value in ([], {})
    )


def number(value: Any) -> float:
    """Also written as text, as on a command line."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        found = float(value)
    except (ValueError, OverflowError):
        raise WrongValue("a number", value) from None
    if not abs(found) <= LARGEST:
        raise WrongValue(f"a number up to {LARGEST:g}", value)
    return found


def whole(value: Any) -> int:
    found = number(value)
    if found != int(found):
        raise WrongValue("a whole number", value)
    return int(found)


def natural(value: Any) -> int:
    """From 1."""
    if whole(value) < 1:
        raise WrongValue("a whole number from 1", value)
    return whole(value)


def share(value: Any) -> float:
    """From 0 to 1."""
    if not 0 <= number(value) <= 1:
        raise WrongValue("a number from 0 to 1", value)
    return number(value)


def flag(value: Any) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    word = str(value).strip().lower()
    if not isinstance(value, bool | int | str) or word not in words:
        raise WrongValue("true or false", value)
    return words[word]


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongValue("text", value)
    return value


def listed(value: Any) -> list[Any]:
    """A list; a single value alone is one too."""
    if isinstance(value, Mapping):
        raise WrongValue("a list", value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise WrongValue("a table of keys and values", value)
    return value
