"""DeepSpeed takes the steps of several processes, and the run is that of ddp: its numbers, checkpoints, average, export.

Real processes and DeepSpeed's real engine, over gloo. How far apart the numbers are follows from the order of sums alone.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from core.config.tables import Config
from core.ranks.deepspeed_checks import deepspeed_problems
from tests.core.ranks.conftest import NewRoom
from tests.core.ranks.launching import TIMEOUT_SECONDS, train_in_processes
from tests.small_runs import ROOT, Run, reports

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs the extra 'deepspeed'")
PLUGINS = """
[[plugins]]
use = "tests.core.ranks.plugins_for_numbers.SpoilOnRank"
name = "Spoil"
rank = 1
places = [[1, 0]]
[[plugins]]
use = "plugins.ema.Ema"
[[plugins]]
use = "plugins.metrics_file.MetricsFile"
"""
"""Step 2 is not finite, on the second process alone."""
SETTINGS = (
    "train.batch_size=3", "train.accumulate=2", "validation.fraction=0.1", "validation.every_steps=3", "log.every_steps=1",
    "checkpoint.keep=5", "preview.at_end=true", "export.at_end=true",
)  # fmt: skip
"""Eight pictures in three batches, and a step takes four: the second process goes through its last without weight."""
DEEPSPEED = 'distributed.strategy="deepspeed"'
WEIGHTS_APART, LOSSES_APART = 1e-4, 1e-5
"""Measured over 7 steps of 1e-3: weights 1e-5, in biases whose gradients are noise; losses and norms 1e-7 of their value."""


@pytest.fixture(scope="module")
def config(new_room: NewRoom) -> Path:
    return new_room("deepspeed", PLUGINS)


@pytest.fixture(scope="module")
def ddp(config: Path) -> Run:
    run = train_in_processes(config, *SETTINGS, "run.name=ddp")
    assert run.exit_code == 0, run.output
    return run


@pytest.fixture(scope="module")
def divided(config: Path) -> Run:
    run = train_in_processes(config, *SETTINGS, DEEPSPEED, "run.name=divided")
    assert run.exit_code == 0, run.output
    return run


@pytest.fixture(scope="module")
def continued(config: Path, divided: Run) -> Run:
    """From step 4 of `divided` one process goes on to step 5, and from there DeepSpeed with other settings to the end."""
    folder = divided.folder.with_name("continued")
    for step in (2, 4):
        shutil.copytree(divided.folder / f"checkpoints/step-{step:08}", folder / f"checkpoints/step-{step:08}")
    one = train_in_processes(
        config, *SETTINGS, "run.name=continued", "train.accumulate=4", "train.steps=5", "export.at_end=false", count=1
    )
    assert one.exit_code == 0, one.output
    assert "resum" in one.output
    run = train_in_processes(
        config, *SETTINGS, DEEPSPEED, "run.name=continued", "distributed.zero_stage=1", "distributed.offload=true"
    )
    assert run.exit_code == 0, run.output
    return run


@pytest.fixture(scope="module")
def tried() -> dict[str, Any]:
    """What `deepspeed_trials.py` found."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2")
    done = subprocess.run(
        [sys.executable, *launcher, str(ROOT / "tests/core/ranks/deepspeed_trials.py")],
        capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT_SECONDS,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def furthest(one: Path, other: Path) -> float:
    """How far the tensors of two files are apart, at most."""
    left, right = load_file(one), load_file(other)
    assert left.keys() == right.keys()
    return max(float((tensor.double() - right[name].double()).abs().max()) for name, tensor in left.items())


def known(report: dict[str, Any]) -> dict[str, float]:
    """Its numbers without those that are not finite."""
    return {key: value for key, value in report["values"].items() if value is not None}


def newest(run: Run, name: str) -> Path:
    return sorted((run.folder / "checkpoints").glob("step-*"))[-1] / name


@needs_deepspeed
def test_weights_and_optimizer_are_those_of_ddp(ddp: Run, divided: Run) -> None:
    assert furthest(newest(ddp, "weights.safetensors"), newest(divided, "weights.safetensors")) < WEIGHTS_APART
    assert furthest(newest(ddp, "optimizer.safetensors"), newest(divided, "optimizer.safetensors")) < WEIGHTS_APART


@needs_deepspeed
def test_losses_norms_and_rates_are_told_as_under_ddp(ddp: Run, divided: Run) -> None:
    left, right = reports(ddp.folder), reports(divided.folder)
    assert [one["step"] for one in left] == [one["step"] for one in right]
    for one, other in zip(left, right, strict=True):
        assert known(other) == pytest.approx(known(one), rel=LOSSES_APART), one["step"]
        assert other["values"].keys() == one["values"].keys()


@needs_deepspeed
def test_a_step_that_is_not_finite_on_one_process_is_left_out_by_all_and_named(divided: Run) -> None:
    assert divided.output.count("step 2 was skipped") == 1
    steps = {
        int(step) for key, step in load_file(newest(divided, "optimizer.safetensors")).items() if key.endswith("/step")
    }
    assert steps == {6}


@needs_deepspeed
def test_the_average_of_the_weights_is_kept_as_under_ddp(ddp: Run, divided: Run) -> None:
    assert furthest(newest(ddp, "plugins.safetensors"), newest(divided, "plugins.safetensors")) < WEIGHTS_APART


@needs_deepspeed
def test_export_and_previews_are_made(ddp: Run, divided: Run) -> None:
    one, other = (next(run.folder.glob("exports/*/unet/*.safetensors")) for run in (ddp, divided))
    assert furthest(one, other) < 1e-3  # in float16
    assert list(divided.folder.glob("previews/*/grid.png"))


@needs_deepspeed
def test_a_run_goes_on_with_one_process_and_with_deepspeed_again(divided: Run, continued: Run) -> None:
    """The first time from state that DeepSpeed had divided; the second time into it, in other shares."""
    assert newest(continued, "").name == newest(divided, "").name
    assert furthest(newest(continued, "weights.safetensors"), newest(divided, "weights.safetensors")) < WEIGHTS_APART
    assert (
        furthest(newest(continued, "optimizer.safetensors"), newest(divided, "optimizer.safetensors")) < WEIGHTS_APART
    )


@needs_deepspeed
@pytest.mark.parametrize("kind", ["1 AdamW", "2 AdamW", "2 NAdam", "1 SGD"])
def test_a_divided_optimizer_does_what_the_whole_one_does(tried: dict[str, Any], kind: str) -> None:
    """Weights that were written from outside count in the next step, too."""
    found = tried[kind]
    assert found["kept before a step"] == 0
    assert found["taken back"] == 0
    for what in ("moved alike", "kept alike", "goes on alike"):
        assert found[what] < 1e-7, what


@needs_deepspeed
def test_a_weight_without_state_begins_with_none(tried: dict[str, Any]) -> None:
    assert tried["refusals"]["without a gradient"] == 0


@needs_deepspeed
def test_counts_that_differ_within_a_group_are_refused(tried: dict[str, Any]) -> None:
    assert "a step of 9.0 for some weights" in tried["refusals"]["other counts"]


@needs_deepspeed
@pytest.mark.parametrize("where", ["a hook on the optimizer", "a hook on a weight"])
def test_plugins_that_want_to_see_gradients_are_refused(tried: dict[str, Any], where: str) -> None:
    assert "hooks on gradients" in tried["refusals"][where]


@needs_deepspeed
def test_a_weight_that_is_a_single_number_is_refused_by_name(tried: dict[str, Any]) -> None:
    assert "cannot take number, a single number" in tried["refusals"]["a single number"]


@needs_deepspeed
def test_its_processes_wait_for_each_other_no_longer_than_the_config_has_it(tried: dict[str, Any]) -> None:
    assert tried["refusals"]["time limit"] == 45


def problems(*, strategy: str = "deepspeed", zero_stage: int = 2, **train: Any) -> list[str]:
    tables = {"model": {"path": "model"}, "data": {"root": "data"}, "train": train}
    return deepspeed_problems(
        Config.model_validate(tables | {"distributed": {"strategy": strategy, "zero_stage": zero_stage}})
    )


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    assert any("pip install deepspeed" in problem for problem in problems())
    assert problems(strategy="ddp") == []


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("train.fused_backward", {"fused_backward": True}),
        ("train.precision", {"precision": "fp16"}),
        ("train.channels_last", {"channels_last": True}),
        ("train.optimizer", {"optimizer": "torch.optim.Adafactor"}),
        ("train.optimizer", {"optimizer": "elsewhere.AdamW"}),
        ("distributed.zero_stage", {"zero_stage": 3}),
    ],
)
def test_what_does_not_go_together_with_it_is_told_by_key(key: str, settings: dict[str, Any]) -> None:
    assert [problem for problem in problems(**settings) if problem.startswith(f"{key}  ")]
    assert problems(strategy="ddp", **settings) == []
