"""WeightsAndBiases tells a run there what happens here, each step once, and is never waited for while training."""

import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from events.errors import AttachError
from events.plugin import PluginTable
from events.testing import (
    Harness,
    metrics_ready,
    preview_end,
    prompt,
    run_error,
    run_info,
    run_start,
    validation_end,
)
from plugins.loading import build_plugin
from plugins.weights_and_biases import WeightsAndBiases
from tests.small_runs import Run

pytest.importorskip("wandb")
BLOCK = 32768


@pytest.fixture(autouse=True)
def nobodys_account(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no settings and no server of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = str(tmp_path_factory.mktemp("home"))
    for name in ("HOME", "WANDB_CONFIG_DIR", "NETRC"):
        monkeypatch.setenv(name, home if name != "NETRC" else f"{home}/netrc")


def records(file: Path) -> Iterator[Any]:
    """What is in a .wandb file: leveldb's log format behind a header of 7 bytes, each record a protobuf."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := BLOCK - place % BLOCK) < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def history(folder: Path) -> list[dict[str, Any]]:
    """What was told, over all sessions of a run."""
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    rows = (record.history for file in files for record in records(file) if record.HasField("history"))
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item} for row in rows
    ]  # fmt: skip


def told(folder: Path, name: str) -> list[tuple[int, Any]]:
    return [(row["step"], row[name]) for row in history(folder) if name in row]


def session(folder: Path, *told: int, resumed_step: int = 0, loss: float = 0.5, **settings: Any) -> None:
    run = run_info(folder, name="demo")
    with Harness(WeightsAndBiases(WeightsAndBiases.Settings(**settings))) as harness:
        harness.emit("run.start", run_start(run=run, config={"train": {"steps": 100}}, resumed_step=resumed_step))
        for step in told:
            harness.emit("metrics.ready", metrics_ready(run=run, step=step, values={"loss": loss, "lr/unet": 1e-4}))


def services() -> list[str]:
    """Processes of the library that this one has."""
    return [child.name() for child in psutil.Process().children(recursive=True) if "wandb" in child.name()]


def test_each_report_is_a_row_with_its_step(tmp_path: Path) -> None:
    session(tmp_path, 10, 20)
    rows = history(tmp_path)
    assert [(row["step"], row["loss"], row["lr/unet"], row["epoch"]) for row in rows] == [
        (10, 0.5, 1e-4, 0), (20, 0.5, 1e-4, 0)
    ]  # fmt: skip


def test_curves_are_drawn_over_our_steps(tmp_path: Path) -> None:
    session(tmp_path, 10)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    metrics = [record.metric for record in records(file) if record.HasField("metric")]
    assert [(metric.glob_name, metric.step_metric) for metric in metrics if metric.glob_name] == [("*", "step")]


def test_validation_losses_are_told(tmp_path: Path) -> None:
    run = run_info(tmp_path)
    with Harness(WeightsAndBiases()) as harness:
        harness.emit("run.start", run_start(run=run))
        harness.emit("validation.end", validation_end(run=run, step=0, losses={"held_out": 0.75}))
        harness.emit("validation.end", validation_end(run=run, step=10, losses={}))  # it failed
    assert told(tmp_path, "validation/held_out") == [(0, 0.75)]


@pytest.mark.parametrize("wanted", [True, False])
def test_previews_are_pictures_with_their_prompts(tmp_path: Path, wanted: bool) -> None:
    run, paths = run_info(tmp_path), []
    for colour in ("red", "lime"):
        paths.append(tmp_path / f"{colour}.png")
        Image.new("RGB", (32, 32), colour).save(paths[-1])
    with Harness(WeightsAndBiases(WeightsAndBiases.Settings(previews=wanted))) as harness:
        harness.emit("run.start", run_start(run=run))
        prompts = (prompt("a red heart"), prompt("a lime"))
        harness.emit("preview.end", preview_end(run=run, step=0, prompts=prompts, paths=tuple(paths)))
        harness.emit("preview.end", preview_end(run=run, step=10))  # it failed
    if not wanted:
        assert history(tmp_path) == []
        return
    assert told(tmp_path, "previews/captions") == [(0, ["a red heart", "a lime"])]
    ((_, names),) = told(tmp_path, "previews/filenames")
    kept = [next((tmp_path / "wandb").glob(f"offline-run-*/files/{name}")) for name in names]
    assert [path.read_bytes() for path in kept] == [path.read_bytes() for path in paths]


def test_a_resumed_run_goes_on_with_the_same_one_and_tells_no_step_twice(tmp_path: Path) -> None:
    session(tmp_path, 10, 20, 30, loss=1.0)
    session(tmp_path, 20, 30, 40, resumed_step=10, loss=2.0)
    assert told(tmp_path, "loss") == [(10, 1.0), (20, 1.0), (30, 1.0), (40, 2.0)]
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1


def test_another_run_is_another_one_there(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        session(tmp_path / name, 10)
    assert len({file.name for file in tmp_path.glob("*/wandb/offline-run-*/*.wandb")}) == 2


def test_the_config_is_told_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "a-word-of-the-command"])
    config = {"train": {"steps": 100}, "plugins": [{"use": "x.Y", "api_key": "very-secret-word"}]}
    with Harness(WeightsAndBiases()) as harness:
        harness.emit("run.start", run_start(run=run_info(tmp_path), config=config))
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"very-secret-word" not in everything
    assert b"[redacted]" in everything
    assert b"a-word-of-the-command" not in everything


def test_nothing_is_left_behind_and_nothing_lies_elsewhere(tmp_path: Path) -> None:
    variables, threads = dict(os.environ), threading.active_count()
    session(tmp_path, 10)
    assert services() == []
    assert threading.active_count() == threads
    assert dict(os.environ) == variables
    assert [path for path in Path.home().rglob("*") if path.is_file()] == []


def test_disabled_it_does_nothing(tmp_path: Path) -> None:
    session(tmp_path, 10, mode="disabled")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_is_told_as_one(tmp_path: Path) -> None:
    run = run_info(tmp_path)
    with Harness(WeightsAndBiases()) as harness:
        harness.emit("run.start", run_start(run=run))
        harness.emit("run.error", run_error(run=run))
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert [record.exit.exit_code for record in records(file) if record.HasField("exit")] == [1]


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
        yield


@pytest.mark.usefixtures("silent_server")
def test_a_server_that_does_not_answer_costs_nothing_and_the_run_goes_on_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("plugins.weights_and_biases.INIT_SECONDS", 1.0)
    session(tmp_path, 10, 20, mode="online")
    assert told(tmp_path, "loss") == [(10, 0.5), (20, 0.5)]
    assert "does not answer" in caplog.text
    assert services() == []


def test_without_a_key_check_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    online = WeightsAndBiases(WeightsAndBiases.Settings(mode="online"))
    (line,) = online.check()
    assert "`wandb login`" in line
    assert list(WeightsAndBiases().check()) == []
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    assert list(online.check()) == []


def test_a_record_that_cannot_be_read_begins_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "signalbox.json").write_text('{"id": 3, "told": [')
    session(tmp_path, 10)
    assert told(tmp_path, "loss") == [(10, 0.5)]


def test_a_missing_package_is_told_when_the_plugin_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    table = PluginTable(use="plugins.weights_and_biases.WeightsAndBiases", name="wb", position=0, settings={})
    with pytest.raises(AttachError, match="pip install wandb"):
        build_plugin(table)


def test_a_real_run_is_told(train: Callable[..., Run]) -> None:
    table = '\n[[plugins]]\nuse = "plugins.weights_and_biases.WeightsAndBiases"\n'
    run = train("train.steps=4", "preview.at_end=true", plugins=table)
    assert [step for step, _ in told(run.folder, "loss")] == [2, 4]
    assert [step for step, _ in told(run.folder, "previews/count")] == [4]
    assert services() == []
