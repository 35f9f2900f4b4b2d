"""kohya's files together: arguments from a command line and a config file, and a dataset_config."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import kohya_pictures
from .kohya_data import FOLDERS, Level, Pictures, folder_of_arguments, outcome_of, read_pictures, rows_of_pictures
from .kohya_keys import ALWAYS, DEFAULTS, LAUNCHER, NO_PREVIEWS, RULES
from .kohya_pictures import ARGUMENT_NAMES
from .kohya_rules import modules, script_of
from .outcome import NOTHING, Outcome, Row, already
from .rules import Facts, Problems, Rules, WrongValue, always, default_rows, rule_for, works

PICTURE_RULES: Rules = {"num_repeats": works("once an epoch"), **kohya_pictures.RULES}
"""Those of defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Arguments of one file; of tables in it the names do not matter, as kohya's scripts read it."""

    file: str
    values: Mapping[str, Any]
    places: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """The name with its table before it, where there is one."""
    launcher: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    script: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kohya:
    """What kohya's scripts were told."""

    arguments: tuple[Arguments, ...] = ()
    """Later ones have the say, as a command line has over a config file."""
    dataset_file: str = ""
    dataset: Mapping[str, Any] = field(default_factory=lambda: NOTHING)

    def merged(self) -> dict[str, Any]:
        return {key: value for one in self.arguments for key, value in one.values.items()}

    def pictures(self) -> Pictures:
        return read_pictures(self.dataset_file, self.dataset, self.merged())


def convert(source: Kohya, epoch_batches: int | None = None) -> tuple[Row, ...]:
    """A row for each key of each file, then one for each default that counts.

    `epoch_batches` are those of the pictures with their repeats; without them everything in epochs is a guess.
    Raises ConfigError for values of the wrong kind.
    """
    merged, pictures = source.merged(), source.pictures()
    script = script_of(merged, next((one.script for one in reversed(source.arguments) if one.script), ""))
    regularized = any(subset.is_regularization for subset in pictures.subsets)
    facts = Facts(
        values=merged | {"script": script, "has_regularization": regularized},
        defaults=DEFAULTS,
        epoch_batches=epoch_batches,
    )
    rows: list[Row] = []
    for place, one in enumerate(source.arguments):
        overruled = {key for later in source.arguments[place + 1 :] for key in later.values}
        rows += [Row(file=one.file, key=f"accelerate {key}", value=value, outcome=LAUNCHER) for key, value in one.launcher.items()]  # fmt: skip
        rows += _rows_of_arguments(one, overruled, pictures, facts)
    rows += rows_of_pictures(pictures)
    if source.arguments:
        rows += default_rows(DEFAULTS, RULES, facts, rows)
        rows.append(always(f"{script} trains these", modules(None, facts)))
    if facts["sample_prompts"] is None:
        rows.append(NO_PREVIEWS)
    rows += default_rows(kohya_pictures.DEFAULTS, PICTURE_RULES, pictures.facts, rows)
    return (*rows, *ALWAYS)


def _rows_of_arguments(one: Arguments, overruled: set[str], pictures: Pictures, facts: Facts) -> list[Row]:
    rows: list[Row] = []
    problems = Problems(one.file)
    level = next((subset.levels[0] for subset in pictures.subsets), Level(place="", values=NOTHING))
    for key, value in one.values.items():
        name = one.places.get(key, key)
        try:
            outcome = (
                already("a later file has the say")
                if key in overruled
                else _argument(key, value, level, pictures, facts)
            )
        except WrongValue as error:
            problems.add(name, value, error)
            continue
        rows.append(Row(file=one.file, key=name, value=value, outcome=outcome))
    problems.raise_if_any()
    return rows


def _argument(key: str, value: Any, level: Level, pictures: Pictures, facts: Facts) -> Outcome:
    if key in FOLDERS and value is not None:
        return folder_of_arguments(key, value, pictures)
    rule = rule_for(key, RULES)
    if rule is not None:
        return rule(value, facts)
    return outcome_of(ARGUMENT_NAMES.get(key, key), value, level, pictures)
