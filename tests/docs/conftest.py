"""A folder in which the plugins of a page can be written and imported."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import plugins
from plugins.loading import find_beside


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules are found as those beside a config; nothing of it stays imported."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "__path__", [*plugins.__path__])
    (tmp_path / "plugins").mkdir()
    find_beside(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
            delattr(plugins, name.rpartition(".")[2])
