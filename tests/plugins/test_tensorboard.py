"""TensorBoard writes what TensorBoard reads: curves by metric, and preview grids by step."""

import errno
import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from core.preview.grid import labelled_grid
from events.errors import AttachError
from events.payloads import PreviewEnd, RunInfo
from events.plugin import PluginTable
from events.testing import Harness, checkpoint_loaded, metrics_ready, preview_end, prompt, run_info, run_start
from plugins.loading import build_plugin
from plugins.tensorboard import TensorBoard

pytest.importorskip("tensorboard")


def read(folder: Path):  # type: ignore[no-untyped-def]  # tensorboard has no types
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def session(folder: Path, *told: tuple[int, float], resumed_step: int = 0) -> None:
    run = run_info(folder)
    with Harness(TensorBoard()) as harness:
        harness.emit("run.start", run_start(run=run, resumed_step=resumed_step))
        for step, loss in told:
            harness.emit("metrics.ready", metrics_ready(run=run, step=step, values={"loss": loss, "lr/unet": 1e-4}))


def previews(run: RunInfo, *colours: str) -> PreviewEnd:
    paths = []
    for number, colour in enumerate(colours):
        paths.append(run.folder / f"{number:02d}-{colour}.png")
        Image.new("RGB", (32, 32), colour).save(paths[-1])
    return preview_end(run=run, step=250, prompts=tuple(prompt(colour) for colour in colours), paths=tuple(paths))


def test_a_full_disk_costs_what_comes_while_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt fails; the next is made a minute after it, and the steps told until then are lost."""
    from torch.utils import tensorboard

    now, real = [0.0], tensorboard.SummaryWriter

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("events.disk.monotonic", lambda: now[0])
    monkeypatch.setattr(tensorboard, "SummaryWriter", full)
    run, values = run_info(tmp_path), {"loss": 0.5}
    with Harness(TensorBoard()) as harness:
        harness.emit("run.start", run_start(run=run))
        for now[0], step in ((1.0, 1), (59.0, 2), (60.0, 3)):
            if step == 2:
                monkeypatch.setattr(tensorboard, "SummaryWriter", real)
            harness.emit("metrics.ready", metrics_ready(run=run, step=step, values=values))
    assert [point.step for point in read(tmp_path).Scalars("loss")] == [3]


def test_a_run_that_goes_back_replaces_what_it_takes_anew(tmp_path: Path) -> None:
    run = run_info(tmp_path)
    with Harness(TensorBoard()) as harness:
        harness.emit("run.start", run_start(run=run))
        for step, loss in ((10, 0.5), (20, 9.0)):
            harness.emit("metrics.ready", metrics_ready(run=run, step=step, values={"loss": loss}))
        harness.emit("checkpoint.loaded", checkpoint_loaded(run=run, step=10))
        harness.emit("metrics.ready", metrics_ready(run=run, step=20, values={"loss": 0.25}))
    assert [(point.step, point.value) for point in read(tmp_path).Scalars("loss")] == [(10, 0.5), (20, 0.25)]


def test_each_metric_is_a_curve(tmp_path: Path) -> None:
    session(tmp_path, (10, 0.5), (20, 0.25))
    accumulator = read(tmp_path)
    assert sorted(accumulator.Tags()["scalars"]) == ["loss", "lr/unet"]
    assert [(point.step, point.value) for point in accumulator.Scalars("loss")] == [(10, 0.5), (20, 0.25)]


def test_a_resumed_run_replaces_the_steps_it_takes_again(tmp_path: Path) -> None:
    session(tmp_path, (10, 0.5), (20, 0.25), (30, 0.75))
    session(tmp_path, (20, 1.0), (30, 2.0), resumed_step=10)
    points = read(tmp_path).Scalars("loss")
    assert [(point.step, point.value) for point in points] == [(10, 0.5), (20, 1.0), (30, 2.0)]


def test_files_are_read_in_the_order_in_which_they_were_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also two of one second, of which tensorboard would name the tenth before the ninth."""
    from tensorboard.summary.writer import event_file_writer

    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(9))
    session(tmp_path, (10, 0.5))
    session(tmp_path, (10, 0.25), resumed_step=9)
    assert [point.value for point in read(tmp_path).Scalars("loss")] == [0.25]


def test_a_preview_round_is_a_grid_with_its_prompts(tmp_path: Path) -> None:
    run = run_info(tmp_path)
    with Harness(TensorBoard(TensorBoard.Settings(columns=2))) as harness:
        harness.emit("run.start", run_start(run=run))
        harness.emit("preview.end", previews(run, "red", "blue", "lime"))
    (image,) = read(tmp_path).Images("previews")
    assert image.step == 250
    cells = [(Image.new("RGB", (32, 32), colour), colour, False) for colour in ("red", "blue", "lime")]
    shown = Image.open(io.BytesIO(image.encoded_image_string)).convert("RGB")
    assert shown.tobytes() == labelled_grid(cells, 2).tobytes()


def test_previews_can_be_left_out(tmp_path: Path) -> None:
    run = run_info(tmp_path)
    with Harness(TensorBoard(TensorBoard.Settings(previews=False))) as harness:
        harness.emit("run.start", run_start(run=run))
        harness.emit("preview.end", previews(run, "red"))
    assert read(tmp_path).Tags()["images"] == []


def test_a_preview_round_that_failed_is_passed_over(tmp_path: Path) -> None:
    with Harness(TensorBoard()) as harness:
        harness.emit("run.start", run_start(run=run_info(tmp_path)))
        harness.emit("preview.end", preview_end(run=run_info(tmp_path)))
    assert read(tmp_path).Tags()["images"] == []


def test_a_missing_package_is_told_when_the_plugin_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    table = PluginTable(use="plugins.tensorboard.TensorBoard", name="board", position=0, settings={})
    with pytest.raises(AttachError, match="pip install tensorboard"):
        build_plugin(table)
