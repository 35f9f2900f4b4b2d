"""EveryDream2's files together: train.json, and what it names of optimizer, validation and sample prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import everydream_files as files
from .everydream_keys import ALWAYS, DEFAULTS, LOW_VRAM, RULES
from .outcome import NOTHING, Row
from .rules import Facts, Rules, default_rows, rows_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A file with its values, those of inner tables as `table.key`."""

    file: str
    values: Mapping[str, Any]


NO_FILE = Named(file="", values=NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class EveryDream:
    """What EveryDream2 was told. The further files may be absent."""

    train: Named
    optimizer: Named = NO_FILE
    validation: Named = NO_FILE
    prompts: Named = NO_FILE

    def parts(self) -> tuple[tuple[Named, Rules, str, Mapping[str, Any]], ...]:
        """Each file with its rules, the prefix of its keys, and its defaults."""
        validation = files.VALIDATION_DEFAULTS if self.validation.file else NOTHING
        return (
            (self.train, RULES, "", DEFAULTS),
            (self.optimizer, files.OPTIMIZER_RULES, "optimizer.", files.OPTIMIZER_DEFAULTS),
            (self.validation, files.VALIDATION_RULES, "validation.", validation),
            (self.prompts, files.PROMPT_RULES, "prompts.", files.PROMPT_DEFAULTS),
        )


def convert(source: EveryDream, epoch_batches: int | None = None) -> tuple[Row, ...]:
    """A row for each key of each file, then one for each default that counts.

    `epoch_batches` are those of the data folder; without them everything in epochs is a guess.
    Raises ConfigError for values of the wrong kind.
    """
    parts = source.parts()
    values = {prefix + key: value for one, _, prefix, _ in parts for key, value in one.values.items()}
    defaults = {prefix + key: value for _, _, prefix, given in parts for key, value in given.items()}
    facts = Facts(values=values, defaults=defaults, epoch_batches=epoch_batches)
    if str(facts["lowvram"]).lower() in ("true", "1"):
        facts = Facts(
            values=values,
            defaults=defaults,
            forced=LOW_VRAM,
            forced_by="as lowvram sets it",
            epoch_batches=epoch_batches,
        )
    rows = [row for one, rules, prefix, _ in parts for row in rows_of(one.file, one.values, rules, facts, prefix)]
    for _, rules, prefix, given in parts:
        rows += default_rows(given, rules, facts, rows, prefix)
    return (*rows, *ALWAYS)


def flat(tree: Mapping[str, Any], tables: tuple[str, ...] = ()) -> dict[str, Any]:
    """Inner tables as `table.key`, those that are named by `tables` only.

    >>> flat({"base": {"lr": 1, "betas": [1, 2]}, "doc": {"x": 1}}, ("base",))
    {'base.lr': 1, 'base.betas': [1, 2], 'doc': {'x': 1}}
    """
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key in tables and isinstance(value, Mapping):
            values |= {f"{key}.{inner}": member for inner, member in value.items()}
        else:
            values[key] = value
    return values
