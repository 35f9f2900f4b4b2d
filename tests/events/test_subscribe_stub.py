"""Type checkers know what a handler of each signal takes and returns: they refuse what would be refused at attach."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from events import build, on, transform
from tests.events.make_subscribe_stub import STUB, stub
from tests.small_runs import ROOT

SETTINGS = """
[mypy]
strict = true
follow_imports = silent
[mypy-torch.*]
follow_imports = skip
[mypy-loose]
disallow_untyped_defs = false
"""
"""Without torch, which takes long to read; the plugins that come with the trainer are checked with it."""

RIGHT = '''
"""A plugin of somebody else."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from events import Notification, Plugin, build, on, transform
from events.payloads import (
    EpochEnd, EpochStart, Item, LossFunction, MetricsReady, SampleContext, StepParts, DataContext
)

JUMP = Notification(name="right.jump", meaning="It jumped.", payload=int)


class Right(Plugin):
    declares = (JUMP,)

    @on("epoch.end", priority=10)
    def look(self, event: EpochEnd) -> None: ...

    @on("epoch.start")
    @on("epoch.end")
    def look_at_both(self, event: EpochStart | EpochEnd) -> None: ...

    @on("metrics.ready")
    async def send(self, event: MetricsReady) -> None: ...

    @on("metrics.ready")
    def note(self, event: MetricsReady) -> None: ...

    @on("epoch.end")
    def look_at_any(self, event: object, more: int = 0, **further: Any) -> None: ...

    @on("epoch.end")
    @staticmethod
    def look_without_self(event: EpochEnd) -> None: ...

    @classmethod
    @on("epoch.end")
    def look_of_class(cls, event: EpochEnd) -> None: ...

    @on("right.jump")
    def of_its_own(self, event: int) -> None: ...

    @transform("sample.caption", priority=20, training_only=True)
    def shout(self, caption: str, sample: SampleContext) -> str:
        return caption.upper()

    @transform("sample.image")
    def keep(self, image: Image.Image, sample: SampleContext) -> Image.Image:
        return image

    @transform("data.items")
    def first(self, items: Sequence[Item], context: DataContext) -> tuple[Item, ...]:
        return tuple(items[:1])

    @build("loss")
    def same(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        return loss

    @build("build.loss")
    def same_by_its_long_name(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        return loss


def call(plugin: Right, event: EpochEnd) -> None:
    plugin.look(event)
    plugin.look(1)  # refused
'''
"""The last lines show that a marked method keeps its own type."""

LOOSE = '''
"""A plugin of somebody who writes no types."""

from events import Plugin, on, transform


class Loose(Plugin):
    @on("epoch.end")
    def look(self, event): ...

    @on("epoch.end")
    def look_at_all(self, *arguments, **further): ...

    @transform("sample.caption")
    def shout(self, caption, sample):
        return caption.upper()

    @on("epoch.end")  # refused
    def nothing(self): ...

    @transform("sample.caption")  # refused
    def without_context(self, caption):
        return caption
'''

WRONG = '''
"""Every kind of mistake."""

from PIL import Image

from events import Plugin, build, on, transform
from events.payloads import (
    EpochEnd, EpochStart, LossFunction, MetricsReady, ModelContext, SampleContext, StepParts, WeightFunction
)


class Wrong(Plugin):
    @on("epoch.end")  # refused
    def another_event(self, event: EpochStart) -> None: ...

    @on("epoch.end")  # refused
    def no_event(self) -> None: ...

    @on("epoch.end")  # refused
    def two_parameters(self, event: EpochEnd, value: int) -> None: ...

    @on("epoch.end")  # refused
    def returning(self, event: EpochEnd) -> int:
        return 1

    @on("epoch.end")  # refused
    async def waiting(self, event: EpochEnd) -> None: ...

    @on("metrics.ready")  # refused
    async def waiting_for_a_value(self, event: MetricsReady) -> int:
        return 1

    @on("epoch.start")  # refused
    @on("epoch.end")
    def one_of_two(self, event: EpochEnd) -> None: ...

    @on("sample.caption")  # refused
    def looking(self, caption: str, sample: SampleContext) -> str:
        return caption

    @on("build.loss")  # refused
    def looking_at_a_part(self, loss: LossFunction) -> None: ...

    @transform("epoch.end")  # refused
    def changing(self, event: EpochEnd) -> None: ...

    @transform("build.loss")  # refused
    def changing_a_part(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        return loss

    @transform("sample.caption")  # refused
    def without_context(self, caption: str) -> str:
        return caption

    @transform("sample.caption")  # refused
    def forgotten_return(self, caption: str, sample: SampleContext) -> None: ...

    @transform("sample.caption")  # refused
    def perhaps(self, caption: str, sample: SampleContext) -> str | None:
        return None

    @transform("sample.caption")  # refused
    async def later(self, caption: str, sample: SampleContext) -> str:
        return caption

    @transform("sample.caption")  # refused
    def another_context(self, caption: str, sample: StepParts) -> str:
        return caption

    @transform("sample.image")  # refused
    def another_value(self, image: str, sample: SampleContext) -> str:
        return image

    @transform("sample.image")  # refused
    def size(self, image: Image.Image, sample: SampleContext) -> tuple[int, int]:
        return image.size

    @build("loss")  # refused
    def another_part(self, loss: WeightFunction, parts: StepParts) -> WeightFunction:
        return loss

    @build("loss")  # refused
    def of_the_model(self, loss: LossFunction, context: ModelContext) -> LossFunction:
        return loss

    @build("loss", prority=10)  # refused
    def misspelt(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        return loss
'''
FILES = {"right.py": RIGHT, "loose.py": LOOSE, "wrong.py": WRONG}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, int]]:
    """(file, line) of everything that mypy says of the plugins, in a folder of their own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "mypy.ini").write_text(SETTINGS)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *FILES],
        cwd=folder, env={"MYPYPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return {(found[1], int(found[2])) for found in re.finditer(r"^(\w+\.py):(\d+): error", done.stdout, re.MULTILINE)}


@pytest.mark.parametrize("name", FILES)
def test_a_handler_is_refused_just_where_it_does_not_fit(refused: set[tuple[str, int]], name: str) -> None:
    marked = {number for number, line in enumerate(FILES[name].splitlines(), 1) if line.endswith("# refused")}
    assert {line for file, line in refused if file == name} == marked


def test_the_stub_is_what_the_catalogue_makes_of_it() -> None:
    assert STUB.read_text(encoding="utf-8") == stub(), "python -m tests.events.make_subscribe_stub writes it anew"


@pytest.mark.parametrize("decorator", [on, transform, build])
def test_its_decorators_take_what_the_real_ones_do(decorator: Callable[..., Any]) -> None:
    real = inspect.getfullargspec(decorator)
    nodes = ast.walk(ast.parse(STUB.read_text(encoding="utf-8")))
    overloads = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == decorator.__name__]
    assert len(overloads) > 5
    for node in overloads:
        assert [one.arg for one in node.args.args] == real.args
        assert [one.arg for one in node.args.kwonlyargs] == real.kwonlyargs


@pytest.mark.parametrize("package", ["core", "events", "plugins"])
def test_type_checkers_read_the_types_of_an_installed_package(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
