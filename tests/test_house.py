"""The house keeps its rules: nothing happens on import, rooms import only whom they may, functions stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_runs import ROOT

PACKAGES = ("core", "events", "plugins")
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "numpy", "PIL")


def sources() -> list[Path]:
    return [ROOT / "run.py", *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_importing_events_and_plugins_loads_no_heavy_library_and_starts_no_thread() -> None:
    names = [module_name(path) for path in sources() if path.relative_to(ROOT).parts[0] != "core"]
    code = (
        f"import importlib, sys, threading\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] 1"


def test_importing_the_trainer_writes_nothing_and_starts_no_thread(tmp_path: Path) -> None:
    names = [module_name(path) for path in sources()]
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport importlib, threading\n"
        f"for name in {names!r}:\n    importlib.import_module(name)\nprint(threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_a_file_says_what_it_is_and_no_function_is_long(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the first line of a file explains it"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


def test_no_state_of_ours_is_pickled_or_read_by_torch_load() -> None:
    """But for `run.py convert`, which reads tensors alone, once and on request."""
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if path == ROOT / "core" / "weights" / "conversion.py":
            call = 'torch.load(source, map_location="cpu", weights_only=True)'
            assert text.count(call) == 1, f"{path}: {call}"
            text = text.replace(call, "")
        for word in ("import pickle", "torch.load(", "torch.save(", "cloudpickle"):
            assert word not in text, f"{path}: {word}"


def test_the_loop_fits_one_screen() -> None:
    tree = ast.parse((ROOT / "core" / "run" / "trainer.py").read_text(encoding="utf-8"))
    train = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "train")
    assert (train.end_lineno or 0) - train.lineno < 30


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their names alone, so that one would keep the other from being collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
