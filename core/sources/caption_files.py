"""The files beside pictures that caption them and set how they are trained, each read to a layer."""

import json
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import yaml  # type: ignore[import-untyped]  # it comes without types

from .keys import checked_text, intended, layer_of
from .layers import Layer, Unusable

TEXTS = (".txt", ".caption")
SIDECARS = (*TEXTS, ".yml", ".yaml", ".json")
"""Endings of the files beside a picture, the most specific last."""
FOLDER_VALUES: Mapping[str, str] = MappingProxyType(
    {f"{key}.txt": key for key in ("multiply", "cond_dropout", "flip_p", "batch_id", "loss_scale")}
)
"""Files that give all pictures of their folder one setting, by name."""
SHUFFLE = "shuffle_tags.txt"
"""It does so by being there."""
GLOBAL, LOCAL = "global.yaml", "local.yaml"
"""For the pictures of this folder and all below; for those of this folder."""
FOLDER_FILES = frozenset({*FOLDER_VALUES, SHUFFLE, GLOBAL, LOCAL})
MAX_TEXT_BYTES = 4_000_000
MAX_KEYS_BYTES = 1_000_000
"""Of a file of keys, whose parser is slow."""
MAX_DEPTH = 50
BOM = b"\xef\xbb\xbf"


def read_sidecar(path: str, ending: str, ignore: Collection[str] = ()) -> Layer:
    """What a file with one of the endings SIDECARS says. Raises Unusable."""
    if ending in TEXTS:
        return Layer(source=ending, prompt=checked_text(read_text(path, MAX_TEXT_BYTES), "it"))
    return _read_keys(path, ending, ignore)


def read_folder_file(path: str, name: str, ignore: Collection[str] = ()) -> Layer:
    """What a file named in FOLDER_FILES says. Raises Unusable."""
    if name in (GLOBAL, LOCAL):
        return _read_keys(path, name, ignore)
    if name == SHUFFLE:
        return layer_of(name, {"shuffle_tags": True}, ignore)
    key = FOLDER_VALUES[name]
    text = "" if key in ignore else read_text(path, MAX_TEXT_BYTES).strip()
    if not text and key not in ignore:
        raise Unusable(f"is empty; write the value of {key} in it")
    return layer_of(name, {key: text}, ignore)


def read_text(path: str, most_bytes: int) -> str:
    """A text file in UTF-8; a byte order mark is left out. Raises Unusable."""
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 16)
            if len(data) == 1 << 16:
                data += file.read(most_bytes)
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror or error}") from None
    if len(data) > most_bytes:
        raise Unusable(f"has more than {most_bytes:,} bytes, which is no caption")
    return decode(data)


def decode(data: bytes) -> str:
    """Text of bytes in UTF-8; a byte order mark is left out. Raises Unusable naming the byte that is wrong."""
    body = data.removeprefix(BOM)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + len(data) - len(body)
        raise Unusable(f"is not UTF-8 ({error.reason} at byte {at}); save it as UTF-8") from None


def _read_keys(path: str, source: str, ignore: Collection[str]) -> Layer:
    text = read_text(path, MAX_KEYS_BYTES)
    values = parse_json(text) if source == ".json" else _parse_yaml(text)
    if values is None:
        return Layer()
    if not isinstance(values, Mapping):
        raise Unusable(f'holds a {type(values).__name__}; write keys with values, such as main_prompt: "a cat"')
    hints = [(key, intended(key, words=True)) for key in values if isinstance(key, str)]
    misspelt = [f"{key!r} is not a key that is read; did you mean {hint!r}?" for key, hint in hints if hint]
    if misspelt:
        raise Unusable(" ".join(misspelt))
    return layer_of(source, values, ignore)


def parse_json(text: str, *, one_line: bool = False) -> Any:
    """Raises Unusable with what is wrong and where; the line is left out for `one_line`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = "" if one_line else f"line {error.lineno}, "
        raise Unusable(f"is not JSON: {error.msg} in {line}column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # too large a number, or too many brackets within each other
        raise Unusable(f"is not JSON that can be read: {error}") from None


def _parse_yaml(text: str) -> Any:
    try:
        if "&" in text and "*" in text and _has_alias(text):
            raise Unusable("has a YAML alias (*name), by which a few lines can fill the memory; write it out")
        return yaml.safe_load(text)
    except Unusable:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Unusable(f"is not YAML: {error.problem or error.context}{where}") from None
    except Exception as error:  # odd tags and dates make its constructors raise many kinds
        raise Unusable(
            f"is not YAML that can be read: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from None


def _has_alias(text: str) -> bool:
    """Raises Unusable for brackets within each other deeper than MAX_DEPTH, whose cost to the parser is their square."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Unusable(f"has more than {MAX_DEPTH} brackets or indents within each other")
        if isinstance(event, yaml.AliasEvent):
            return True
    return False
