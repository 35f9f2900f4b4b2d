"""Plugins are tested in repositories of their own, with `events.testing` and pytest alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_runs import ROOT

SPARKLE = '''
"""A plugin in a package of its own."""

from events import Plugin, PluginSettings, transform
from events.payloads import SampleContext


class Sparkle(Plugin):
    class Settings(PluginSettings):
        words: tuple[str, ...] = ("red", "blue")

    @transform("sample.caption")
    def add(self, caption: str, sample: SampleContext) -> str:
        return f"{sample.rng.py.choice(self.settings.words)} {caption}"
'''
TWICE = """
from events import transform
from sparkle.plugin import Sparkle


class Twice(Sparkle):
    @transform("sample.caption", priority=90)
    def again(self, caption, sample):
        return f"{caption} {caption}"


class Wrong(Sparkle):
    @transform("sample.caption")
    def without_context(self, caption):
        return caption
"""
TESTS = """
import pytest

from events.errors import AttachError
from events.testing import Harness, sample_context
from sparkle.plugin import Sparkle


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_both_processes_agree(start_method):
    with Harness(Twice(Sparkle.Settings(words=("green",))), Sparkle()) as harness:
        assert harness.order("sample.caption") == ["Twice.add", "Sparkle.add", "Twice.again"]
        both = harness.apply_in_both("sample.caption", "a cat", sample_context(), start_method=start_method)
    assert both.are_equal
    assert "green a cat" in both.worker


def test_a_plugin_that_does_not_fit_is_refused():
    with pytest.raises(AttachError, match="takes .self, value, context."):
        Harness(Wrong())
"""
LAYOUTS = {
    "prepend": {"tests/test_sparkle.py": TWICE + TESTS},
    "importlib": {"sparkle/twice.py": TWICE, "tests/test_sparkle.py": f"from sparkle.twice import Twice, Wrong{TESTS}"},
}
"""Files by pytest's import mode; of the second, workers cannot import the tests' own modules."""
PAGE = ROOT / "docs" / "test-a-plugin.md"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def outcome_of_pytest(folder: Path, *arguments: str) -> str:
    """The last line of a pytest of its own, which knows nothing of this one's settings and paths."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *arguments],
        cwd=folder, env={}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("mode", LAYOUTS)
def test_a_package_tests_its_plugin(tmp_path: Path, mode: str) -> None:
    write(tmp_path, {"sparkle/__init__.py": "", "sparkle/plugin.py": SPARKLE, **LAYOUTS[mode]})
    assert "3 passed" in outcome_of_pytest(tmp_path, f"--import-mode={mode}")


def test_the_files_of_the_page_about_it_are_a_project_that_passes(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    write(tmp_path, dict(blocks))
    tests = sum(text.count("\ndef test_") for _, text in blocks)
    assert f"{tests} passed" in outcome_of_pytest(tmp_path)
