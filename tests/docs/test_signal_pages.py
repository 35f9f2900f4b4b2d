"""The pages of signals are what the catalogue, the payloads and the bundled plugins say, and their handlers fit."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from core.errors import ConfigError
from core.signal_pages.pages import Pages
from core.signal_pages.run_map import HERE, SECTIONS
from core.signal_pages.signal import MADE
from events import Plugin, on, testing
from events.catalogue import CATALOGUE
from events.payloads import Crop, EpochEnd, SampleSettings
from events.spec import SignalSpec
from plugins.loading import bundled_classes
from plugins.plugins import HOOKS
from tests.docs.pages import blocks, prose, write_project
from tests.small_runs import ROOT

FOLDER = ROOT / "docs" / "signals"
AGAIN = "write them anew: python run.py events --write docs/signals"
each_signal = pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.name)


class Part:
    """Has the methods that schedulers and optimizers are known by."""

    def add_noise(self) -> None: ...

    set_timesteps = step = zero_grad = state_dict = load_state_dict = add_noise


PIXELS = torch.zeros(1, 3, 8, 8)
VALUES: dict[str, Any] = {
    "run.configure": object(), "data.items": (testing.ITEM,), "epoch.plan": (), "sample.image": Image.new("RGB", (8, 8)),
    "sample.crop": Crop(left=0, top=0, right=1, bottom=1), "sample.caption": "a red heart", "sample.pixels": PIXELS[0],
    "sample.settings": SampleSettings(), "batch.host": testing.batch(PIXELS), "batch.device": testing.batch(PIXELS),
    "metrics.record": {"loss": 0.25}, "preview.prompts": (testing.PROMPT,), "checkpoint.retention": (10,),
    "checkpoint.metadata": {"title": "demo"}, "checkpoint.tensors": {"weight": PIXELS}, "build.model": {},
    "build.parameters": (), "build.scheduler": Part(), "build.optimizer": Part(),
}  # fmt: skip
"""What transforms and build signals carry in the tests; the other parts are functions."""


def pages(**changes: Any) -> Pages:
    known = {"kinds": bundled_classes(), "hooks": {name: hook.signal for name, hook in HOOKS.items()}}
    return Pages(**(known | changes))


TEXTS = pages().texts()


@pytest.mark.parametrize("name", TEXTS)
def test_a_page_in_the_tree_is_the_one_that_is_written(name: str) -> None:
    path = FOLDER / name
    assert path.is_file(), AGAIN
    assert path.read_text(encoding="utf-8") == TEXTS[name], AGAIN


def test_there_is_no_stray_page() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(TEXTS)
    assert set(TEXTS) == {f"{spec.name}.md" for spec in CATALOGUE} | {"README.md", "types.md"}


def test_the_command_writes_them_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv = ['run.py', 'events', '--write', {str(tmp_path / 'signals')!r}]; import run\n"
        "try:\n    run.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([name for name in ('torch', 'numpy', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{tmp_path / 'signals'}: {len(TEXTS)} pages", "[]"]
    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "signals").iterdir()} == TEXTS


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"away/signals  cannot be written: No such file"):
        pages().write(tmp_path / "away" / "signals")


@each_signal
def test_the_handler_of_a_page_fits_its_signal_and_the_call_in_it_fires_it(spec: SignalSpec, project: Path) -> None:
    page = FOLDER / f"{spec.name}.md"
    (path,) = write_project(page, project)
    module = importlib.import_module(f"plugins.{path.stem}")
    (kind,) = (one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__)
    plugin = kind()
    assert [subscription.mark.signal for subscription in plugin.subscriptions()] == [spec.name]
    (call,) = re.findall(r"^`(Harness\(plugin\)\..+?)`, with", prose(page), re.MULTILINE)
    value = VALUES.get(spec.name, len)
    given = {"plugin": plugin, "value": value, "part": value, "image": VALUES["sample.image"], "pixels": PIXELS}
    result = eval(call, vars(testing) | given)
    assert result is (None if spec.kind == "notification" else value)


@each_signal
def test_a_page_marks_its_signal_once_among_those_around_it(spec: SignalSpec) -> None:
    (excerpt,) = blocks(FOLDER / f"{spec.name}.md", "text")
    (marked,) = (line for line in excerpt.text.splitlines() if line.endswith(HERE))
    assert marked.removesuffix(HERE).strip().rstrip("?*+") == spec.name


def test_the_index_lists_every_signal_once_in_firing_order_within_the_parts_of_a_run() -> None:
    index = TEXTS["README.md"]
    assert re.findall(r"^## (.+)$", index, re.MULTILINE) == list(SECTIONS)
    parts = [re.findall(r"^\| \[`([\w.]+)`\]", part, re.MULTILINE) for part in index.split("\n## ")[1:]]
    order = [spec.name for spec in CATALOGUE]
    assert all(part == sorted(part, key=order.index) for part in parts)
    assert sorted(name for part in parts for name in part) == sorted(order)
    assert [part[0] for part in parts] == ["run.configure", "epoch.plan", "sample.image", "run.error"]


@each_signal
def test_every_field_of_a_payload_is_in_the_table(spec: Any) -> None:
    kind = spec.payload if spec.kind == "notification" else spec.context
    for name in kind.__dataclass_fields__:
        assert f"| `{name}` |" in TEXTS[f"{spec.name}.md"]


def test_a_type_leads_to_what_is_told_of_it() -> None:
    wanted = {name for text in TEXTS.values() for name in re.findall(r"\(types\.md#(\w+)\)", text)}
    assert wanted
    assert wanted <= {title.lower() for title in re.findall(r"^## (\w+)$", TEXTS["types.md"], re.MULTILINE)}


def test_a_method_of_the_class_style_is_named_by_its_signal() -> None:
    for name, hook in HOOKS.items():
        assert f"`{name}` |" in TEXTS[f"{hook.signal}.md"]
    assert sum("no method; decorate one" in text for text in TEXTS.values()) == len(CATALOGUE) - len(HOOKS)


def test_a_plugin_that_comes_along_is_named_with_its_file_and_priority() -> None:
    class New(Plugin):
        @on("epoch.end", priority=7)
        def note(self, event: EpochEnd) -> None: ...

    text = pages(kinds={"plugins.new.New": New}).texts()["epoch.end.md"]
    file = f"{New.__module__.replace('.', '/')}.py"
    assert f"| [`plugins.new.New`](../../{file}) | `note` | 7 |" in text


def test_all_say_what_they_are_made_of() -> None:
    assert all(text.startswith(MADE) for text in TEXTS.values())
