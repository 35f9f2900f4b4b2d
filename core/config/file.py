"""From a TOML file and `--set` overrides to a validated Config, with every problem at once; and back to TOML."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any

import tomli
from pydantic import BaseModel, ValidationError

from ..errors import ConfigError
from ..invocation import typed
from ..log.redaction import Redactor
from .tables import DOTTED_PATH, NAME, OPTIONAL_NAME, PLUGIN_PATH, Config, PluginEntry

BASE = "(command line)"
_NAMED = "is no name; use up to 64 letters, digits, '.', '_' and '-', with no dot in front"
PATTERNS = {
    NAME: _NAMED,
    OPTIONAL_NAME: _NAMED,
    DOTTED_PATH: "is no path of a class; write it with dots, as in package.module.Class",
    PLUGIN_PATH: "is no path of a class; write it with dots, as in package.module.Class, or the name of an installed one",
}
"""What a text that does not fit a pattern is told."""
PRIORITY = 'expected a whole number, or whole numbers by signal, as in { "sample.caption" = 40 }'


NO_TOML = (ValueError, RecursionError)
"""What tomli raises for a text that is none: errors of its own, too large a number, too many brackets within each other."""
PluginProblems = Callable[[Sequence[PluginEntry], Path], Sequence[str]]
"""What is wrong with plugins and their settings, given the config's folder; handed in, since the core knows no plugins."""


def load_config(path: Path, overrides: Sequence[str] = (), plugin_problems: PluginProblems | None = None) -> Config:
    """Read, override and validate.

    Paths in the file are taken from the current folder. Raises ConfigError with all problems, those of plugins beside
    those of the tables, or one for a file that is missing or no TOML.
    """
    try:
        tree = tomli.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(str(path), [f"there is no such file; name one, as in `{typed('train my.toml')}`"]) from None
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except NO_TOML as error:
        raise ConfigError(str(path), [f"is no TOML in UTF-8: {error}"]) from None
    problems = list(override(tree, overrides))
    config, more = validate(tree)
    problems += more
    if config is not None:
        problems += [*missing_paths(config), *contradictions(config)]
    if config is None or problems:
        if plugin_problems is not None:
            problems += plugin_problems(readable_entries(tree), path.resolve().parent)
        raise ConfigError(str(path), problems)
    return config


def readable_entries(tree: Mapping[str, Any]) -> tuple[PluginEntry, ...]:
    """The plugin entries of a tree that is not valid as a whole; a switched-off one stands in for each unreadable."""
    entries = []
    for entry in tree.get("plugins", ()):
        try:
            entries.append(PluginEntry.model_validate({"use": entry} if isinstance(entry, str) else entry))
        except ValidationError:
            entries.append(PluginEntry(use="not.readable", enabled=False))
    return tuple(entries)


def override(tree: dict[str, Any], overrides: Iterable[str]) -> Iterator[str]:
    """Set `table.key=value` in a tree, value being TOML or else a bare string; yields what cannot be set."""
    for text in overrides:
        key, equals, value = text.partition("=")
        *tables, last = key.strip().split(".")
        if not equals or not last:
            yield f"--set {text!r} is not of the form table.key=value, such as train.steps=100"
            continue
        place: Any = tree
        for table in tables:
            place = place.setdefault(table, {}) if isinstance(place, dict) else place
        if not isinstance(place, dict):
            yield f"--set {text!r}: {'.'.join(tables)} is no table"
            continue
        place[last] = parse_value(value.strip())


def parse_value(text: str) -> Any:
    try:
        return tomli.loads(f"value = {text}")["value"]
    except NO_TOML:
        return text


def validate(tree: Mapping[str, Any]) -> tuple[Config | None, list[str]]:
    """The Config of a tree, or None with one line for each problem: key, what was found, what to do."""
    try:
        return Config.model_validate(tree), []
    except ValidationError as error:
        found: dict[tuple[int | str, ...], str] = {}
        for problem in error.errors(include_url=False):
            location = _as_written(tree, tuple(problem["loc"]))
            if problem["type"] == "too_short" and problem["input"]:
                continue  # what was wrong with the member of a list that is left empty has been said
            if location[:1] == ("plugins",) and location[2:3] == ("priority",):
                found[location[:3]] = f"{problem['input']!r}: {PRIORITY}"
            else:
                found[location] = describe_problem(location, problem, Config)
        width = max(len(_dotted(location)) for location in found) if found else 0
        return None, [f"{_dotted(location):<{width}}  {text}" for location, text in sorted(found.items(), key=str)]


def missing_paths(config: Config) -> list[str]:
    """Folders and files that the config names and that are not there."""
    named = {"model.path": (config.model.path,), "data.root": config.data.roots}
    if config.preview.prompts is not None:
        named["preview.prompts"] = (config.preview.prompts,)
    if config.model.base_config is not None:
        named["model.base_config"] = (config.model.base_config,)
    named |= {f"validation.sets.{name}": (path,) for name, path in config.validation.sets.items()}
    return [
        f"{key}  {path} does not exist (seen from {Path.cwd()})"
        for key, paths in named.items()
        for path in paths
        if not _is_there(path)
    ]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have
        return False


def contradictions(config: Config) -> Iterator[str]:
    """Keys that do not go together, with what to do."""
    precision, dtype = config.train.precision, config.model.dtype
    if dtype != "fp32" and precision == "fp32":
        yield f"model.dtype  '{dtype}' needs a forward pass in half precision; set train.precision = '{dtype}'"


def redactor_of(config: Config) -> Redactor:
    """What keeps the secrets of this config and of the environment out of whatever is written."""
    return Redactor.of(config.model_dump(mode="json"), os.environ)


def to_toml(config: Config, redactor: Redactor | None = None) -> str:
    """The resolved config as TOML, without secrets; where there are none, `load_config` reads it back to an equal Config."""
    redactor = redactor or redactor_of(config)
    tree = redactor.tree(config.model_dump(mode="json", exclude_none=True, exclude={"plugins"}))
    lines: list[str] = []
    for table, values in tree.items():
        lines += [f"[{table}]", *(f"{key} = {toml_value(value)}" for key, value in values.items()), ""]
    for entry in config.plugins:
        values = redactor.tree(entry.model_dump(mode="json", exclude_none=True, exclude_defaults=True))
        lines += ["[[plugins]]", *(f"{toml_key(key)} = {toml_value(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)


def toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(member)}" for key, member in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(member) for member in value) + "]"
    if isinstance(value, PurePath):
        return json.dumps(str(value))
    return json.dumps(value, ensure_ascii=False)


def toml_key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def describe_problem(location: Sequence[int | str], problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    """One pydantic problem in a sentence; `model` is asked for the keys that could have been meant."""
    found = problem.get("input")
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        near = get_close_matches(str(location[-1]), known, n=1)
        return "is not a key of this table" + (
            f"; did you mean '{near[0]}'?" if near else f"; it has {', '.join(known)}"
        )
    if problem["type"] == "missing":
        return "is missing; it has no default"
    if (wording := PATTERNS.get(problem.get("ctx", {}).get("pattern"))) is not None:
        return f"{found!r} {wording}"
    if problem["type"] == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    text = str(problem["msg"])
    return f"{found!r}: {text[0].lower()}{text[1:]}" if not isinstance(found, dict) else text


def _fields_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _as_written(tree: Any, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The place in the user's own words: a single value may stand where a list of them is kept."""
    for depth, part in enumerate(location):
        if isinstance(part, int) and not isinstance(tree, list | tuple):
            return location[:depth]
        tree = tree.get(part) if isinstance(tree, Mapping) else tree[part] if isinstance(part, int) else None
    return location


def _dotted(location: Iterable[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or BASE
