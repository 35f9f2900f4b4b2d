"""Rows S6, S7 and S12: what a run says, whom it speaks to, and who may read what it leaves."""

import ctypes
import json
import os
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

from .bench import EMA, JOURNAL, Bench, Workspace, command
from .rows import row

CANARY = "canary-4f1c9e77b2"
TATTLER = f"""
[[plugins]]
use = "tests.faults.plugins_for_security.Tattler"
api_key = "{CANARY}-key"
url = "https://{CANARY}-user:{CANARY}-word@example.com/services/{CANARY}-path?x={CANARY}-query#{CANARY}-end"
headers = {{ Authorization = "Bearer {CANARY}-bearer", Accept = "text/plain" }}
fails_at = FAILS_AT
"""
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PUBLIC, PRIVATE = "93.184.216.34", "10.1.2.3"
REFUSED = (
    "127.0.0.1", "localhost", "0.0.0.0", "::1", "::", "169.254.169.254", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1",
    "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "fe80::1", "fd00::1",
    "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "255.255.255.255",
)  # fmt: skip
"""A webhook's hosts that are not of the internet at large, in all their spellings."""


@row("S6", "secrets are kept out of all that a run writes", cut=3, short=4, long=4)
def secrets(bench: Bench) -> None:
    """A plugin says secrets of environment, config and URL wherever it can, at debug level; no file and no line has them."""
    with bench.trial("a complete run with an export"):
        work = _tattling(bench, fails_at=0)
        ended = bench.train(work, "train.steps=2", "export.at_end=true", inject=_plant)
        assert ended.code == 0, ended.output
        _no_canary(work, ended.output)
        config = (work.run / "config.toml").read_text()
        for kept in ('"https://[redacted]@example.com/[redacted]"', 'Accept = "text/plain"'):
            assert kept in config, config
    with bench.trial("a run that goes on does not take a new secret for a change"):
        work.config.write_text(work.config.read_text().replace(f"{CANARY}-key", f"{CANARY}-new"))
        ended = bench.train(work, "train.steps=3", inject=_plant)
        assert ended.code == 0, ended.output
        changes = [str(line["event"]) for line in work.log if "changed since the checkpoint" in str(line["event"])]
        assert changes
        assert not any("plugins" in line for line in changes), changes
        _no_canary(work, ended.output)
    with bench.trial("a crash"):
        work = _tattling(bench, fails_at=1)
        (work.path / "runs").mkdir()
        ended = bench.train(work, arguments=("--trace-events", str(work.path / "runs" / "trace")), inject=_plant)
        assert ended.code == 6, ended.output
        assert "[redacted]" in ended.output
        _no_canary(work, ended.output)
    if bench.size != "cut":
        with bench.trial("names that only sound alike stay"):
            _alike()


def _tattling(bench: Bench, *, fails_at: int) -> Workspace:
    plugins = JOURNAL + EMA + TATTLER.replace("FAILS_AT", str(fails_at))
    return bench.workspace("log.level='debug'", "export.single_file=true", plugins=plugins)


def _plant() -> None:
    os.environ["CANARY_TOKEN"] = f"{CANARY}-token"


def _no_canary(work: Workspace, output: str) -> None:
    """By all bytes of all files, also in other encodings of its text."""
    for path in (work.path / "runs").rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), f"{path} has it"
    assert CANARY not in output, output
    lines = work.log
    assert any("[redacted]" in json.dumps(line) for line in lines), "nothing was said at all"


def _alike() -> None:
    from core.log.redaction import Redactor

    tree = {
        "use_cls_token": "mean",
        "num_memory_tokens": 4,
        "keep_tags": "a, b",
        "max_tokens": 75,
        "unkeyed": "x",
        "monkey": "y",
    }
    assert Redactor.of(tree, {"MONKEY": "long enough"}).tree(tree) == tree
    assert Redactor.of(tree, {}).text("resuming step-00000500, hf_hub_download, task-sk-1") == (
        "resuming step-00000500, hf_hub_download, task-sk-1"
    )


@row("S7", "no connection but a webhook's, and that to a public address", cut=4, short=6, long=6)
def network(bench: Bench) -> None:
    """Train, check and sample open no socket; a webhook connects by https to the address that it looked at, or not at all."""
    with bench.trial("train without a network"):
        work = bench.workspace("train.steps=2", "preview.at_end=true", "preview.steps=1", "export.at_end=true")
        _quietly(bench, "train", str(work.config))
    if bench.size != "cut":
        with bench.trial("check without a network"):
            _quietly(bench, "check", str(work.config))
        with bench.trial("sample without a network"):
            words = ("--steps", "1", "--count", "1", "--out", str(work.path / "samples.png"))
            _quietly(bench, "sample", "--run", str(work.run), "--prompt", "owl", *words)
    with bench.trial(f"{len(REFUSED)} hosts that are not public"):
        from core.outside.http_post import resolve

        for host in REFUSED:
            try:
                place = resolve(host, 443, allow_private=False)
            except (PermissionError, socket.gaierror):
                continue
            raise AssertionError(f"{host} is {place} and would be posted to")
    with bench.trial("a name that means another address the second time"):
        _rebinding()
    with bench.trial("a webhook that fails does not stop training"):
        plugin = '\n[[plugins]]\nuse = "plugins.webhook.Webhook"\nurl = "https://127.0.0.1:9/"\nevents = ["checkpoint.saved"]\n'
        work = bench.workspace("checkpoint.every_steps=1", plugins=plugin)
        ended = bench.train(work)
        assert ended.code == 0, ended.output
        assert work.said("127.0.0.1, which is no public address"), ended.output


def _quietly(bench: Bench, *words: str) -> None:
    """The command ends well in a child that has no network where that is permitted, and opens no connection."""
    found = bench.folder / f"sockets-{words[0]}"

    def work() -> int:
        _leave_the_network()
        descriptor = os.open(found, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in (
                "socket.connect",
                "socket.getaddrinfo",
                "socket.gethostbyname",
                "socket.sendto",
                "socket.bind",
            ):
                os.write(descriptor, f"{event} {arguments[1:]}\n".encode())

        sys.addaudithook(hook)
        return command(*words)

    ended = bench.fork(work)
    assert ended.code == 0, ended.output
    assert found.read_text() == "", found.read_text()


def _leave_the_network() -> bool:
    """Go where there is no network at all; False where the system does not permit it."""
    library = ctypes.CDLL(None, use_errno=True)
    return any(library.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET))


def _rebinding() -> None:
    """The name is asked for once; the connection goes to that very address, under the host's name."""
    from core.outside.http_post import json_payload, post

    asked: list[object] = []
    reached: list[object] = []

    def lookup(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        address = PUBLIC if len(asked) == 1 else PRIVATE
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(place: tuple[str, int], *_: object, **__: object) -> socket.socket:
        reached.append(place)
        raise ConnectionRefusedError("as far as it goes")

    with patch("socket.getaddrinfo", lookup), patch("socket.create_connection", connect):
        for error in (ConnectionRefusedError, PermissionError):
            with suppress(error):
                post("https://hook.example/", json_payload({}), 5.0)
    assert asked == ["hook.example"] * 2, asked
    assert reached == [(PUBLIC, 443)], reached


@row("S12", "what a run leaves is its owner's alone", cut=1, short=3, long=3)
def permissions(bench: Bench) -> None:
    """Under any umask folders are 0700 and files 0600, and temporary names cannot be guessed."""
    plugins = JOURNAL + EMA + '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'
    for umask in (0o000,) if bench.size == "cut" else (0o000, 0o022):
        with bench.trial(f"umask {umask:03o}"):
            work = bench.workspace(
                "train.steps=2", "preview.at_end=true", "preview.steps=1", "export.at_end=true",
                "export.single_file=true", plugins=plugins,
            )  # fmt: skip
            ended = bench.train(work, inject=lambda umask=umask: os.umask(umask))  # type: ignore[misc]
            assert ended.code == 0, ended.output
            assert _open_to_others(work.run) == []
            assert _open_to_others(work.path / "cache") == []
    if bench.size != "cut":
        with bench.trial("temporary names"):
            _temporary_names(bench)


def _open_to_others(folder: Path) -> list[str]:
    found = [folder, *folder.rglob("*")]
    return [f"{path} {stat.filemode(path.stat().st_mode)}" for path in found if path.stat().st_mode & 0o077]


def _temporary_names(bench: Bench) -> None:
    """What is renamed lay in a folder that nobody else can write to, or had a name that was another the last time."""
    work = bench.workspace("train.steps=1", "export.at_end=true", "export.single_file=true")
    seen, page = bench.folder / "renamed", str(work.path / "page.html")
    commands = [["train", str(work.config)], *[["data", str(work.config), "--html", page]] * 2]
    for words in commands:

        def begin(words: list[str] = words) -> int:
            _note_renames(seen)
            return command(*words)

        assert bench.fork(begin).code == 0
    lines = seen.read_text().splitlines()
    assert len(lines) > len(commands), lines
    exposed = [line for line in lines if line.startswith("exposed")]
    assert len(exposed) == len(set(exposed)), exposed


def _note_renames(found: Path) -> None:
    descriptor = os.open(found, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename":
            exposed = os.stat(os.path.dirname(str(arguments[0])) or ".").st_mode & 0o077
            os.write(descriptor, f"{'exposed' if exposed else 'private'} {arguments[0]}\n".encode())

    sys.addaudithook(hook)
