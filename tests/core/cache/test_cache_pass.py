"""A pass that is killed or stopped goes on where it was; a bad picture is named; two runs may fill one cache."""

import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_runs import PICTURES, Run, assert_same_state, sets
from tests.warm import Running, start_py

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


def wait_for(cache: Path, count: int, process: Running) -> None:
    while entries(cache) < count:
        assert process.poll() is None, process.output
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_pass_that_is_broken_off_goes_on_where_it_was(
    write_config: Callable[..., Path], train: Callable[..., Run], tmp_path: Path, number: signal.Signals,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with start_py("train", str(write_config(SLOW)), *sets(SETTINGS)) as process:
        wait_for(tmp_path / "cache", 64, process)
        process.send_signal(number)
        assert process.wait() == (130 if number == signal.SIGINT else -9), process.output
        output = process.output
    held = entries(tmp_path / "cache")
    assert 64 <= held < 158
    if number == signal.SIGINT:
        assert f"stopped with {158 - held} left, where the next start goes on" in output
    cached = train(*SETTINGS, "run.name=on", plugins=SLOW)
    assert f"latents: {held} reused, {158 - held} to encode" in caplog.text
    plain = train(*SETTINGS, "cache.latents=false", "run.name=plain", plugins=SLOW)
    assert_same_state(cached, plain)


def test_two_runs_fill_one_cache_at_once(write_config: Callable[..., Path], train: Callable[..., Run], tmp_path: Path,
                                          caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    with start_py("train", str(write_config(SLOW)), *sets((*SETTINGS, "run.name=one"))) as process:
        wait_for(tmp_path / "cache", 1, process)
        train(*SETTINGS, "run.name=other", plugins=SLOW)
        assert process.wait() == 0, process.output
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
