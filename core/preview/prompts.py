"""The prompts of the previews: read from TOML or from lines as kohya's scripts read them, completed from [preview]."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import tomli
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, ValidationInfo, field_validator

from events.payloads import Prompt

from ..config.file import NO_TOML, describe_problem
from ..config.tables import PreviewTable, Scales, Table
from ..errors import ConfigError
from ..families import quiet_libraries
from .prompt_lines import OPTIONS, parse_lines, sampler_class


class PromptEntry(Table):
    """A `[[prompts]]` table of the prompts file, or a line of it; what is left out comes from [preview]."""

    text: str
    negative: str = ""
    seed: NonNegativeInt | None = Field(None, lt=2**63)
    width: PositiveInt | None = None
    height: PositiveInt | None = None
    steps: PositiveInt | None = None
    guidance: Scales | None = None
    scheduler: str = ""
    note: str = Field("", description="shown beside the prompt, such as: held out")

    @field_validator("width", "height")
    @classmethod
    def _fits_the_model(cls, side: int | None, info: ValidationInfo) -> int | None:
        multiple = (info.context or {}).get("multiple", 1)
        if side is None or side % multiple == 0:
            return side
        below = side // multiple * multiple
        nearest = f"{below} or {below + multiple}" if below else str(multiple)
        raise ValueError(f"{side} is not a multiple of {multiple}, as the model's pictures are; use {nearest}")

    @field_validator("scheduler")
    @classmethod
    def _is_a_scheduler(cls, name: str) -> str:
        if problem := scheduler_problem(name):
            raise ValueError(problem)
        return name


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt as the file has it."""

    place: str
    """What stands before the name of a value in a message, such as `line 3 --`."""
    values: object
    """A table with the fields of PromptEntry, if the file is right."""
    names: Mapping[str, str]
    """What the file calls those fields that have another name there."""
    problems: tuple[str, ...] = ()
    """Found already, each beginning with the place."""


def read_prompts(path: Path, settings: PreviewTable, side: int, multiple: int = 8) -> tuple[Prompt, ...]:
    """The prompts of a file, `.toml` or `.txt`; an entry with several guidance scales is as many prompts in a row.

    Pictures whose entry does not say otherwise are `side` pixels wide and high; sides that entries give are multiples of
    `multiple`. Seeds count up by entry from `preview.seed`. Raises ConfigError naming the file, with every problem.
    """
    reader = {".toml": _tables, ".txt": _lines}.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(str(path), ["is no prompts file by its name; that ends in .toml or .txt"])
    try:
        written, problems = reader(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read as text in UTF-8: {error}"]) from None
    except NO_TOML as error:
        raise ConfigError(str(path), [f"cannot be read as TOML: {error}"]) from None
    entries: list[PromptEntry] = []
    for one in written:
        problems += one.problems
        try:
            entries.append(PromptEntry.model_validate(one.values, context={"multiple": multiple}))
        except ValidationError as error:
            problems += _described(one, error)
    if not written:
        problems.append("holds no prompt")
    if problems:
        raise ConfigError(str(path), problems)
    return tuple(prompt for number, entry in enumerate(entries) for prompt in complete(entry, settings, side, number))


def complete(entry: PromptEntry, settings: PreviewTable, side: int, number: int) -> Iterator[Prompt]:
    """A prompt for each guidance scale of an entry; `number` counts entries from 0."""
    for scale in entry.guidance or settings.guidance:
        yield Prompt(
            text=entry.text,
            negative=entry.negative,
            seed=settings.seed + number if entry.seed is None else entry.seed,
            width=entry.width or side,
            height=entry.height or side,
            steps=entry.steps or settings.steps,
            guidance=scale,
            scheduler=entry.scheduler or settings.scheduler,
            note=entry.note,
        )


def setting_problems(settings: PreviewTable) -> list[str]:
    """What is wrong with [preview] beyond its schema."""
    problem = scheduler_problem(settings.scheduler)
    return [f"preview.scheduler  {problem}"] if problem else []


def scheduler_problem(name: str) -> str:
    """Why diffusers cannot sample with a scheduler of this name; empty where it can, and for no name at all."""
    if not name:
        return ""
    quiet_libraries()  # before diffusers, which talks while it is imported
    import diffusers

    kind = getattr(diffusers, name, None)
    if isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin):
        return ""
    missing = [library for library in getattr(kind, "_backends", ()) if find_spec(library) is None]
    if missing:  # a stand-in of diffusers for a class that it cannot offer
        return f"{name!r} needs {', '.join(missing)}, which is not installed; install it or name another"
    known = [one for one in dir(diffusers) if one.endswith("Scheduler")]
    near = [sampler_class(name)] if sampler_class(name) in known else get_close_matches(name, known, n=1)
    return f"{name!r} is no scheduler of diffusers" + (
        f"; did you mean {near[0]!r}?" if near else ", such as DDIMScheduler or EulerDiscreteScheduler"
    )


def _tables(text: str) -> tuple[list[Written], list[str]]:
    tree = tomli.loads(text)
    found = tree.pop("prompts", [])
    tables = found if isinstance(found, list) else [found]
    written = [Written(f"prompts[{number}].", table, {}) for number, table in enumerate(tables)]
    return written, [f"{key}  has no meaning in a file of prompts; it holds [[prompts]] tables" for key in tree]


def _lines(text: str) -> tuple[list[Written], list[str]]:
    names = {field: option for option, field in OPTIONS.items()}
    lines = [(f"line {line.number} --", line) for line in parse_lines(text)]
    return [
        Written(place, line.values, names, tuple(place + one for one in line.problems)) for place, line in lines
    ], []


def _described(one: Written, error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        if problem["type"] == "too_short" and problem["input"]:  # pydantic has told of each scale that is none
            continue
        if not problem["loc"]:
            yield f"{one.place.rstrip('.')}  is no table; write [[prompts]] above its keys"
            continue
        field = str(problem["loc"][0])
        yield f"{one.place}{one.names.get(field, field)}  {describe_problem(problem['loc'], problem, PromptEntry)}"
