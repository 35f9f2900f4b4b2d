"""A pass that is killed or stopped goes on where it was; a bad picture is named; two runs may fill one cache."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_runs import PICTURES, ROOT, Run, assert_same_state, sets

SLOW = '[[plugins]]\nuse = "tests.core.plugins_for_tests.SlowPictures"\n'
SETTINGS = (f"data.root={PICTURES}", "cache.latents=true", "train.steps=2")


def entries(cache: Path) -> int:
    """How many latents a cache holds that has perhaps not been made yet."""
    if not (cache / "latents.sqlite").exists():
        return 0
    connection = sqlite3.connect(cache / "latents.sqlite", timeout=60)
    try:
        return int(connection.execute("SELECT COUNT(*) FROM entries").fetchone()[0])
    except sqlite3.OperationalError:  # not yet a table
        return 0
    finally:
        connection.close()


def start(config: Path, *overrides: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "run.py"), "train", str(config), *sets((*SETTINGS, *overrides))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(cache: Path, count: int, process: "subprocess.Popen[str]") -> None:
    while entries(cache) < count:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_pass_that_is_broken_off_goes_on_where_it_was(
    write_config: Callable[..., Path], train: Callable[..., Run], tmp_path: Path, number: signal.Signals,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    process = start(write_config(SLOW))
    wait_for(tmp_path / "cache", 64, process)
    process.send_signal(number)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == (130 if number == signal.SIGINT else -9), output
    held = entries(tmp_path / "cache")
    assert 64 <= held < 158
    cached = train(*SETTINGS, "run.name=on", plugins=SLOW)
    assert f"latents: {held} reused, {158 - held} to encode" in caplog.text
    plain = train(*SETTINGS, "cache.latents=false", "run.name=plain", plugins=SLOW)
    assert_same_state(cached, plain)


def test_two_runs_fill_one_cache_at_once(write_config: Callable[..., Path], train: Callable[..., Run], tmp_path: Path,
                                          caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    config = write_config(SLOW)
    processes = [start(config, f"run.name={name}") for name in ("one", "other")]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert entries(tmp_path / "cache") == 158
    train(*SETTINGS, "run.name=third", plugins=SLOW)
    assert "latents: 158 reused, 0 to encode" in caplog.text


def test_a_picture_that_cannot_be_read_is_named_and_another_stands_in(
    train: Callable[..., Run], picture_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(picture_folder, folder)
    broken = folder / "birds" / "owl.png"
    settings = (f"data.root={folder}", "train.steps=3", "data.check=headers", "data.max_bad_fraction=0.2")
    broken.write_bytes(broken.read_bytes()[:-200])  # its header is whole
    plain = train(*settings, "run.name=plain")
    caplog.clear()
    cached = train(*settings, "cache.latents=true", "run.name=cached")
    assert_same_state(plain, cached, but="data.safetensors")  # digests of files, which one of the two had no need of
    assert any("set aside" in record.getMessage() and "owl.png" in record.getMessage() for record in caplog.records)
    assert any("stands in for" in record.getMessage() for record in caplog.records)


def test_a_picture_that_is_mended_is_encoded_the_next_time(
    train: Callable[..., Run], picture_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(picture_folder, folder)
    broken = folder / "birds" / "owl.png"
    whole = broken.read_bytes()
    settings = (f"data.root={folder}", "cache.latents=true", "train.steps=1", "data.check=headers",
                "data.max_bad_fraction=0.2")  # fmt: skip
    broken.write_bytes(whole[:-200])
    train(*settings, "run.name=one")
    broken.write_bytes(whole)
    caplog.clear()
    train(*settings, "run.name=two")
    assert "latents: 9 reused, 1 to encode, 0 orphaned" in caplog.text
