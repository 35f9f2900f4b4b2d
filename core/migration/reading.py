"""Which trainer a file belongs to, and what it says; files that it names are read too."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli

from ..errors import ConfigError
from .everydream import EveryDream, Named, flat
from .everydream_files import TABLES
from .everydream_keys import DEFAULTS, RULES
from .kohya import Arguments, Kohya
from .kohya_command import read_command

COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|#[^\n]*')
"""EveryDream2 lets comments stand in its JSON files of prompts; what stands in quotes is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What all files say together."""

    source: EveryDream | Kohya
    folder: Path
    """Of the first file, from which relative paths may be meant."""
    missing: tuple[str, ...] = ()
    """Of the files that they name, those that are not there."""


def read_files(paths: Sequence[Path]) -> Reading:
    """Raises ConfigError for files that cannot be read, or that are of neither trainer, or of both."""
    trees = {path: _tree(path) for path in paths}
    jsons = {path: tree for path, tree in trees.items() if path.suffix.lower() == ".json" and "datasets" not in tree}
    if jsons and len(jsons) < len(trees):
        raise ConfigError(str(paths[0]), ["is of another trainer than " + ", ".join(map(str, paths[1:]))])
    return _everydream(jsons) if jsons else _kohya(trees)


# EveryDream2


PARTS = {
    "optimizer": ("optimizer_config", "base"),
    "validation": ("validation_config", "val_split_mode"),
    "prompts": ("sample_prompts", "samples"),
}
"""Of EveryDream2's further files, the key of train.json that names one, and a key that one has."""


def _everydream(trees: Mapping[Path, dict[str, Any]]) -> Reading:
    train = [path for path, tree in trees.items() if _is_train(tree)]
    if len(train) != 1:
        found = ", ".join(map(str, train or trees))
        raise ConfigError(
            found, ["one train.json of EveryDream2 is needed, with keys such as resume_ckpt and data_root"]
        )
    path, tree = train[0], trees[train[0]]
    rest = {other: values for other, values in trees.items() if other != path}
    source = EveryDream(train=Named(file=str(path), values=tree))
    missing: list[str] = []
    for part, (key, own) in PARTS.items():
        given = next((other for other, values in rest.items() if own in values), None)
        name = _named_file(tree, key)
        file = given or (_beside(path.parent, name) if name else None)
        if file is not None:
            values = rest.pop(file) if file in rest else _tree(file)
            named = Named(file=str(file), values=flat(values, TABLES) if part == "optimizer" else values)
            source = replace(source, **{part: named})
        elif name and key in tree:
            missing.append(f"{name}, which {key} of {path} names, is not there; its defaults were taken")
    if rest:
        raise ConfigError(str(next(iter(rest))), [f"is no file of EveryDream2 that {path} goes with"])
    return Reading(source=source, folder=path.parent, missing=tuple(missing))


def _named_file(tree: Mapping[str, Any], key: str) -> str:
    """The JSON file that a key of train.json names, or by default; prompts may be lines of text instead."""
    name = tree.get(key, DEFAULTS.get(key))
    return name if isinstance(name, str) and name.lower().endswith(".json") else ""


def _is_train(tree: Mapping[str, Any]) -> bool:
    own = {key for key in RULES if "*" not in key} - {"batch_size", "seed", "resolution"}
    return "base" not in tree and "samples" not in tree and bool(own & set(tree))


# kohya


def _kohya(trees: Mapping[Path, dict[str, Any]]) -> Reading:
    datasets = {path: tree for path, tree in trees.items() if "datasets" in tree or "general" in tree}
    arguments = [_arguments(path, tree) for path, tree in trees.items() if path not in datasets]
    first = next(iter(trees))
    missing: list[str] = []
    named = {key: value for one in arguments for key, value in one.values.items()}
    if (config := named.get("config_file")) and isinstance(config, str):
        name = config if config.endswith(".toml") else f"{config}.toml"
        found = _beside(first.parent, name)
        if found is None:
            missing.append(f"{name}, which config_file names, is not there")
        elif found.resolve() not in {path.resolve() for path in trees}:
            arguments.insert(0, _arguments(found, _tree(found)))
            named = {key: value for one in arguments for key, value in one.values.items()}
    if not datasets and isinstance(config := named.get("dataset_config"), str):
        found = _beside(first.parent, config)
        if found is None:
            missing.append(f"{config}, which dataset_config names, is not there; name the pictures in data.root")
        else:
            datasets = {found: _tree(found)}
    if len(datasets) > 1:
        raise ConfigError(
            str(list(datasets)[1]), [f"is a second dataset_config beside {next(iter(datasets))}; give one"]
        )
    arguments.sort(key=lambda one: bool(one.script or not one.file.endswith(".toml")))
    file, tree = next(iter(datasets.items()), (None, {}))
    source = Kohya(arguments=tuple(arguments), dataset_file=str(file or ""), dataset=tree)
    return Reading(source=source, folder=first.parent, missing=tuple(missing))


def _arguments(path: Path, tree: Mapping[str, Any]) -> Arguments:
    """Of a command line that `_tree` has taken apart, or of a TOML file, whose tables have no meaning."""
    if path.suffix.lower() != ".toml":
        return Arguments(file=str(path), **tree)
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for key, value in tree.items():
        inner = {f"{key}.{name}": (name, member) for name, member in value.items()} if isinstance(value, dict) else {key: (key, value)}  # fmt: skip
        for place, (name, member) in inner.items():
            if name in values:
                raise ConfigError(str(path), [f"{place}  is there as {places[name]} too; leave one out"])
            values[name], places[name] = member, place
    return Arguments(file=str(path), values=values, places=places)


# files


def _tree(path: Path) -> dict[str, Any]:
    """A file's values; of a command line those of Arguments. Raises ConfigError naming file and line."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(str(path), ["there is no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read as text in UTF-8: {error}"]) from None
    suffix = path.suffix.lower()
    if suffix == ".toml":
        try:
            return tomli.loads(content)
        except tomli.TOMLDecodeError as error:
            raise ConfigError(str(path), [f"is no TOML: {error}"]) from None
    if suffix == ".json":
        return _json(path, content)
    command = read_command(str(path), content)
    return {"values": command.arguments, "launcher": command.launcher, "script": command.script}


def _json(path: Path, content: str) -> dict[str, Any]:
    def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values and not key.startswith("---"):
                raise ConfigError(str(path), [f"{key}  is there twice; leave one out"])
            values[key] = value
        return values

    try:
        tree = json.loads(COMMENT.sub(lambda found: found[1] or "", content), object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ConfigError(str(path), [f"is no JSON: {error}"]) from None
    if not isinstance(tree, dict):
        raise ConfigError(str(path), ["holds no object of keys and values"])
    return tree


def _beside(folder: Path, name: str) -> Path | None:
    """A file that another one names: from its folder, or from here."""
    return next((path for path in (folder / name, Path(name)) if path.is_file()), None)
