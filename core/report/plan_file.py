"""Which picture is in which step, as a file."""

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any

from events.payloads import STAND_IN

from ..data.plan import Plan
from ..errors import ConfigError
from ..pages.output import written
from .survey import Survey

SUFFIXES = (".jsonl", ".csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One sample in its place. Everything but the step counts from 0."""

    step: int
    """The first is 1."""
    epoch: int
    batch: int
    """In the epoch."""
    round: int
    """Which of the step's batches."""
    place: int
    """In the batch."""
    item: str
    """The item's id."""
    path: str
    repeat: int
    """How many times the epoch has shown the item before."""
    copy: int
    """0; 1, 2, ... for copies that only fill a short batch."""
    width: int
    """In pixels, of the bucket."""
    height: int


def plan_rows(survey: Survey, epochs: int = 0) -> Iterator[PlanRow]:
    """Every sample of the first epochs or, with 0, of the whole run: as many steps as train.steps says.

    What only a run can tell is not in it: steps that handlers skip, and `train.accumulate` changed on the way.
    Raises DataError for an epoch without a batch.
    """
    steps, accumulate, step = survey.config.train.steps, survey.config.train.accumulate, 0
    for epoch in range(epochs) if epochs else count():
        plan = survey.plan_of(epoch)
        batches = len(plan) if epochs else min(len(plan), (steps - step) * accumulate)
        for batch in range(batches):
            step += batch % accumulate == 0
            yield from _rows_of(survey, plan, step, batch)
        if not epochs and step >= steps:
            return


def write_plan(survey: Survey, path: Path, epochs: int = 0) -> tuple[int, int]:
    """Write the rows as `require_plan_suffix` allows; returns how many samples, and of how many steps."""
    samples = step = 0
    with written(path) as file:
        table = csv.DictWriter(file, [field.name for field in fields(PlanRow)], lineterminator="\n")
        if path.suffix.lower() == ".csv":
            table.writeheader()
        for row in plan_rows(survey, epochs):
            values: dict[str, Any] = asdict(row)
            if path.suffix.lower() == ".csv":
                table.writerow(values)
            else:
                file.write(json.dumps(values) + "\n")
            samples, step = samples + 1, row.step
    return samples, step


def require_plan_suffix(path: Path) -> None:
    """Raises ConfigError for a file that is neither .jsonl nor .csv."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError("--plan", [f"{path}  ends in neither {' nor '.join(SUFFIXES)}, which say what to write"])


def _rows_of(survey: Survey, plan: Plan, step: int, batch: int) -> Iterator[PlanRow]:
    items, geometry = survey.sets.training.items, survey.sets.training.geometry
    for place, key in enumerate(plan[batch]):
        item, (width, height) = items[key.item], geometry.size_of(key.item, key.epoch, key.repeat)
        yield PlanRow(
            step=step, epoch=key.epoch, batch=batch, round=batch % survey.config.train.accumulate, place=place,
            item=item.id, path=str(item.path), repeat=key.repeat, copy=key.variant % STAND_IN, width=width,
            height=height,
        )  # fmt: skip
