"""The command line answers at once, says what is wrong without a traceback, and ends with the documented code."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from run import ENVIRONMENT
from tests.small_runs import ROOT, Run
from tests.warm import run_py

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "numpy", "PIL")


def loaded_by(*arguments: str) -> set[str]:
    """Which of the heavy libraries a command loads."""
    code = (
        f"import sys; sys.argv = ['run.py', *{arguments!r}]; import run\n"
        "try:\n    run.main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [("--help",), ("events",), ("plan",), ("train", "--help")])
def test_help_events_and_plan_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert loaded_by(*arguments) == set()


def test_events_lists_every_signal_in_firing_order() -> None:
    from events.catalogue import CATALOGUE

    lines = run_py("events").stdout.splitlines()
    assert [line.split()[0] for line in lines[::2]] == [spec.name for spec in CATALOGUE]


def test_plan_shows_order_place_mode_and_source(write_config: Callable[..., Path]) -> None:
    plugins = """
[[plugins]]
use = "plugins.captions.DropCaption"
priority = 10
[[plugins]]
use = "plugins.captions.Affix"
priority = { "sample.caption" = 5 }
"""
    lines = run_py("plan", str(write_config(plugins))).stdout.splitlines()
    place = lines.index("sample.caption (transform, worker process)")
    assert lines[place + 1].split()[:3] == ["5", "Affix", "Affix.affix"]
    assert lines[place + 2].split()[:2] == ["10", "DropCaption"]
    assert "sync" in lines[place + 1]
    assert "plugins/captions.py:" in lines[place + 1]


def test_a_plan_without_plugins_says_so(write_config: Callable[..., Path]) -> None:
    assert run_py("plan", str(write_config("")), "--no-plugins").stdout == "no plugin handles anything\n"


def test_check_says_what_is_in_order(write_config: Callable[..., Path]) -> None:
    done = run_py("check", str(write_config()))
    assert done.returncode == 0, done.stderr
    assert "10 pictures" in done.stdout
    assert "is in order" in done.stdout


def test_check_reports_all_that_is_not(write_config: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run_py(
        "check",
        str(write_config()),
        "--set",
        f"data.root={tmp_path / 'empty'}",
        "--set",
        "train.optimizer=torch.optim.Adamm",
    )
    assert done.returncode == 2
    assert "holds no picture" in done.stderr
    assert "did you mean 'Adam'?" in done.stderr


def test_a_config_problem_ends_with_2_and_no_traceback(write_config: Callable[..., Path]) -> None:
    done = run_py("train", str(write_config()), "--set", "train.stepz=3")
    assert done.returncode == 2
    assert "did you mean 'steps'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_misspelt_plugins_are_told_before_anything_loads(write_config: Callable[..., Path]) -> None:
    plugins = """
[[plugins]]
use = "plugins.caption.DropCaption"
[[plugins]]
use = "plugins.captions.DropCaptions"
[[plugins]]
use = "plugins.captions.DropCaption"
probabilty = 0.1
"""
    done = run_py("plan", str(write_config(plugins)))
    assert done.returncode == 2
    assert "did you mean 'captions'?" in done.stderr
    assert "did you mean 'DropCaption'?" in done.stderr
    assert "did you mean 'probability'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_problems_of_tables_paths_and_plugins_are_told_together(write_config: Callable[..., Path]) -> None:
    plugins = """
[[plugins]]
use = "no readable path"
[[plugins]]
use = "plugins.min_snr.MinSnr"
gamam = 3
"""
    done = run_py("train", str(write_config(plugins)), "--set", "train.stepz=3")
    assert done.returncode == 2
    assert "3 problems" in done.stderr
    assert "train.stepz" in done.stderr
    assert "plugins[0].use  'no readable path'" in done.stderr
    assert "plugins[1].gamam  is not a setting of plugins.min_snr.MinSnr; did you mean 'gamma'?" in done.stderr


def test_no_data_ends_with_3(write_config: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run_py("train", str(write_config()), "--set", f"data.root={tmp_path / 'empty'}")
    assert done.returncode == 3
    assert "holds no picture" in done.stderr


def test_a_failing_plugin_ends_with_6_and_its_own_traceback(run_command: Callable[..., Run]) -> None:
    run = run_command(plugins='\n[[plugins]]\nuse = "tests.core.plugins_for_tests.Failing"\n')
    assert run.exit_code == 6
    assert "out of cheese" in run.output
    assert 'plugins_for_tests.py", line' in run.output


def test_a_config_may_bring_plugins_in_its_own_folder(write_config: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "my_plugin.py").write_text(
        "from plugins.plugins import BasePlugin\n\n\nclass MyPlugin(BasePlugin):\n"
        "    def on_epoch_end(self, **kwargs):\n"
        "        print(f\"hello world, this is a plugin at the end of epoch number: {kwargs['epoch']}\")\n"
    )
    (tmp_path / "mine.py").write_text(
        "from events import Plugin, transform\n\n\nclass Upper(Plugin):\n"
        '    @transform("sample.caption")\n    def upper(self, caption, sample):\n        return caption.upper()\n'
    )
    path = write_config('\n[[plugins]]\nuse = "plugins.my_plugin.MyPlugin"\n[[plugins]]\nuse = "mine.Upper"\n')
    done = run_py("train", str(path), "--set", "train.steps=3", "--set", "data.workers=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "hello world, this is a plugin at the end of epoch number: 0" in done.stdout


def test_trace_events_writes_what_fired_also_in_the_workers(write_config: Callable[..., Path], tmp_path: Path) -> None:
    import json

    plugins = '\n[[plugins]]\nuse = "plugins.captions.DropCaption"\n'
    trace = tmp_path / "trace.jsonl"
    done = run_py(
        "train",
        str(write_config(plugins)),
        "--set",
        "train.steps=2",
        "--set",
        "data.workers=1",
        "--trace-events",
        str(trace),
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    assert {"run.start", "step.end", "run.close", "sample.image"} <= {line["signal"] for line in lines}
    assert any(line["handler"] == "DropCaption:DropCaption.drop" for line in lines)


def test_sample_renders_an_exported_model(train: Callable[..., Run], tmp_path: Path) -> None:
    run = train("train.steps=1", "export.at_end=true")
    out = tmp_path / "page.png"
    done = run_py(
        "sample", "--run", str(run.folder), "--prompt", "red heart", "--count", "2", "--steps", "2", "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 1000


def test_the_environment_is_offline_and_of_the_same_bits_unless_somebody_has_said_otherwise() -> None:
    code = "import sys, os; sys.argv = ['run.py', 'events']; import run\ntry:\n    run.main()\nfinally:\n    print(dict(os.environ))"
    environment = {key: value for key, value in os.environ.items() if key not in ENVIRONMENT} | {"HF_HUB_OFFLINE": "no"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    found = ast.literal_eval(done.stdout.splitlines()[-1])
    assert {name: found[name] for name in ENVIRONMENT} == ENVIRONMENT | {"HF_HUB_OFFLINE": "no"}


def test_check_tells_what_pictures_ask_for_and_no_plugin_does(write_config: Callable[..., Path], picture_folder: Path,
                                                              tmp_path: Path) -> None:  # fmt: skip
    folder = tmp_path / "set"
    shutil.copytree(picture_folder, folder)
    (folder / "birds" / "cond_dropout.txt").write_text("0.2")
    done = run_py("check", str(write_config()), "--set", f"data.root={folder}")
    assert done.returncode == 2
    assert "2 pictures have cond_dropout, such as set/birds/duck.png" in done.stderr
