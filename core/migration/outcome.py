"""What becomes of a key of another trainer: a key of the config, a plugin, or the reason why it is neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

Kind = Literal["became", "plugin", "already", "by hand", "none", "unknown"]
Tree = dict[str, Any]
"""A config as `core.config.file.validate` takes it."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
LISTS = ("train.parameters", "data.root")
"""Keys that several keys of a source may add to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one key."""

    kind: Kind
    keys: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    """By `table.key` of the config, the value it takes."""
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: NOTHING)
    """By class path, the settings it takes; those of several keys are put together."""
    remark: str = ""

    def noting(self, remark: str) -> "Outcome":
        """The same with a further remark."""
        return replace(self, remark="; ".join(part for part in (self.remark, remark) if part)) if remark else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A key of a source with what became of it."""

    file: str
    key: str
    value: Any
    outcome: Outcome
    is_given: bool = True
    """False where the file leaves the key out and the other trainer's default counts, or for what it always does."""


def became(key: str, value: Any, remark: str = "") -> Outcome:
    """A key of the config."""
    return Outcome(kind="became", keys={key: value}, remark=remark)


def became_all(
    keys: Mapping[str, Any], plugins: Mapping[str, Mapping[str, Any]] = NOTHING, remark: str = ""
) -> Outcome:
    """Several keys, and plugins that belong to them."""
    return Outcome(kind="became", keys=keys, plugins=plugins, remark=remark)


def taken(plugin: str, remark: str = "", /, **settings: Any) -> Outcome:
    """Settings of a plugin, which is thereby switched on."""
    return Outcome(kind="plugin", plugins={plugin: settings}, remark=remark)


def already(remark: str) -> Outcome:
    """Nothing needs to be written, since it works like that anyway."""
    return Outcome(kind="already", remark=remark)


def by_hand(remark: str, keys: Mapping[str, Any] = NOTHING) -> Outcome:
    """Something that only the user can do; the remark says what."""
    return Outcome(kind="by hand", keys=keys, remark=remark)


def lacking(remark: str) -> Outcome:
    """There is no counterpart; the remark says why."""
    return Outcome(kind="none", remark=remark)


UNSET = already("is not set there")
OFF = already("is off there")
UNKNOWN = Outcome(kind="unknown", remark="is left out")


def tree_of(rows: Sequence[Row]) -> Tree:
    """The config that the rows make together; where two set one key the later counts, and defaults before all others."""
    tree: Tree = {}
    plugins: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row.is_given):
        for path, value in row.outcome.keys.items():
            table, _, key = path.partition(".")
            values = tree.setdefault(table, {})
            values[key] = _added(values.get(key, []), value) if path in LISTS else _merged(values.get(key), value)
        for use, settings in row.outcome.plugins.items():
            plugins.setdefault(use, {}).update(settings)
    roots = tree.get("data", {}).get("root")
    if roots and len(roots) == 1:
        tree["data"]["root"] = roots[0]
    return tree | {"plugins": [{"use": use} | settings for use, settings in plugins.items()]} if plugins else tree


def without_effect(rows: Sequence[Row], outcome: Outcome) -> bool:
    """Whether rows say already all that a further outcome says."""
    keys = {key for row in rows for key in row.outcome.keys}
    settings = {(use, name) for row in rows for use, given in row.outcome.plugins.items() for name in given}
    uses = {use for row in rows for use in row.outcome.plugins}
    said = {(use, name) for use, given in outcome.plugins.items() for name in given}
    return keys >= outcome.keys.keys() and uses >= outcome.plugins.keys() and settings >= said


def _added(before: list[Any], value: Any) -> list[Any]:
    """What is there already is not added again."""
    return before + [one for one in (value if isinstance(value, list) else [value]) if one not in before]


def _merged(before: Any, value: Any) -> Any:
    """Tables such as train.optimizer_options are put together from several keys."""
    return {**before, **value} if isinstance(before, Mapping) and isinstance(value, Mapping) else value
