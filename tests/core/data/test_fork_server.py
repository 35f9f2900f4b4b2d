"""Workers come from a process that has imported what they need, and that is begun before training's own libraries."""

import importlib
import multiprocessing
import os
import subprocess
import sys
from typing import Any

import pytest

from core.config.tables import DataTable
from core.data.fork_server import NEEDED, context_of
from tests.small_runs import ROOT

BEGIN = """
import sys
from multiprocessing import forkserver
from pathlib import Path
from core.config.tables import DataTable
from core.data.fork_server import begin
begin(DataTable(root=Path("."), workers={workers}, start_method="{method}"))
print(forkserver._forkserver._forkserver_pid is not None, "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("workers", "method", "is_begun"), [(2, "forkserver", True), (0, "forkserver", False), (2, "spawn", False)]
)
def test_it_is_begun_where_workers_come_from_it_and_before_torch_is_imported(
    workers: int, method: str, is_begun: bool
) -> None:
    code = BEGIN.format(workers=workers, method=method)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(is_begun), "False"]


@pytest.mark.parametrize("name", NEEDED)
def test_every_module_it_imports_exists(name: str) -> None:
    """One that does not would be passed over in silence, and workers would start slowly again."""
    assert importlib.import_module(name)


def loaded(pipe: Any) -> None:
    pipe.send([name for name in NEEDED if name in sys.modules])


def test_its_workers_have_them_from_the_first_moment() -> None:
    context = context_of(DataTable(root=ROOT, workers=1))
    assert isinstance(context, type(multiprocessing.get_context("forkserver")))
    ours, theirs = context.Pipe()
    process = context.Process(target=loaded, args=(theirs,))
    process.start()
    assert ours.recv() == list(NEEDED)
    process.join()
    assert process.pid != os.getpid()
