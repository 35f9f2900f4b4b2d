"""diffusers and transformers print nothing of their own: what matters is checked, and their errors join our log."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.families import quiet_libraries
from tests.small_runs import Run

ROOT = Path(__file__).parent.parent.parent


class Collected(logging.Handler):
    """What reaches the root logger; pytest's own fixture also listens where nothing is passed on."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.mark.parametrize("library", ["transformers", "diffusers"])
def test_errors_of_the_libraries_join_our_log_and_their_chatter_does_not(library: str) -> None:
    logging.getLogger(library).propagate = False
    quiet_libraries()
    collected = Collected()
    logging.getLogger().addHandler(collected)
    try:
        logging.getLogger(f"{library}.somewhere").error("this failed")
        logging.getLogger(f"{library}.somewhere").warning("this is chatter")
    finally:
        logging.getLogger().removeHandler(collected)
    assert collected.messages == ["this failed"]


def test_the_environment_has_the_last_word_on_the_libraries_level(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.utils import logging as diffusers_logging

    monkeypatch.setenv("DIFFUSERS_VERBOSITY", "info")
    diffusers_logging.set_verbosity_info()
    quiet_libraries()
    assert diffusers_logging.get_verbosity() == logging.INFO
    monkeypatch.delenv("DIFFUSERS_VERBOSITY")
    quiet_libraries()
    assert diffusers_logging.get_verbosity() == logging.ERROR


def test_nothing_is_printed_while_loading_and_rendering(folder: Path, single_file: Path) -> None:
    """In a fresh process, where no library has been told to be quiet yet."""
    code = f"""
from pathlib import Path
from core.config.tables import ModelTable
from core.families import load_family
from events.payloads import Prompt
load_family(ModelTable(path=Path({str(folder)!r})), seed=0)
family = load_family(ModelTable(path=Path({str(single_file)!r}), base_config=Path({str(folder)!r})), seed=0)
family.render((Prompt(text="a", negative="", seed=0, width=64, height=64, steps=1, guidance=1.0),))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_run_tells_deepspeed_of_its_device(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate imports it where it is installed, and by itself it prints what it has found."""
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    train("train.steps=1")
    assert os.environ["DS_ACCELERATOR"] == "cpu"
