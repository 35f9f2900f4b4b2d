"""What is told of the class style is true: which arguments a method has, where they come from, and what may be asked."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from events.control import SETTABLE, Control
from events.testing import (
    Harness,
    batch,
    checkpoint_saved,
    epoch_end,
    epoch_start,
    model_loaded,
    run_end,
    run_start,
    sample_context,
    step_end,
    step_start,
)
from plugins.plugins import HOOKS, BasePlugin, Look
from tests.docs.pages import named, prose, table_rows, write_project
from tests.small_runs import ROOT

PAGE = ROOT / "docs" / "class-style-plugins.md"
REFERENCE = ROOT / "docs" / "write-a-plugin.md"
BATCH = batch(torch.zeros(1, 3, 8, 8))
EVENTS: dict[str, Any] = {
    "run.start": run_start(resumed_step=5), "run.end": run_end(step=70), "epoch.start": epoch_start(epoch=2, step=20),
    "epoch.end": epoch_end(epoch=2, step=30), "step.start": step_start(BATCH, step=4, step_in_epoch=3),
    "step.end": step_end(BATCH, step=4, step_in_epoch=3), "checkpoint.saved": checkpoint_saved(step=50),
    "model.loaded": model_loaded({"unet": 1, "text_encoder": 2, "vae": 3}, tokenizers={"text_encoder": 4}),  # type: ignore[dict-item]  # what they are does not matter
}  # fmt: skip
NOT_OF_THE_EVENT = {"arg_update_callback", "caption", "img"}


def told() -> dict[str, list[str]]:
    """By argument, the expressions that the table has for it."""
    rows = [row for row in table_rows(PAGE, 3) if row[0].strip("`") not in HOOKS]
    return {row[0].strip("`"): re.findall(r"`([^`]+)`", row[2]) for row in rows if row[0].startswith("`")}


def test_every_argument_is_explained() -> None:
    assert set(told()) == {name for hook in HOOKS.values() for names in hook.given for name in names}


@pytest.mark.parametrize("name", [name for name, hook in HOOKS.items() if isinstance(hook, Look)])
def test_an_argument_is_what_the_table_takes_of_the_event(name: str) -> None:
    hook: Any = HOOKS[name]
    event = EVENTS[hook.signal]
    for argument, value in hook.arguments(BasePlugin(), event).items():
        if argument not in NOT_OF_THE_EVENT:
            wanted = [one for one in told()[argument] if one != hook.signal]
            special = [one for one in wanted if hook.signal == "run.start" and one == "event.resumed_step"]
            assert eval((special or wanted)[0], {"event": event, "str": str}) == value, argument


def test_the_plugin_in_both_styles_does_the_same(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_project(PAGE, project)
    seen = []
    for file, kind in (("patient_class_style", "PatientInClassStyle"), ("patient_decorated", "PatientDecorated")):
        plugin = getattr(importlib.import_module(f"plugins.{file}"), kind)(name="patient")
        harness, event = Harness(plugin), epoch_end(epoch=1, step=20)
        harness.emit("epoch.end", event)
        caption = harness.apply("sample.caption", "red heart", sample_context())
        seen.append((caption, capsys.readouterr().out, event.control.take("set")))
    assert seen[0] == seen[1]
    caption, printed, (request,) = seen[0]
    assert (caption, printed) == ("emoji of a red heart", "test: epoch 1 ended at step 20\n")
    assert (request.key, request.value, request.asker) == ("train.accumulate", 3, "patient")


@pytest.mark.parametrize("page", [PAGE, REFERENCE], ids=lambda page: page.name)
def test_every_setting_that_may_be_changed_is_named(page: Path) -> None:
    assert set(SETTABLE) <= set(named(page))


def test_the_table_of_requests_is_what_a_control_takes() -> None:
    section = prose(REFERENCE).partition("## Asking of the run")[2].partition("\n## ")[0]
    asked = {name for name, _ in inspect.getmembers(Control, inspect.isfunction) if not name.startswith("_")}
    assert set(re.findall(r"^\| `(\w+)\(", section, re.MULTILINE)) == asked - {"take", "is_asked"}
