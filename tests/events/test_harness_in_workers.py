"""The harness applies a transform in this process and in a real worker, and says whether both make the same of a value."""

import multiprocessing
import os
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plugins
from events import Plugin, PluginSettings, on, transform
from events.errors import PluginError
from events.payloads import RunStart, SampleContext
from events.plugin import PluginTable
from events.testing import Both, Harness, batch_context, device_context, run_start, sample_context
from plugins.captions import ShuffleTags
from plugins.loading import build_plugin, find_beside
from tests.small_runs import PICTURES

SHOUT = """
from events import Plugin, transform

class Shout(Plugin):
    @transform("sample.caption")
    def shout(self, caption, sample):
        return caption.upper()
"""


class Weather(Plugin):
    """Draws as it should."""

    class Settings(PluginSettings):
        words: tuple[str, ...] = ("rain", "sun")

    @transform("sample.caption")
    def add(self, caption: str, sample: SampleContext) -> str:
        return f"{caption}, {sample.rng.py.choice(self.settings.words)} {sample.rng.py.random()}"


class Global(Plugin):
    """Draws as it should not."""

    @transform("sample.caption")
    def add(self, caption: str, sample: SampleContext) -> str:
        return f"{caption} {random.random()}"


class Counting(Plugin):
    """Remembers what no worker knows of."""

    calls = 0

    @transform("sample.caption")
    def add(self, caption: str, sample: SampleContext) -> str:
        self.calls += 1
        return f"{caption} {self.calls}"


REMEMBERED: list[str] = []


class Origin(Plugin):
    """Says which process began this one, and what this module remembers."""

    @transform("sample.caption")
    def say(self, caption: str, sample: SampleContext) -> str:
        return f"{os.getppid()} {REMEMBERED}"


class NeedsTheStart(Plugin):
    @on("run.start")
    def begin(self, event: RunStart) -> None:
        self.word = event.run.name

    @transform("sample.caption")
    def add(self, caption: str, sample: SampleContext) -> str:
        return f"{caption} {self.word}"


class InPlace(Plugin):
    @transform("sample.pixels")
    def add(self, pixels: Any, sample: SampleContext) -> Any:
        return pixels.add_(1)


class Dying(Plugin):
    @transform("sample.caption")
    def leave(self, caption: str, sample: SampleContext) -> str:
        if caption == "die" and multiprocessing.parent_process() is not None:
            os._exit(3)
        return caption


class Waiting(Plugin):
    @transform("sample.caption")
    def wait(self, caption: str, sample: SampleContext) -> str:
        if multiprocessing.parent_process() is not None:
            threading.Event().wait()
        return caption


class Odd(Plugin):
    @transform("sample.caption")
    def wrap(self, caption: str, sample: SampleContext) -> str:
        return type("Text", (str,), {})(caption)


class Unbuildable(Plugin):
    def __init__(self) -> None:
        super().__init__()


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_a_transform_that_draws_from_its_context_makes_the_same_in_both(start_method: Any) -> None:
    plugin = Weather(Weather.Settings(words=("snow", "hail")))
    with Harness(plugin, ShuffleTags()) as harness:
        both = harness.apply_in_both("sample.caption", "a, b, c", sample_context(), start_method=start_method)
        again = harness.apply_in_both("sample.caption", "a, b, c", sample_context(epoch=1), start_method=start_method)
    assert both.are_equal, both
    assert again.are_equal
    assert any(word in both.worker for word in ("snow", "hail"))
    assert again.worker != both.worker


def test_one_that_draws_from_a_global_generator_does_not() -> None:
    with Harness(Global()) as harness:
        assert not harness.apply_in_both("sample.caption", "a", sample_context()).are_equal


def test_the_worker_has_plugins_of_its_own() -> None:
    with Harness(Counting()) as harness:
        harness.apply("sample.caption", "a", sample_context())
        both = harness.apply_in_both("sample.caption", "a", sample_context())
    assert (both.here, both.worker, both.are_equal) == ("a 2", "a 1", False)


def test_a_worker_is_started_as_asked_and_has_modules_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "REMEMBERED", ["something"])
    with Harness(Origin()) as harness:
        spawned = harness.apply_in_both("sample.caption", "a", sample_context())
        forked = harness.apply_in_both("sample.caption", "a", sample_context(), start_method="forkserver")
    assert spawned.worker == f"{os.getpid()} []"
    assert forked.worker.endswith(" []")
    assert forked.worker != spawned.worker


def test_what_fails_in_the_worker_alone_is_raised_with_its_traceback() -> None:
    with Harness(NeedsTheStart()) as harness:
        harness.emit("run.start", run_start())
        with pytest.raises(
            PluginError, match=r"(?s)in a worker process, plugin NeedsTheStart failed.*line \d+, in add"
        ) as caught:
            harness.apply_in_both("sample.caption", "a", sample_context())
        assert (caught.value.plugin, caught.value.signal) == ("NeedsTheStart", "sample.caption")
        with pytest.raises(PluginError):
            harness.apply_in_both("sample.caption", "a", sample_context())


def test_pictures_and_tensors_are_compared_by_their_content_and_each_process_has_its_own() -> None:
    import torch
    from PIL import Image

    with Harness(InPlace()) as harness:
        both = harness.apply_in_both("sample.pixels", torch.zeros(3, 4, 4), sample_context())
        with Image.open(PICTURES / "hearts" / "red-heart.png") as picture:
            assert harness.apply_in_both("sample.image", picture, sample_context()).are_equal
    assert both.are_equal
    assert both.worker.unique().tolist() == [1]


def test_a_worker_that_dies_is_told_and_another_takes_its_place() -> None:
    with Harness(Dying()) as harness:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="a worker process has ended with code 3"):
                harness.apply_in_both("sample.caption", "die", sample_context())
        assert harness.apply_in_both("sample.caption", "live", sample_context()).worker == "live"


def test_a_worker_that_does_not_answer_is_ended() -> None:
    with Harness(Waiting()) as harness, pytest.raises(TimeoutError, match=r"has not answered within 0\.1 s"):
        harness.apply_in_both("sample.caption", "a", sample_context(), limit_seconds=0.1)
    assert multiprocessing.active_children() == []


def test_what_cannot_travel_is_told() -> None:
    with Harness(Odd()) as harness, pytest.raises(RuntimeError, match="what was returned cannot be sent"):
        harness.apply_in_both("sample.caption", "a", sample_context())


def test_plugins_that_a_worker_cannot_make_are_refused() -> None:
    class Local(Plugin): ...

    with Harness(Local()) as harness, pytest.raises(ValueError, match="define it at the top of a module"):
        harness.apply_in_both("sample.caption", "a", sample_context())
    with Harness(Unbuildable()) as harness, pytest.raises(RuntimeError, match="the plugins cannot be built"):
        harness.apply_in_both("sample.caption", "a", sample_context())


def test_what_no_worker_handles_is_refused() -> None:
    with Harness() as harness, pytest.raises(TypeError, match="handled in the training process alone"):
        harness.apply_in_both("batch.device", None, device_context())
    with Harness() as harness, pytest.raises(TypeError, match=r"sample\.caption carries a SampleContext"):
        harness.apply_in_both("sample.caption", "a", batch_context())


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with plugins of its own, beside a config."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "__path__", [*plugins.__path__])
    (tmp_path / "plugins").mkdir()
    find_beside(tmp_path)
    yield tmp_path
    sys.modules.pop("plugins.beside_the_config", None)


def test_a_plugin_beside_the_config_is_found_by_the_worker(beside: Path) -> None:
    (beside / "plugins" / "beside_the_config.py").write_text(SHOUT)
    table = PluginTable(use="plugins.beside_the_config.Shout", name="Shout", position=0, settings={})
    with Harness(build_plugin(table)) as harness:
        assert harness.apply_in_both("sample.caption", "a", sample_context()) == Both(here="A", worker="A")
