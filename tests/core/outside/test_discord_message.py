"""A message keeps to Discord's limits, says the event in a sentence, and pings nobody."""

import json
from typing import Any

import pytest

from core.outside.discord_message import COLOURS, RED, WORDS, message


def letters(box: dict[str, Any]) -> int:
    return len(box["title"]) + sum(len(field["name"]) + len(field["value"]) for field in box["fields"])


def test_it_is_a_sentence_and_a_box_of_facts() -> None:
    said = message(
        "checkpoint.saved",
        {"run": "demo", "step": 500, "reason": "every", "path": "runs/demo/checkpoints/step-00000500"},
    )
    (box,) = said["embeds"]
    assert said["content"] == "`demo` has saved a checkpoint at step 500"
    assert box["fields"] == [
        {"name": "reason", "value": "every", "inline": True},
        {"name": "path", "value": "runs/demo/checkpoints/step-00000500", "inline": False},
    ]


def test_an_error_is_red() -> None:
    assert message("run.error", {"run": "demo", "error": "ValueError: no"})["embeds"][0]["color"] == RED
    assert set(COLOURS) <= set(WORDS)


def test_numbers_by_name_are_fields_of_their_own() -> None:
    (box,) = message("validation.end", {"run": "demo", "losses": {"held_out": 0.123456, "faces": None}})["embeds"]
    assert box["fields"] == [{"name": "held_out", "value": "0.1235", "inline": True}]


def test_a_picture_is_shown_in_the_box() -> None:
    assert message("preview.end", {}, "grid.png")["embeds"][0]["image"] == {"url": "attachment://grid.png"}


@pytest.mark.parametrize("text", ["@everyone", "<@123>", "`@here`"])
def test_nobody_is_pinged(text: str) -> None:
    said = message("preview.end", {"run": text, "prompts": [text]})
    assert said["allowed_mentions"] == {"parse": []}
    assert said["content"].count("`") == 2


@pytest.mark.parametrize(
    "facts",
    [
        {"run": "x" * 5000, "error": "e" * 9000},
        {f"n{number}": "v" * 2000 for number in range(40)},
        {"n" * 1000: "v"},
        {"values": {f"metric/{number}": number / 3 for number in range(200)}},
        {"empty": "", "blank": "  ", "none": None, "list": []},
    ],
)
def test_the_limits_are_kept(facts: dict[str, Any]) -> None:
    said = message("metrics.ready", facts)
    (box,) = said["embeds"]
    assert len(said["content"]) <= 2000
    assert letters(box) <= 6000
    assert len(box["fields"]) <= 25
    for field in box["fields"]:
        assert 1 <= len(field["name"]) <= 256
        assert 1 <= len(field["value"].strip()) <= 1024
    json.dumps(said)
