"""The script for a card measures each form of the step and keeps one block a card between two markers of a page."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import (
    FORMS,
    Form,
    Verdict,
    block_of,
    main,
    measure,
    read_report,
    with_card,
    write_config,
)
from benchmarks.gpu_meter import Measured
from benchmarks.page import markers
from core.config.file import load_config
from plugins.loading import plugin_problems
from tests.small_runs import ROOT

BEGIN, END = markers("gpu")
PAGE = f"# Page\n\nBefore.\n\n{BEGIN}\n\nNone yet.\n\n{END}\n\nAfter.\n"
MEASURED = Measured(
    steps_per_second=50.04, images_per_second=200.2, step_ms=19.96, peak_bytes=3 << 29, first_seconds=1.26
)
REPORT = """<testsuites><testsuite>
<testcase classname="tests.core.step.test_step_on_cuda" name="test_one"/>
<testcase classname="tests.core.step.test_step_on_cuda" name="test_two"><failure message="no"/></testcase>
<testcase classname="tests.core.step.test_step_on_cuda" name="test_two"><error message="nor at its end"/></testcase>
<testcase classname="tests.plugins.test_ema" name="test_three[cpu]"><error message="no"/></testcase>
<testcase classname="tests.plugins.test_ema" name="test_four"><skipped/></testcase>
</testsuite></testsuites>"""


def block(card: str, figure: str = "50") -> str:
    return f"### {card}\n\n| step |\n|---|\n| {figure} |"


def test_without_cuda_it_says_so_in_a_line_and_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--write", "nowhere.md"]) == 2
    assert capsys.readouterr().out == "torch sees no CUDA device here, so there is nothing to test or measure\n"


def test_the_first_block_takes_the_place_of_what_says_that_there_is_none() -> None:
    assert with_card(PAGE, "A", block("A")) == f"# Page\n\nBefore.\n\n{BEGIN}\n\n{block('A')}\n\n{END}\n\nAfter.\n"


def test_another_card_gets_a_block_of_its_own_and_the_same_card_a_new_one() -> None:
    page = with_card(with_card(PAGE, "A", block("A")), "B", block("B"))
    assert page.index("### A") < page.index("### B")
    again = with_card(page, "A", block("A", "60"))
    assert again == page.replace("| 50 |", "| 60 |", 1)
    assert with_card(again, "A", block("A", "60")) == again


def test_a_card_whose_name_begins_like_anothers_is_another() -> None:
    page = with_card(with_card(PAGE, "A 80GB", block("A 80GB")), "A", block("A"))
    assert page.count("### A\n") == page.count("### A 80GB\n") == 1


@pytest.mark.parametrize("page", ["# Page\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", PAGE + PAGE])
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="needs a line <!-- gpu:begin -->"):
        with_card(page, "A", block("A"))


def test_the_page_on_performance_has_them() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "### A\n" in with_card(page, "A", block("A"))


def test_the_tests_that_failed_are_named_once_each() -> None:
    failed = (
        "tests.core.step.test_step_on_cuda::test_two",
        "tests.plugins.test_ema::test_three[cpu]",
        "tests.plugins.test_ema::test_four",
    )
    assert read_report(REPORT) == Verdict(passed=1, failed=failed)


def test_pytest_is_run_and_its_report_read() -> None:
    tested = gpu.run_tests("-m", "not gpu", "tests/core/step/test_sync_detector.py", "-k", "item or tolist")
    assert tested == Verdict(passed=2, failed=())


def test_a_block_has_the_card_its_tests_and_a_row_for_each_form() -> None:
    text = block_of(
        "A", "2026-11-28, driver 1", Verdict(passed=1, failed=("a::b",)), [("bf16", MEASURED), ("odd", "no | thing")]
    )
    assert text.startswith(
        "### A\n\n2026-11-28, driver 1.\n\nTests marked `gpu`: 1 passed, 1 failed.\n* failed: a::b\n"
    )
    assert "| bf16 | 50.0 | 200 | 20.0 | 1.50 GiB | 1.3 s |" in text
    assert text.endswith("| odd | no / thing |")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_settings_of_a_form_are_valid(form: Form, model_folder: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, model_folder)
    path.write_text(path.read_text() + form.plugins)
    assert load_config(path, list(form.settings), plugin_problems).train.batch_size in (4, 32)


def test_a_form_is_measured_in_a_run(model_folder: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, model_folder, pixels=32)
    config.write_text(config.read_text().replace("[data]", 'from_scratch = ["unet", "text_encoder"]\n[data]'))
    settings = ("train.precision=bf16", "data.workers=0")
    found = measure(config, Form(name="bf16", settings=settings), device="cpu", warm_up=2, steps=3)
    assert found.images_per_second == pytest.approx(4 * found.steps_per_second)
    assert found.step_ms > 0
    assert found.first_seconds > 0
    assert found.peak_bytes == 0


def test_a_form_that_cannot_be_measured_says_why(tmp_path: Path) -> None:
    config = write_config(tmp_path, tmp_path / "missing")
    said = gpu.try_to_measure(config, Form(name="bf16"))
    assert isinstance(said, str)
    assert said.startswith("ConfigError: ")


def test_all_of_it_ends_in_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a card that is made up."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    made_up: dict[str, Callable[..., object]] = {
        "run_tests": lambda: Verdict(passed=3, failed=()), "measure": lambda config, form: MEASURED,
        "write_medium": lambda folder: folder, "card": lambda: "Made Up 1", "facts": lambda: "today",
    }  # fmt: skip
    for name, function in made_up.items():
        monkeypatch.setattr(gpu, name, function)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert main(["--write", str(page)]) == 0
    text = page.read_text()
    assert text.count("| 50.0 | 200 |") == len(FORMS)
    assert "### Made Up 1" in capsys.readouterr().out
    assert text.startswith("# Page\n\nBefore.\n")
    assert text.endswith("After.\n")
