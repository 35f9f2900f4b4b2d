"""Secrets are taken out of texts and trees, whatever looks like one goes too, and what only sounds alike stays."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config.file import to_toml
from core.config.tables import Config
from core.log.lines import log_to_file
from core.log.redaction import BY_LOOKS, REDACTED, Redactor

HOOK = "https://user:pass-word-1@hooks.example.com/services/T000/ABCDEFGHIJKLMNOPQRST?room=quietplace#part-seven"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger whose handlers and level are as before afterwards."""
    root, own = logging.getLogger(), logging.getLogger("signalbox.redaction-test")
    before = list(root.handlers)
    own.setLevel(logging.DEBUG)
    yield own
    root.handlers[:] = before


@pytest.mark.parametrize(
    "key", ["token", "api_key", "client_secret", "PASSWORD", "Authorization", "X-Api-Key", "apiKey"]
)
def test_a_key_says_that_its_value_is_secret(key: str) -> None:
    assert BY_LOOKS.tree({"table": [{key: "abc"}]}) == {"table": [{key: REDACTED}]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_cls_token", "mean"),
        ("num_memory_tokens", 4),
        ("keep_tags", "a"),
        ("max_tokens", 75),
        ("unkeyed", "a"),
        ("eos_token", "</s>"),
        ("key_path", "a/b"),
        ("token", True),
        ("token", ""),
    ],
)
def test_what_only_sounds_alike_stays(key: str, value: object) -> None:
    assert BY_LOOKS.tree({key: value}) == {key: value}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("with hf_abcdefghijklmnopqrstuvwxyz now", f"with {REDACTED} now"),
        ("sk-proj-0123456789abcdef", REDACTED),
        ("ghp_0123456789abcdefABCDEF", REDACTED),
        ("git clone https://me:hunter2@host/x.git", f"git clone https://{REDACTED}@host/x.git"),
        ("GET /x?size=3&api_key=abc&y=1", f"GET /x?size=3&api_key={REDACTED}&y=1"),
        ('{"Authorization": "Bearer abc.def"}', f'{{"Authorization": "{REDACTED}"}}'),
        ("hf_hub_download, task-sk-portraits, step-00000500", "hf_hub_download, task-sk-portraits, step-00000500"),
    ],
)
def test_what_looks_like_a_secret_goes(text: str, left: str) -> None:
    assert BY_LOOKS.text(text) == left


def test_variables_of_the_environment_are_secret_by_their_names() -> None:
    redactor = Redactor.of({}, {"MY_TOKEN": "long-enough-1", "SHORT_KEY": "abc", "HOME": "/home/somebody"})
    assert redactor.text("long-enough-1 abc /home/somebody") == f"{REDACTED} abc /home/somebody"


def test_a_variable_that_the_config_names_is_secret() -> None:
    redactor = Redactor.of({"plugins": [{"url_env": "MY_HOOK"}]}, {"MY_HOOK": "https://host/" + "x" * 20})
    assert redactor.text("posting to https://host/" + "x" * 20) == f"posting to {REDACTED}"


def test_of_a_url_in_the_config_the_host_stays() -> None:
    redactor = Redactor.of({"url": HOOK}, {})
    assert redactor.tree({"url": HOOK}) == {"url": f"https://{REDACTED}@hooks.example.com/{REDACTED}"}
    for part in ("pass-word-1", "ABCDEFGHIJKLMNOPQRST", "quietplace", "part-seven"):
        assert part not in redactor.text(f"{HOOK} and {part} alone")


@pytest.mark.parametrize("write", [str, json.dumps, repr, lambda text: json.dumps(text, ensure_ascii=False)])
def test_a_secret_is_found_in_every_way_that_it_is_written(write: object) -> None:
    secret = 'quote" back\\slash é'
    assert callable(write)
    assert Redactor.of({"secret": secret}, {}).text(write(secret)).strip("'\"") == REDACTED


def test_a_stored_config_has_no_secret() -> None:
    tree = {"model": {"path": "m"}, "data": {"root": "d"}, "plugins": [{"use": "a.B", "api_key": "abc", "url": HOOK}]}
    text = to_toml(Config.model_validate(tree))
    assert f'api_key = "{REDACTED}"' in text
    assert "pass-word-1" not in text


def test_a_log_line_stays_json_whatever_is_taken_out_of_it(tmp_path: Path, logger: logging.Logger) -> None:
    handler = log_to_file(tmp_path / "log.jsonl", Redactor.of({"secret": "nine-eight-7"}, {}))
    try:
        raise ValueError("of nine-eight-7")
    except ValueError:
        logger.exception("a line\nnine-eight-7 with %s", {"a": "nine-eight-7"})
    handler.close()
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert "nine-eight-7" not in line
    assert f"ValueError: of {REDACTED}" in json.loads(line)["exception"]
