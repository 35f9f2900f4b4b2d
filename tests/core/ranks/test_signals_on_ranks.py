"""Two real processes fire the same signals in the same order, call each handler where it says, and write each file once.

What would make them differ later is compared before anything is loaded.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events.catalogue import CATALOGUE
from tests.core.ranks.conftest import NewRoom
from tests.core.ranks.launching import train_here, train_in_processes
from tests.http_server import Server, http_server
from tests.small_runs import Run, reports

HERE = "tests.core.ranks.plugins_on_ranks"
STEPS = 7
OVERRIDES = (
    f"train.steps={STEPS}", "train.batch_size=2", "checkpoint.every_steps=3", "validation.fraction=0.2",
    "validation.every_steps=3", "preview.at_start=true", "preview.at_end=true", "preview.count=1",
    "export.at_end=true", "log.every_steps=2", "data.workers=1", "cache.latents=true",
)  # fmt: skip
"""Six pictures to train on, so three batches an epoch: two steps of two processes, which leave one without a batch."""
UPLOAD = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write(sys.argv[2] + chr(10))"
SAME_IN_BOTH = """
[[plugins]]
use = "plugins.ema.Ema"
decay = 0.5
[[plugins]]
use = "plugins.loss_by_image.LossByImage"
noise_from = 0.0
every_epochs = 1
[[plugins]]
use = "plugins.metrics_file.MetricsFile"
[[plugins]]
use = "plugins.prompt_recall.PromptRecall"
count = 3
[[plugins]]
use = "plugins.keep_best.KeepBest"
[[plugins]]
use = "plugins.early_stop.EarlyStop"
patience = 99
"""
"""Whose results are to be those of one process that takes the same batches."""
BESIDE = f"""
[[plugins]]
use = "plugins.metrics_csv.MetricsCsv"
[[plugins]]
use = "plugins.tensorboard.TensorBoard"
[[plugins]]
use = "plugins.weights_and_biases.WeightsAndBiases"
[[plugins]]
use = "plugins.progress_bar.ProgressBar"
seconds = 0.0
[[plugins]]
use = "plugins.live_view.LiveView"
port = 0
token = "for-this-test"
[[plugins]]
use = "plugins.interactive.Interactive"
[[plugins]]
use = "plugins.run_report.RunReport"
[[plugins]]
use = "plugins.preview_evolution.PreviewEvolution"
[[plugins]]
use = "plugins.monitor.Monitor"
seconds = 0.0
[[plugins]]
use = "plugins.rhythm.Rhythm"
what = "preview"
epochs = 2
[[plugins]]
use = "plugins.rolling_checkpoint.RollingCheckpoint"
[[plugins]]
use = "plugins.example_plugin.ExampleLoggingPlugin"
[[plugins]]
use = "plugins.upload.Upload"
command = ["python", "-c", "{UPLOAD}", "UPLOADS", "{{name}} {{path}}"]
what = ["checkpoints", "exports"]
[[plugins]]
use = "plugins.webhook.Webhook"
url = "URL"
allow_private = true
events = ["run.start", "data.ready", "metrics.ready", "control.applied", "validation.end", "preview.end", "checkpoint.saved", "run.end"]
every_steps = 1
[[plugins]]
use = "{HERE}.Everywhere"
[[plugins]]
use = "{HERE}.InWorkers"
folder = "FOLDER"
[[plugins]]
use = "{HERE}.ByTorchAlone"
[[plugins]]
use = "{HERE}.ClassStyle"
[[plugins]]
use = "{HERE}.ClassStyleOnMain"
"""
"""Those that leave something or tell somebody, and the tests' own."""


@pytest.fixture(scope="module")
def room(new_room: NewRoom) -> Path:
    """The folder of these runs."""
    return new_room("signals").parent


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with http_server() as made:
        yield made


@pytest.fixture(scope="module")
def two(room: Path, server: Server) -> Run:
    """Two processes with every plugin that leaves something, one that exchanges unasked, and their traces."""
    plugins = SAME_IN_BOTH + BESIDE
    for name, value in (("UPLOADS", room / "uploads"), ("FOLDER", room), ("URL", server.url)):
        plugins = plugins.replace(f'"{name}"', json.dumps(str(value)))
    trace = ("--trace-events", str(room / "trace.jsonl"))
    run = train_in_processes(config_with(room, plugins), "run.name=two", *OVERRIDES, options=trace)
    assert run.exit_code == 0, run.output
    return run


@pytest.fixture(scope="module")
def one(room: Path) -> Run:
    """One process that takes as many batches a step."""
    return train_here(config_with(room, SAME_IN_BOTH), "run.name=one", "train.accumulate=2", *OVERRIDES)


def config_with(room: Path, plugins: str) -> Path:
    path = room / "with-plugins.toml"
    path.write_text((room / "config.toml").read_text() + plugins)
    return path


def fired(path: Path) -> list[str]:
    """The signals of a trace in their order, without those that the main rank alone fires or that fire in the loader."""
    names = {spec.name for spec in CATALOGUE if not spec.main_only and spec.where == "training"}
    lines = map(json.loads, path.read_text().splitlines())
    return [line["signal"] for line in lines if not line["handler"] and line["signal"] in names]


def noted(run: Run, rank: int) -> Any:
    return json.loads((run.folder / f"everywhere-{rank}.json").read_text())


# signals


def test_both_ranks_fire_the_same_signals_in_the_same_order(two: Run, room: Path) -> None:
    first, second = fired(room / "trace.jsonl"), fired(room / "trace-rank-1.jsonl")
    assert first == second
    assert {"cache.start", "validation.end", "preview.end", "checkpoint.saved", "control.applied", "export.end",
            "epoch.end", "metrics.ready", "run.close"} <= set(first)  # fmt: skip
    assert Counter(first)["step.end"] == STEPS


def test_what_is_done_once_is_fired_on_the_main_rank_alone(two: Run, room: Path) -> None:
    names = {spec.name for spec in CATALOGUE if spec.main_only}
    lines = {rank: (room / name).read_text() for rank, name in enumerate(("trace.jsonl", "trace-rank-1.jsonl"))}
    assert {name for name in names if f'"signal": "{name}"' in lines[0]} >= {
        "progress",
        "preview.prompts",
        "preview.image",
    }
    assert not {name for name in names if f'"signal": "{name}"' in lines[1]}


def test_the_recorded_plan_says_where_handlers_run(two: Run) -> None:
    signals = json.loads((two.folder / "record" / "plan.json").read_text())["signals"]
    ranks = {handler["handler"]: handler["ranks"] for signal in signals for handler in signal["handlers"]}
    assert ranks["Ema.swap_in"] == ranks["ClassStyle.on_training_end"] == ranks["Ema.begin"] == "all"
    assert ranks["MetricsFile.tell"] == ranks["ClassStyleOnMain.on_training_end"] == "main"


# what a handler is told and may do


def test_a_plugin_is_told_its_rank_in_training_and_where_samples_are_made(two: Run, room: Path) -> None:
    assert [(noted(two, rank)["rank"], noted(two, rank)["is_main"]) for rank in (0, 1)] == [(0, True), (1, False)]
    assert {path.read_text() for path in room.glob("maker-*")} == {"0 2", "1 2"}


def test_what_is_gathered_is_the_same_on_both_ranks_at_steps_and_between_them(two: Run) -> None:
    first, second = noted(two, 0), noted(two, 1)
    assert first["steps"] == second["steps"] == [[[0, step], [1, step]] for step in range(1, STEPS + 1)]
    assert first["epochs"] == second["epochs"]
    assert [value["rank"] for value in first["epochs"][0]] == [0, 1]
    means = [[value["mean"] for value in values] for values in first["epochs"]]
    assert all(one == other for one, other in means)


def test_gather_is_refused_where_it_is_not_declared(two: Run) -> None:
    for rank in (0, 1):
        assert len(noted(two, rank)["refused"]) == 4
        assert "collective=True" in noted(two, rank)["refused"][0]


def test_an_exchange_that_is_not_declared_is_named(two: Run) -> None:
    for name in ("log.jsonl", "log-rank-1.jsonl"):
        lines = [json.loads(line) for line in (two.folder / name).read_text().splitlines()]
        warned = [line["event"] for line in lines if "exchanges something between ranks" in line["event"]]
        assert len(warned) == 1, name
        assert warned[0].startswith("plugin ByTorchAlone: ByTorchAlone.add_up at epoch.end exchanges something")


def test_a_class_style_plugin_runs_where_it_says(two: Run) -> None:
    assert {path.name for path in two.folder.glob("class-style-*")} == {
        "class-style-0", "class-style-1", "class-style-on-main-0",
    }  # fmt: skip


# bundled plugins


def test_each_writes_its_files_once(two: Run, room: Path) -> None:
    folder = two.folder
    assert not [path for path in folder.rglob("*") if "rank-1" in path.name and path.name[:3] not in ("log", "ite")]
    assert [line["step"] for line in reports(folder) if "loss" in line["values"]] == [2, 4, 6, 7]
    assert [line["step"] for line in reports(folder) if "validation/held_out" in line["values"]] == [0, 3, 6, 7]
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert [row["step"] for row in rows if row["loss"]] == ["2", "4", "6", "7"]
    assert len(list((folder / "tensorboard").glob("events.out.tfevents.*"))) == 1
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 1
    for name in (
        "report.html",
        "loss_by_image.html",
        "prompt_recall.json",
        "previews/evolution.png",
        "record/now.json",
    ):
        assert (folder / name).is_file(), name
    uploads = [line.split()[0] for line in (room / "uploads").read_text().splitlines()]
    assert len(uploads) == len(set(uploads)) > 2


def test_each_tells_its_news_once(two: Run, server: Server) -> None:
    told = Counter((body["event"], body.get("step")) for body in server.bodies if body["event"] != "control.applied")
    assert told["run.start", 0] == told["run.end", STEPS] == told["preview.end", 0] == 1
    assert set(told.values()) == {1}
    assert two.output.count("#token=for-this-test") == 1
    bars = [line for line in two.output.splitlines() if f"step {STEPS}/{STEPS}" in line and "left" in line]
    assert len(bars) == 1
    assert two.output.count("two begins at step 0") == 1


def test_what_a_wish_on_the_main_rank_leads_to_is_done_by_both(two: Run) -> None:
    """RollingCheckpoint asks for checkpoints there, and Rhythm for previews."""
    steps = {path.name for path in (two.folder / "previews").glob("step-*")}
    assert len(steps) > 2
    state = json.loads(
        next(iter(sorted((two.folder / "checkpoints").glob("step-*"))[-1:])).joinpath("state.json").read_text()
    )
    assert state["plugins"]["RollingCheckpoint"]["saved"] or state["plugins"]["RollingCheckpoint"]["awaited"]


def test_they_come_to_the_results_of_one_process_that_takes_the_same_batches(two: Run, one: Run) -> None:
    for name in ("loss_by_image.json", "prompt_recall.json"):
        assert (two.folder / name).read_text() == (one.folder / name).read_text(), name
    assert _told(two) == _told(one)
    averages = [{key: tensor for key, tensor in run.state()["plugins.safetensors"].items() if key.startswith("Ema")}  # type: ignore[attr-defined]
                for run in (two, one)]  # fmt: skip
    assert averages[0].keys() == averages[1].keys()
    assert all(tensor.equal(averages[1][key]) for key, tensor in averages[0].items())
    assert averages[0]


def _told(run: Run) -> list[dict[str, Any]]:
    """The reports by step, without what no two runs have in common; several processes tell them one window later."""
    lines = reports(run.folder)
    for line in lines:
        line["values"] = {name: value for name, value in line["values"].items() if not name.startswith("system/")}
    return sorted(lines, key=lambda line: (line["step"], len(line["values"])))


def test_a_handler_that_fails_on_another_rank_ends_the_run_saved_by_the_main_one_alone(room: Path) -> None:
    """Whose collective handlers then wait for nobody."""
    config = config_with(room, SAME_IN_BOTH + f'[[plugins]]\nuse = "{HERE}.FailsOnTheSecond"\n')
    run = train_in_processes(config, "run.name=failing", *OVERRIDES)
    assert run.exit_code == 6
    assert run.output.count("Traceback") == 1
    assert "plugin FailsOnTheSecond failed in FailsOnTheSecond.fail" in run.output
    state: Any = run.state()
    assert state["step"] == "step-00000003"
    assert state["state"]["plugins"]["LossByImage"]["pictures"]


# what is compared at the start


@pytest.mark.parametrize(
    ("plugin", "what", "lines"),
    [
        ("AnotherOrder", "plan", ("    +     50  AnotherOrder", "    -     50  AnotherOrder")),
        ("AnotherRate", "config", ("- learning_rate = 0.001", "+ learning_rate = 0.002")),
        (
            "AnotherFactor",
            "optimizer",
            ("- factor of the learning rate after 3 steps: 0.5", "+ factor of the learning rate after 3 steps: 1.0"),
        ),
    ],
)
def test_ranks_that_differ_are_refused_with_the_lines_in_which_they_do(
    room: Path, plugin: str, what: str, lines: tuple[str, ...]
) -> None:
    config = config_with(room, f'[[plugins]]\nuse = "{HERE}.{plugin}"\n')
    run = train_in_processes(config, f"run.name={plugin}")
    assert run.exit_code == 2
    assert run.output.count(f"rank 1 has another {what} than rank 0 (- rank 0, + rank 1); give all the same:") == 1
    for line in lines:
        assert run.output.partition("give all the same:")[2].count(line) >= 1
    assert "Traceback" not in run.output
