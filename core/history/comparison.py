"""What two runs have in common and what not: settings, code, data, and curves to the last digit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..config.changes import Change, differences
from .curve_section import TIME
from .facts import Data, Session
from .reading import VALIDATION, RunHistory

ALWAYS_OTHERS = frozenset({"run.name", "run.dir"})
"""Keys that no two runs have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPair:
    """A metric that two runs reported."""

    name: str
    shared: tuple[tuple[int, float, float], ...]
    """(step, value of the one, value of the other) where both have one, by step."""
    best: tuple[tuple[int, float], tuple[int, float]]
    """(step, lowest value) of each, among all that it reported."""
    last: tuple[tuple[int, float], tuple[int, float]]

    @property
    def parting(self) -> int | None:
        """Place in `shared` from which on the values differ in any digit; None where they never do."""
        return next((place for place, (_, one, other) in enumerate(self.shared) if one != other), None)


def changed_settings(one: RunHistory, other: RunHistory) -> list[Change]:
    """(dotted key, value of the one, value of the other); plugins by their names, one that a run has not as None."""
    found = differences(_by_plugin(one.config), _by_plugin(other.config))
    return [change for change in found if change[0] not in ALWAYS_OTHERS]


def changed_code(one: Session | None, other: Session | None) -> list[Change]:
    """Versions of packages and of plugins; empty where a run has no record."""
    if one is None or other is None:
        return []
    return list(differences(_versions(one), _versions(other)))


def changed_data(one: Data | None, other: Data | None) -> list[Change]:
    """Counts of pictures; empty where a run has no record."""
    if one is None or other is None:
        return []
    left, right = (data.model_dump(exclude={"problems"}) for data in (one, other))
    return list(differences(left, right))


def shared_metrics(one: RunHistory, other: RunHistory) -> list[MetricPair]:
    """Of the metrics that both reported, losses first; without times, which differ always."""
    names = [name for name in one.curves if name in other.curves and not name.startswith(TIME)]
    names.sort(key=lambda name: (name != "loss", not name.startswith(VALIDATION)))
    return [_pair(name, one.curves[name], other.curves[name]) for name in names]


def same_until(pairs: list[MetricPair]) -> int | None:
    """The last step up to which all metrics are the same to the last digit; None where not even the first is."""
    steps = sorted({step for pair in pairs for step, _, _ in pair.shared})
    partings = [pair.shared[pair.parting][0] for pair in pairs if pair.parting is not None]
    before = [step for step in steps if not partings or step < min(partings)]
    return before[-1] if before else None


def _pair(name: str, one: Any, other: Any) -> MetricPair:
    theirs = dict(other)
    return MetricPair(
        name=name, shared=tuple((step, value, theirs[step]) for step, value in one if step in theirs),
        best=(_lowest(one), _lowest(other)), last=(one[-1], other[-1]),
    )  # fmt: skip


def _lowest(points: Any) -> tuple[int, float]:
    lowest: tuple[int, float] = min(points, key=lambda point: point[1])
    return lowest


def _by_plugin(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its list of plugins as a table by name."""
    entries = [{"use": entry} if isinstance(entry, str) else entry for entry in config.get("plugins", ())]
    named = {str(entry.get("name") or str(entry.get("use")).rpartition(".")[2]): entry for entry in entries}
    return {**config, "plugins": named}


def _versions(session: Session) -> dict[str, Any]:
    return {**session.versions, **dict(_plugin_versions(session))}


def _plugin_versions(session: Session) -> Iterator[tuple[str, str]]:
    for one in session.plugins:
        yield one.name, f"version {one.version}"
