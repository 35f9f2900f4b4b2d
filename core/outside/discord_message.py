"""What a Discord channel shows of an event: a sentence, and its facts in a coloured box.

The limits are those of https://discord.com/developers/docs/resources/message#embed-object.
"""

from collections.abc import Iterator, Mapping
from typing import Any

MOST_CONTENT, MOST_NAME, MOST_VALUE, MOST_FIELDS = 2000, 256, 1024, 25
MOST_BOX = 6000
"""Characters of title, names and values together."""
SHORT = 24
"""Values up to this length stand beside each other."""
WORDS = {
    "run.start": "begins",
    "data.ready": "has its data",
    "metrics.ready": "reports",
    "control.applied": "was asked for something",
    "validation.end": "has measured its validation loss",
    "preview.end": "has rendered previews",
    "checkpoint.saved": "has saved a checkpoint",
    "run.error": "ends with an error",
    "run.end": "is over",
}
GREEN, RED, BLUE, GREY = 0x2E9E5B, 0xC8372D, 0x3B78C4, 0x80868B
COLOURS = {"run.end": GREEN, "run.error": RED, "metrics.ready": GREY, "control.applied": GREY}


def message(event: str, facts: Mapping[str, Any], picture: str = "") -> dict[str, Any]:
    """The body of a post; `picture` is the name of a file that is attached. It never pings anybody.

    >>> message("run.end", {"run": "demo", "step": 500})["content"]
    '`demo` is over at step 500'
    """
    run, step = str(facts.get("run", "the run")).replace("`", "'"), facts.get("step")
    content = f"`{run}` {WORDS.get(event, event)}" + (f" at step {step}" if step else "")
    box: dict[str, Any] = {"title": event, "color": COLOURS.get(event, BLUE), "fields": _fields(event, facts)}
    if picture:
        box["image"] = {"url": f"attachment://{picture}"}
    return {"content": _cut(content, MOST_CONTENT), "embeds": [box], "allowed_mentions": {"parse": []}}


def _fields(event: str, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As many as there is room for, in their order."""
    fields: list[dict[str, Any]] = []
    room = MOST_BOX - len(event)
    for name, value in _flat(facts):
        name, value = _cut(name, MOST_NAME), _cut(value, MOST_VALUE)
        room -= len(name) + len(value)
        if room < 0 or len(fields) == MOST_FIELDS:
            break
        fields.append({"name": name, "value": value, "inline": len(value) <= SHORT})
    return fields


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values as text, without what the sentence says and what is empty, which Discord refuses."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif name not in ("run", "step") and (said := _said(value)):
            yield name, said


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "\n".join(str(one) for one in value)
    return "" if value is None else str(value).strip()


def _cut(text: str, most: int) -> str:
    """
    >>> _cut("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"
