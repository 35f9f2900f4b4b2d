"""The files in which a run tells of itself, and what is in them.

Beside `config.toml`, `log.jsonl` and `metrics.jsonl` a run's folder has `record/session.json`, `record/plan.json`,
`record/data.json`, and `round.json` in each folder of previews. They hold no secrets, and are replaced as a whole.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

RECORD = "record"
SESSION, PLAN, DATA = "session.json", "plan.json", "data.json"
ROUND = "round.json"
"""In a folder of previews."""
Status = Literal["running", "complete", "stopped", "failed"]


class Facts(BaseModel):
    """A part of a file. Keys that a newer version has added are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class HandlerTime(Facts):
    """What one handler has cost."""

    plugin: str
    signal: str
    handler: str
    where: str
    """`training`, which waits for it, or `worker`."""
    calls: int
    seconds: float
    slowest_seconds: float


class PluginFacts(Facts):
    name: str
    use: str
    version: int
    file: str = ""


class Handler(Facts):
    plugin: str
    handler: str
    priority: float
    is_async: bool
    ranks: str = ""
    """`main` or `all` of several processes; empty in records of older versions."""
    source: str
    """`file:line`."""


class PlannedSignal(Facts):
    """A signal that is handled, with its handlers in order."""

    name: str
    kind: str
    where: str
    handlers: tuple[Handler, ...]


class Plan(Facts):
    signals: tuple[PlannedSignal, ...] = ()


class Session(Facts):
    """The newest session of a run: one process from its start to its end."""

    status: Status
    """`running` is also what a killed process leaves behind."""
    run: str
    pid: int
    began: str
    """UTC, ISO 8601."""
    ended: str = ""
    first_step: int = 0
    """Steps that were taken before this session."""
    step: int = 0
    """Steps taken when it ended."""
    steps: int
    """Steps of the whole run."""
    reason: str = ""
    """`complete`, or why it was stopped."""
    error: str = ""
    stage: str = ""
    """Where an error came: config, data, model, training or export."""
    exit_code: int = 0
    command: tuple[str, ...] = ()
    """What goes on with the run, when typed in the folder `directory`."""
    directory: str = ""
    beside: str = ""
    """The folder of the config's file, in which plugins are found too."""
    seconds: dict[str, float] = {}
    """Wall time by kind, as `core.timing.spent` has them."""
    plugins: tuple[PluginFacts, ...] = ()
    times: tuple[HandlerTime, ...] = ()
    """The dearest first."""
    versions: dict[str, str] = {}


class Data(Facts):
    """What a run trains on."""

    items: int
    without_caption: int
    buckets: dict[str, int]
    """Items by `width x height`, as in "512x768"."""
    problems: tuple[str, ...] = ()
    """The first of the files that were set aside."""
    set_aside: int = 0
    validation: dict[str, int] = {}


class Picture(Facts):
    """A preview."""

    file: str
    text: str
    negative: str = ""
    seed: int
    width: int
    height: int
    steps: int
    guidance: float
    scheduler: str = ""
    note: str = ""


class Round(Facts):
    """One round of previews."""

    step: int
    reason: str
    pictures: tuple[Picture, ...]
