"""The JSON schema of a config, by which editors complete and check it: every table, and the settings of known plugins.

It is made of the models that read a config (core/config/tables.py and each plugin's `Settings`), so it cannot say another thing
than they do. What their validators say beyond types, ranges and choices is not in it; `run.py check` says that too.
"""

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from events.plugin import Plugin

from ..errors import ConfigError
from .tables import Config, PluginEntry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
NULL = {"type": "null"}
"""What stands for None in the models; TOML has no such value, so a key is left out instead."""
CLASS = "class"
"""The definition of what `use` may be."""


def config_schema(kinds: Mapping[str, type[Plugin]]) -> Schema:
    """The schema of a whole config; `kinds` are the plugins whose settings it knows, by what `use` names them as."""
    model = Config.model_json_schema()
    schema = _cleaned(model, model["$defs"])
    own = _cleaned(PluginEntry.model_json_schema(), {})["properties"]
    definitions = {use: _table_of(use, kind, own) for use, kind in sorted(kinds.items())}
    schema["properties"]["plugins"]["items"] = _entry(definitions, {key: own[key] for key in own if key != "use"})
    definitions[CLASS] = _class_path(definitions, own["use"])
    return {"$schema": DIALECT, "title": "Signalbox", **schema, "$defs": definitions}


def schema_text(schema: Schema) -> str:
    """As it is written to a file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def write_schema(text: str, path: Path) -> None:
    """Raises ConfigError for a place that cannot be written to."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError("schema", [f"--write  {path} cannot be written: {error.strerror}"]) from error


def _table_of(use: str, kind: type[Plugin], own: Schema) -> Schema:
    """The table of a plugin that is switched on; `own` are the keys of every plugin's table."""
    settings = _model_schema(kind)
    said = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
    return {
        "type": "object",
        "description": said,
        "properties": {
            "use": {"const": use, "description": said},
            **settings.get("properties", {}),
            **{key: value for key, value in own.items() if key != "use"},
        },
        "required": ["use", *settings.get("required", ())],
        "additionalProperties": settings.get("additionalProperties", False),
    }


def _entry(definitions: Mapping[str, Schema], own: Schema) -> Schema:
    """A class path alone, or a table.

    Only conditions refuse anything, since what they say is precise. The choice in front is always fulfilled: it is there
    for editors, which look into choices for what could be completed, and not behind conditions.
    """
    known = [{"if": _names({"const": use}), "then": _reference(use)} for use in definitions]
    others = {"if": _names({"enum": list(definitions)}), "else": {"properties": own}}
    table = {"properties": {"use": _reference(CLASS)}, "required": ["use"], "allOf": [*known, others]}
    return {
        "anyOf": [*map(_reference, definitions), {}],
        "type": ["string", "object"],
        "if": {"type": "string"},
        "then": _alone(definitions),
        "else": table,
    }


def _names(use: Schema) -> Schema:
    """A table that names such a class, and is not switched off."""
    switched_on = {"not": {"const": False}}
    return {"type": "object", "properties": {"use": use, "enabled": switched_on}, "required": ["use"]}


def _class_path(definitions: Mapping[str, Schema], use: Schema) -> Schema:
    """A known class, or one of a module that is none of theirs."""
    modules = sorted({re.escape(path.rpartition(".")[0]) for path in definitions})
    own = f"^({'|'.join(modules)})\\.\\w+$"
    return {
        "description": use["description"],
        "anyOf": [{"enum": list(definitions)}, {**use, "not": {"pattern": own}}],
    }


def _alone(definitions: Mapping[str, Schema]) -> Schema:
    """The short form, which has no place for settings that have no default."""
    needing = [use for use, table in definitions.items() if table["required"] != ["use"]]
    return {"allOf": [_reference(CLASS), {"not": {"enum": needing}}]}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _model_schema(kind: type[Plugin]) -> Schema:
    model = kind.Settings.model_json_schema()
    return _cleaned(model, model.get("$defs", {}))


def _cleaned(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """In itself and without titles and nulls: some editors look no further than a reference, and beside it they see nothing."""
    if "$ref" in schema:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _cleaned(definitions[schema["$ref"].rpartition("/")[2]] | beside, definitions)
    cleaned: Schema = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties"):
            cleaned[key] = {name: _cleaned(member, definitions) for name, member in value.items()}
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            cleaned[key] = [_cleaned(member, definitions) for member in value if member != NULL]
        elif isinstance(value, dict) and key in ("items", "additionalProperties", "propertyNames"):
            cleaned[key] = _cleaned(value, definitions)
        elif key not in ("title", "$defs") and not (key == "default" and value is None):
            cleaned[key] = value
    if "patternProperties" in cleaned:
        cleaned.setdefault("additionalProperties", False)
    return _without_choice(cleaned)


def _without_choice(schema: Schema) -> Schema:
    """A choice of one is none."""
    if len(schema.get("anyOf", ())) != 1:
        return schema
    only: Schema = schema["anyOf"][0]
    return only | {key: value for key, value in schema.items() if key != "anyOf"}
