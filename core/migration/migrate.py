"""`run.py import`: from files of EveryDream2 or of kohya's scripts to a config.toml and a report."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..config.file import PluginProblems, contradictions, readable_entries, toml_value, validate
from ..config.tables import DataTable
from ..data.sets import READERS
from ..errors import ConfigError, DataError
from ..invocation import typed
from ..step.optimizer import optimizer_problems
from . import everydream, kohya
from .counting import Counted, Shown, count
from .everydream import EveryDream
from .ours import DROP_CAPTION, SHUFFLE_TAGS
from .outcome import Row, Tree, taken, tree_of
from .places import settle_paths
from .reading import Reading, read_files
from .rules import always
from .sample_prompts import prompts_text
from .writing import config_text, report_lines

SWITCHED_OFF: Mapping[str, Mapping[str, Any]] = {DROP_CAPTION: {"probability": 0.0}, SHUFFLE_TAGS: {"always": False}}
"""Settings with which a plugin does what single pictures ask for, and nothing to the others."""
STOOD_IN: Mapping[str, Any] = {"model.path": "model", "data.root": "pictures"}
"""Where no file names a model or pictures, so that the config can be read and completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """A config from other trainers' files, and all that is to be said of it."""

    tree: Tree
    rows: tuple[Row, ...]
    to_do: tuple[str, ...]
    prompts: str = ""
    """A file of prompts beside the config, where there is to be one."""


def import_config(
    files: Sequence[Path],
    out: Path,
    *,
    force: bool = False,
    plugin_problems: PluginProblems | None = None,
    schema: Path | None = None,
) -> Iterator[str]:
    """Write the config and yield the report's lines; `schema` is the file by which editors can check it.

    Raises ConfigError for files that cannot be read, naming the file and its keys, and for an `out` that is there
    unless `force` is set. Nothing is written then.
    """
    prompts_file = out.with_name(f"{out.stem}-prompts.toml")
    migrated = migrate(files, prompts_file, plugin_problems)
    seen = schema_seen_from(out, schema)
    written = {out: config_text(migrated.tree, migrated.rows, command_of(files, out), migrated.to_do, seen)}
    if migrated.prompts:
        written[prompts_file] = migrated.prompts
    there = [str(path) for path in written if path.exists() and not force]
    if there:
        raise ConfigError(", ".join(there), ["is there already; --force replaces it, --out FILE names another"])
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    yield from report_lines(migrated.rows, migrated.to_do)
    yield f"wrote {' and '.join(map(str, written))}; `{typed(f'check {out}')}` says whether it is in order"


def migrate(files: Sequence[Path], prompts_file: Path, plugin_problems: PluginProblems | None = None) -> Migrated:
    """Reading, convert, count the pictures, and convert again with their number. Nothing is written."""
    read = read_files(files)
    counted, uncounted = _counted(read)
    rows = _rows(read, counted.batches if counted else None)
    rows += _readers(rows, counted.uses if counted else frozenset())
    tree, to_do = _tree(rows, read.folder)
    if uncounted and any("A GUESS" in row.outcome.remark for row in rows):
        to_do.append(f"train.steps and whatever else is called A GUESS: {uncounted}; set them, or import again")
    prompts, more = _prompts(read, tree, prompts_file)
    to_do = [*read.missing, *to_do, *more, *_by_hand(rows)]
    config, problems = validate(tree)
    if config is None:
        raise ConfigError(", ".join(map(str, files)), [_with_source(problem, rows) for problem in problems])
    to_do += [*contradictions(config), *optimizer_problems(config.train)]
    if plugin_problems is not None:
        to_do += plugin_problems(readable_entries(tree), prompts_file.resolve().parent)
    return Migrated(tree=tree, rows=rows, to_do=tuple(dict.fromkeys(to_do)), prompts=prompts)


def command_of(files: Sequence[Path], out: Path) -> str:
    return typed(f"import {' '.join(map(str, files))} --out {out}")


def schema_seen_from(out: Path, schema: Path | None) -> str:
    """The relative path of the schema from a config; empty where they do not lie in one tree, which may be moved as a whole."""
    if schema is None or not schema.is_file() or not out.resolve().is_relative_to(schema.resolve().parent.parent):
        return ""
    return Path(os.path.relpath(schema.resolve(), out.resolve().parent)).as_posix()


def _rows(read: Reading, batches: int | None) -> tuple[Row, ...]:
    source = read.source
    return everydream.convert(source, batches) if isinstance(source, EveryDream) else kohya.convert(source, batches)


def _readers(rows: tuple[Row, ...], uses: frozenset[str]) -> tuple[Row, ...]:
    """The plugins that settings of single pictures need, where no key has switched them on."""
    there = {use for row in rows for use in row.outcome.plugins}
    return tuple(
        always(f"pictures whose files say {name}", taken(READERS[name], **SWITCHED_OFF.get(READERS[name], {})))
        for name in sorted(uses)
        if READERS[name] not in there
    )


def _tree(rows: tuple[Row, ...], folder: Path) -> tuple[Tree, list[str]]:
    """The config of the rows with paths that are seen from here, and what is missing."""
    tree = tree_of(rows)
    to_do = []
    for path, value in STOOD_IN.items():
        table, _, key = path.partition(".")
        if key not in tree.setdefault(table, {}):
            tree[table][key] = value
            to_do.append(f"{path}  no file names it; {toml_value(value)} stands there")
    return tree, to_do + _settled(tree, folder)


def _settled(tree: Tree, folder: Path) -> list[str]:
    """Prompts that are not there are left out, since previews of captions are better than no start."""
    told = settle_paths(tree, folder)
    if any(note.startswith("preview.prompts ") for note in told):
        named = tree["preview"].pop("prompts")
        told = [note for note in told if not note.startswith("preview.prompts ")]
        told.append(f"preview.prompts  {named} is not there; training captions are rendered until it is named")
    return told


def _prompts(read: Reading, tree: Tree, file: Path) -> tuple[str, list[str]]:
    """A file of prompts, where the source has them in a form of its own, and what it lacks."""
    if not isinstance(read.source, EveryDream) or "samples" not in read.source.prompts.values:
        return "", []
    prompts, left_out = prompts_text(read.source.prompts)
    if prompts:
        tree.setdefault("preview", {})["prompts"] = str(file)
    of_captions = [f"{file}  {left_out} samples of random captions are left out; write captions there"]
    return prompts, of_captions if prompts and left_out else []


def _counted(read: Reading) -> tuple[Counted | None, str]:
    """What an epoch of the pictures is, or why it cannot be said."""
    rows = _rows(read, None)
    tree, _ = _tree(rows, read.folder)
    try:
        data = DataTable.model_validate(tree["data"])
        size = int(tree.get("train", {}).get("batch_size", 1))
        held_out = float(tree.get("validation", {}).get("fraction", 0))
        return count(data, _shown(read, rows, data), size, held_out), ""
    except (DataError, ConfigError, ValidationError) as error:
        return None, "the pictures cannot be counted: " + " ".join(str(error).split())


def _shown(read: Reading, rows: tuple[Row, ...], data: DataTable) -> list[Shown]:
    """The roots as the config has them, each as often as its trainer shows it."""
    if isinstance(read.source, EveryDream):
        return [Shown(root=str(root)) for root in data.roots]
    named = tree_of(rows).get("data", {}).get("root", [])
    moved = dict(zip(named if isinstance(named, list) else [named], map(str, data.roots), strict=False))
    return [replace(one, root=moved.get(one.root, one.root)) for one in read.source.pictures().shown()]


def _by_hand(rows: Sequence[Row]) -> list[str]:
    return [f"{row.key}: {row.outcome.remark}" for row in rows if row.outcome.kind == "by hand"]


def _with_source(problem: str, rows: Sequence[Row]) -> str:
    """A problem of the config, told with the key that it comes from."""
    place = problem.split()[0]
    found = [row for row in rows if any(place.partition("[")[0] == key for key in row.outcome.keys)]
    origin = ", ".join(f"{row.key} of {row.file}" if row.is_given else row.key for row in found)
    return f"{problem}; from {origin}" if origin else problem
