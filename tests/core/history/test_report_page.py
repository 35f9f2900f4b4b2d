"""A run's report is one page of its files: complete, alone, small, and nothing that a run wrote becomes markup."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from core.history.facts import Data, Handler, HandlerTime, Plan, PlannedSignal, PluginFacts
from core.history.page import write_report
from core.history.reading import read_run
from tests.core.history.written_runs import falling, made_round, write_run
from tests.core.reading_pages import Page, assert_stands_alone
from tests.small_runs import ROOT

HOSTILE = "<script>alert('&')</script> \"quoted\" </svg> \x1b[0m \u202e left"
HANDLER = Handler(plugin="Ema", handler="Ema.begin", priority=50, is_async=False, source="plugins/ema.py:56")
PLAN = Plan(signals=(PlannedSignal(name="model.ready", kind="notification", where="training", handlers=(HANDLER,)),))
TIMES = (
    HandlerTime(plugin="Ema", signal="model.ready", handler="Ema.begin", where="training", calls=3, seconds=1.5, slowest_seconds=1),
    HandlerTime(plugin="Drop", signal="sample.caption", handler="Drop.drop", where="worker", calls=7, seconds=0.5, slowest_seconds=0.1),
)  # fmt: skip
CURVES = {
    "loss": falling(), "grad_norm": falling(), "lr/unet": {10: 0.1, 100: 0.0}, "validation/faces": {0: 1.0, 50: 0.25, 100: 0.5},
    "images": {10: 80.0}, "time/steps": {10: 0.5}, "time/data": {10: 0.3}, "time/seconds": {10: 10.0}, "plugin/own": {10: 1.0},
    "skipped": {10: 0.0},
}  # fmt: skip


@pytest.fixture
def report_of(tmp_path: Path) -> Callable[[Path], Page]:
    def make(folder: Path) -> Page:
        write_report(read_run(folder), tmp_path / "page.html")
        return Page(tmp_path / "page.html")

    return make


def whole_run(folder: Path) -> Path:
    return write_run(
        folder, curves=CURVES, plan=PLAN, rounds=[made_round(step, "red heart", "owl") for step in (0, 50, 100)],
        session={"times": TIMES, "plugins": (PluginFacts(name="Ema", use="plugins.ema.Ema", version=3),)},
        data=Data(items=10, without_caption=2, buckets={"512x768": 10}, problems=("a.png: is empty",), set_aside=5),
        log=[("info", "hello"), ("warning", "step 3 was slow"), ("warning", "step 44 was slow"), ("error", "broken")],
    )  # fmt: skip


def test_it_has_everything_that_the_run_wrote(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    page = report_of(whole_run(tmp_path / "run"))
    assert_stands_alone(page)
    assert page.text_of("h2") == [
        "The run", "Curves", "Previews", "Where the time went", "Data", "Warnings and errors", "The plan",
        "Plugins and versions", "Config",
    ]  # fmt: skip
    for said in ("complete", "100 of 100", "0.25 at step 50", "10 min", "8 min 20 s · 83 %", "and 4 more", "512 × 768",
                 "model.ready", "plugins/ema.py:56", "plugins.ema.Ema", "2.9", "learning_rate = 0.1", "1.50 s"):  # fmt: skip
        assert said in page.text, said


def test_the_plan_says_which_handlers_that_look_on_run_on_every_process(
    tmp_path: Path, report_of: Callable[[Path], Page]
) -> None:
    def planned(kind: str, ranks: str, name: str) -> PlannedSignal:
        handler = Handler(
            plugin="Own", handler=f"Own.{name}", priority=50, is_async=False, ranks=ranks, source="own.py:1"
        )
        return PlannedSignal(name=f"own.{name}", kind=kind, where="training", handlers=(handler,))

    signals = (planned("notification", "all", "hook"), planned("notification", "main", "write"),
               planned("notification", "", "old"), planned("build", "all", "weigh"))  # fmt: skip
    page = report_of(write_run(tmp_path / "run", plan=Plan(signals=signals)))
    cells = page.text_of("td")
    assert "hook, on all ranks" in cells
    assert {"write", "old", "weigh"} <= set(cells)


def test_each_metric_has_its_chart(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    page = report_of(whole_run(tmp_path / "run"))
    titles = [own["aria-label"] for own in page.all("svg")]
    assert titles == [
        "Loss", "Validation loss", "Learning rate", "Gradient norm", "Pictures a second", "Share of the time", "plugin/own",
    ]  # fmt: skip
    assert "last 10" in page.text_of("span")  # 80 pictures in 10 s, of which steps and waiting for data took 8
    assert "faces, step 50: 0.25" in page.text_of("title")


def test_previews_are_prompts_by_steps(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    page = report_of(whole_run(tmp_path / "run"))
    assert [picture.getpixel((0, 0)) for picture in page.pictures] == [(0, 80, 80), (50, 80, 80), (100, 80, 80)] * 2
    assert page.text_of("div").count("red heart") == 1
    assert [text for text in page.text_of("div") if text in ("step 0", "50", "100")] == ["step 0", "50", "100"]


def test_of_many_rounds_and_prompts_some_are_shown(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    rounds = [made_round(step, *(f"prompt {number}" for number in range(30))) for step in range(0, 101, 5)]
    page = report_of(write_run(tmp_path / "run", rounds=rounds))
    assert len(page.pictures) == 6 * 12
    assert {"step 0", "100"} <= set(page.text_of("div"))


def test_a_prompt_that_an_earlier_round_had_not_leaves_its_place_empty(
    tmp_path: Path, report_of: Callable[[Path], Page]
) -> None:
    folder = write_run(tmp_path / "run", rounds=[made_round(0, "red heart"), made_round(10, "red heart", "owl")])
    (folder / "previews" / "step-000010" / "00.png").write_bytes(b"no picture")
    assert [picture.getpixel((0, 0)) for picture in report_of(folder).pictures] == [(0, 80, 80), (10, 80, 80)]


def test_large_pictures_become_smaller_ones_until_the_page_is_small(
    tmp_path: Path, report_of: Callable[[Path], Page]
) -> None:
    texts = [f"prompt {number}" for number in range(12)]
    folder = write_run(tmp_path / "run", rounds=[made_round(step, *texts, size=300) for step in range(6)])
    for path in folder.rglob("*.png"):
        Image.effect_noise((300, 300), 100).convert("RGB").save(path)  # which compresses badly
    page = report_of(folder)
    assert len(page.pictures) == 72
    assert len(page.source) < 3_000_000


def test_thousands_of_reports_make_a_small_page(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    curves = {name: {step: 1 + step % 7 for step in range(1, 20_001)} for name in ("loss", "grad_norm", "a", "b")}
    curves["validation/faces"] = dict.fromkeys(range(1, 20001, 10), 1.0)
    page = report_of(write_run(tmp_path / "run", curves=curves))
    assert len(page.source) < 300_000


def test_warnings_that_differ_in_numbers_alone_are_counted(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    page = report_of(whole_run(tmp_path / "run"))
    assert "step 3 was slow" in page.text
    assert "step 44 was slow" not in page.text
    assert "3 lines of the log" in page.text
    assert "hello" not in page.text
    cells = page.text_of("td")
    place = cells.index("step 3 was slow")
    assert cells[place + 1 : place + 5] == ["warning", "2", "2026-07-03 10:00 UTC", "2026-07-03 10:00 UTC"]


def test_a_long_message_is_folded_up_under_its_first_line(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    page = report_of(write_run(tmp_path / "run", log=[("error", "it broke\n  File x\n  File y")]))
    assert "it broke" in page.text_of("td")
    assert "it broke" in page.text_of("summary")
    assert "it broke\n  File x\n  File y" in page.text_of("pre")


def test_nothing_that_a_run_wrote_becomes_markup(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    handler = HANDLER.model_copy(update={"plugin": HOSTILE, "handler": HOSTILE, "source": HOSTILE})
    signal = PlannedSignal(name=HOSTILE, kind="notification", where="training", handlers=(handler,))
    folder = write_run(
        tmp_path / "run", curves={"loss": falling(), HOSTILE: falling(), f"validation/{HOSTILE}": falling(), f"lr/{HOSTILE}": falling()},
        plan=Plan(signals=(signal,)), rounds=[made_round(1, HOSTILE)], log=[("warning", HOSTILE), (HOSTILE, "error")],
        session={"status": "failed", "error": HOSTILE, "stage": HOSTILE, "command": (HOSTILE,), "reason": HOSTILE,
                 "plugins": (PluginFacts(name=HOSTILE, use=HOSTILE, version=1),), "versions": {HOSTILE: HOSTILE},
                 "seconds": {HOSTILE: 1.0}},
        data=Data(items=1, without_caption=0, buckets={HOSTILE: 1}, problems=(HOSTILE,), validation={HOSTILE: 1}),
        config=f'# {json.dumps(HOSTILE)}\n[run]\nname = "x"\n',
    )  # fmt: skip
    page = report_of(folder)
    assert_stands_alone(page)
    assert "<script" not in page.source
    assert "\x1b" not in page.source
    assert "\u202e" not in page.source
    assert "alert('&')" in page.text


def test_a_run_that_was_stopped_says_how_to_go_on_and_what_is_left(
    tmp_path: Path, report_of: Callable[[Path], Page]
) -> None:
    folder = write_run(tmp_path / "run", session={"status": "stopped", "reason": "enough for today", "step": 60})
    text = report_of(folder).text
    assert "It was stopped at step 60: enough for today." in text
    assert "What goes on with it; 40 steps are left, about 6 min 40 s:" in text
    assert "python run.py train 'my config.toml'" in text


def test_a_run_that_failed_shows_the_error(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    session = {
        "status": "failed",
        "error": "PluginError: no\nmore of it",
        "stage": "training",
        "exit_code": 6,
        "step": 7,
    }
    page = report_of(write_run(tmp_path / "run", session=session))
    assert "It failed in training at step 7, exit code 6." in page.text
    assert "PluginError: no\nmore of it" in page.text_of("pre")


def test_a_run_without_numbers_says_how_to_get_curves(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    page = report_of(write_run(tmp_path / "run", session={}))
    assert "plugins.metrics_file.MetricsFile" in page.text
    assert page.all("svg") == []


def test_a_run_of_an_older_version_has_a_report_too(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    page = report_of(write_run(tmp_path / "run", curves={"loss": falling()}))
    assert "Nothing tells how it ended" in page.text
    assert page.text_of("h2") == [
        "The run",
        "Curves",
        "Warnings and errors",
        "The plan",
        "Plugins and versions",
        "Config",
    ]


def test_a_number_of_one_step_alone_is_drawn(tmp_path: Path, report_of: Callable[[Path], Page]) -> None:
    page = report_of(write_run(tmp_path / "run", curves={"loss": {0: 0.0}, "validation/faces": {0: 0.0}}))
    assert len(page.all("svg")) == 2
    assert "nan" not in page.source


def test_making_it_loads_neither_torch_nor_numpy(tmp_path: Path) -> None:
    whole_run(tmp_path / "run")
    code = (
        f"import sys; sys.argv = ['run.py', 'report', {str(tmp_path / 'run')!r}]; import run\n"
        "try:\n    run.main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'numpy', 'diffusers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(tmp_path / "run" / "report.html"), "[]"]
