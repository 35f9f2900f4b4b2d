"""The config as a file, with a word on each key's origin, and the report of what became of each key."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..config.file import toml_key, toml_value
from ..config.tables import Config
from .outcome import Kind, Outcome, Row, Tree

HEADINGS: Mapping[Kind, str] = {
    "became": "became a key of the config",
    "plugin": "taken into a plugin",
    "already": "already how it works, or off",
    "none": "no counterpart",
    "unknown": "not known",
    "by hand": "yours to do",
}
SECRETS = ("huggingface_token", "wandb_api_key")
"""Keys whose values are never shown."""
SHOWN_CHARACTERS = 60
"""Of a value in the report."""


def config_text(tree: Tree, rows: Sequence[Row], command: str, to_do: Sequence[str], schema: str = "") -> str:
    """TOML that `load_config` reads: tables in the order of the schema, each key with what it comes from.

    `schema` is the path of the config's schema as editors are told of it.
    """
    lines = [f"#:schema {schema}"] if schema else []
    lines += [f"# Written by `{command}`.", *(f"# To do: {note}" for note in to_do), ""]
    for name in Config.model_fields:
        if name == "plugins" or name not in tree:
            continue
        lines.append(f"[{name}]")
        order = list(getattr(Config.model_fields[name].annotation, "model_fields", ()))
        for key, value in sorted(tree[name].items(), key=lambda entry: order.index(entry[0])):
            lines.append(f"{toml_key(key)} = {toml_value(value)}{_origin(f'{name}.{key}', rows)}")
        lines.append("")
    for entry in tree.get("plugins", ()):
        origin = _origin(entry["use"], rows)
        lines += ["[[plugins]]", f"use = {toml_value(entry['use'])}{origin}"]
        lines += [f"{toml_key(key)} = {toml_value(value)}" for key, value in entry.items() if key != "use"] + [""]
    return "\n".join(lines)


def report_lines(rows: Sequence[Row], to_do: Sequence[str]) -> Iterator[str]:
    """File by file what became of its keys, then the defaults that count, then what the user has to do."""
    for file in dict.fromkeys(row.file for row in rows if row.is_given):
        own = [row for row in rows if row.file == file and row.is_given]
        counted = Counter(row.outcome.kind for row in own)
        told = ", ".join(f"{counted[kind]} {heading}" for kind, heading in HEADINGS.items() if counted[kind])
        yield f"{file}: {len(own)} keys, {told}"
        for kind, heading in HEADINGS.items():
            yield from _listed(f"  {heading}", [row for row in own if row.outcome.kind == kind])
    yield from _listed("not in the files, and so there by default", [row for row in rows if not row.is_given])
    yield from ("to do before training",) if to_do else ()
    yield from (f"  {note}" for note in to_do)


def summary(outcome: Outcome) -> str:
    """What became of a key, in a line."""
    keys = [f"{key} = {toml_value(value)}" for key, value in outcome.keys.items()]
    plugins = [use + _settings(settings) for use, settings in outcome.plugins.items()]
    found = ", ".join([*keys, *plugins])
    return f"{found} ({outcome.remark})" if found and outcome.remark else found or outcome.remark


def _settings(settings: Mapping[str, Any]) -> str:
    return ": " + ", ".join(f"{key} = {toml_value(value)}" for key, value in settings.items()) if settings else ""


def _listed(heading: str, rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield heading
    indent = " " * (len(heading) - len(heading.lstrip()) + 2)
    names = [_shown(row) for row in rows]
    width = min(max(map(len, names)), SHOWN_CHARACTERS)
    yield from (f"{indent}{name:<{width}}  {summary(row.outcome)}" for name, row in zip(names, rows, strict=True))


def _shown(row: Row) -> str:
    if not row.key:
        return str(row.value)
    is_secret = row.key.rpartition(".")[2] in SECRETS and bool(row.value)
    value = "null" if row.value is None else "..." if is_secret else toml_value(row.value)
    text = f"{row.key} = {value}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def _origin(key: str, rows: Sequence[Row]) -> str:
    """The keys that a value comes from, as a comment."""
    found = [row for row in rows if key in row.outcome.keys or key in row.outcome.plugins]
    given = dict.fromkeys(row.key for row in found if row.is_given)
    if given:
        return f"  # {', '.join(given)}"
    if not found:
        return ""
    return f"  # {found[-1].key} by default there" if found[-1].key else "  # always so there"
