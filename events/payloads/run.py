"""Payloads of the run as a whole: its start and end, its settings, what it measures and what it was asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..control import Control
from .read_only import freeze


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What stays the same from the first signal to the last."""

    name: str
    """The folder's name: the config's `run.name`, numbered where a run was begun anew."""
    folder: Path
    """`<run.dir>/<run.name>`, where everything the run writes lies."""
    seed: int
    steps: int
    """Optimizer steps that make the run complete."""
    data_roots: tuple[str, ...]
    """The folders of `data.root`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureContext:
    """Where the config came from. A handler returns a changed copy (`config.model_copy`); it is validated again."""

    source: str
    """The config file, as it was named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """The run's folder is there and nothing is loaded yet."""

    run: RunInfo
    config: Mapping[str, Any]
    """The resolved config as nested read-only mappings, tables by name."""
    resumed_step: int
    """Steps taken before; 0 for a new run."""
    control: Control

    def __post_init__(self) -> None:
        freeze(self, "config")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsContext:
    """The step that the numbers are of, in the past."""

    step: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsReady:
    """Numbers of a step in the past have reached the host. The first is of step 1."""

    run: RunInfo
    step: int
    epoch: int
    values: Mapping[str, float]
    """`loss` and `grad_norm` are means since the last report; `lr/<group>` as used in this step.

    `time/<kind>` are shares in [0, 1] of the wall time since the boundary at which the report before arrived: `steps`,
    `data`, `device`, `plugins`, `lanes_blocked`. `time/plugins/<name>` is that of a plugin which took at least 1 %.
    `time/seconds` is that time, and `time/loop_lag` the largest lag of the background loop in it, in seconds.
    """

    def __post_init__(self) -> None:
        freeze(self, "values")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """At most a few a second, for a display."""

    run: RunInfo
    step: int
    """Steps taken so far."""
    steps: int
    """Steps that make the run complete."""
    loss: float | None
    """The newest that has reached the host; None before the first."""
    images_per_second: float
    """Mean of this session."""
    eta_seconds: float
    """Until the last step."""
    data_fraction: float
    """Share of the time since training began that the loop waited for data, in [0, 1]; not for the first batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlApplied:
    """A request that a handler made has been taken up: what it asks for is in force, or follows at this boundary."""

    step: int
    kind: str
    """`stop`, `save`, `preview`, `skip_batch` or `set`."""
    key: str
    """The setting that was set, else empty."""
    value: Any
    """Its new value, as its owner took it; else None."""
    reason: str
    """What the asker said."""
    asker: str
    """Who asked, if it said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunError:
    """The run ends because of this error, which is raised again once every handler has been called."""

    run: RunInfo
    step: int
    error: BaseException
    where: str
    """The stage of the run: `data`, `model`, `training`, `export`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """The run is complete or was stopped; its last checkpoint is saved."""

    run: RunInfo
    step: int
    reason: str
    """`complete`, or why it was stopped."""
    seconds: float
    """Wall time of this session, loading included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClose:
    """Always the last signal, also after an error."""

    run: RunInfo
