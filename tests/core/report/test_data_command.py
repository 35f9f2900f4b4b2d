"""`run.py data` reports without weights, writes pages and plans, and ends with 3 when the data cannot be used."""

import shutil
import sys
from collections.abc import Callable
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest

from core.pages.document import Bars, Facts, Gallery, Section, Table
from core.pages.terminal import print_report
from tests.core.reading_pages import Page, assert_stands_alone
from tests.core.surveying import plugin
from tests.warm import run_py

WriteConfig = Callable[..., Path]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`run.py data` on a small config in this process: (exit code, output, errors)."""
    import logging

    import run

    def execute(*arguments: str, plugins: str = "") -> tuple[int, str, str]:
        path = write_config(plugins)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["run.py", "data", str(path), *arguments])
        root = logging.getLogger()
        before = root.handlers[:], root.level
        try:
            code = run.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0
        finally:
            root.handlers[:], root.level = before
        told = capsys.readouterr()
        return code, told.out, told.err

    return execute


@pytest.fixture
def broken(picture_folder: Path, tmp_path: Path) -> Path:
    """Thirty pictures of which most are cut off."""
    folder = tmp_path / "broken"
    folder.mkdir()
    source = next(picture_folder.rglob("*.png")).read_bytes()
    for number in range(30):
        (folder / f"{number:02d}.png").write_bytes(source if number % 10 == 0 else source[:200])
    return folder


def test_a_report_is_printed_without_touching_the_runs(command: Command, tmp_path: Path) -> None:
    code, out, err = command(plugins=plugin("plugins.captions.DropCaption", probability=1.0))
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["Pictures", "10"] in lines
    assert ["sample.caption", "DropCaption", "DropCaption.drop", "30", "changed", "10", "of", "10", "captions"] in lines
    assert "\x1b" not in out
    assert not any(line.endswith(" ") for line in out.splitlines())
    assert not (tmp_path / "runs").exists()


def test_the_weights_are_not_needed(command: Command, model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "light"))
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    code, out, _ = command("--set", f"model.path={folder}")
    assert code == 0
    assert "At a glance" in out


def test_a_page_of_the_report_has_pictures_and_stands_alone(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("--html", "report.html")
    assert (code, out.strip()) == (0, "report.html")
    page = Page(tmp_path / "report.html")
    assert_stands_alone(page)
    assert "Pictures by size" in page.text_of("h2")
    assert len(page.pictures) == 8
    assert {picture.size for picture in page.pictures} == {(32, 32)}
    assert "prefers-color-scheme: dark" in page.source


def test_a_look_is_written_to_its_own_name(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("--look", "4")
    assert (code, out.strip()) == (0, "data-look.html")
    page = Page(tmp_path / "data-look.html")
    assert len(page.all("article")) == 4
    assert "4 samples of 10 pictures, as epoch 0 of test shows them" in page.text
    assert_stands_alone(page)


def test_a_look_at_another_epoch_differs_and_the_same_look_is_the_same(command: Command, tmp_path: Path) -> None:
    plugins = plugin("plugins.image_color.Gamma")
    sources = []
    for name, epoch in (("a.html", "0"), ("b.html", "0"), ("c.html", "1")):
        command("--look", "2", "--html", name, "--epoch", epoch, plugins=plugins)
        sources.append((tmp_path / name).read_text())
    assert sources[0] == sources[1] != sources[2]
    assert "Epoch 1, step" in sources[2]


def test_batch_plugins_are_named_above_a_look(command: Command, tmp_path: Path) -> None:
    command("--look", "1", plugins=plugin("HalfWeights"))
    assert "changed by HalfWeights (batch.host)" in Page(tmp_path / "data-look.html").text


def test_a_plan_is_written_with_its_length(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("--plan", "plan.csv", "--epochs", "2")
    assert (code, out.strip()) == (0, "plan.csv: 20 samples of 6 steps")
    assert len((tmp_path / "plan.csv").read_text().splitlines()) == 21


@pytest.mark.parametrize("arguments", [(), ("--html", "page.html")])
def test_unusable_data_end_with_3_and_every_problem(
    command: Command, broken: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    code, out, err = command("--set", f"data.root={broken}", *arguments)
    said = Page(tmp_path / "page.html").text if arguments else out
    assert code == 3
    assert "27 of 30 files" in err
    assert len(err.splitlines()) == 1
    assert [f"{number:02d}.png" in said for number in range(30)] == [number % 10 != 0 for number in range(30)]
    assert "27 files: " in said
    assert "and 7 more" not in said


def test_an_unusable_folder_is_told_with_its_reason(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, _ = command("--set", f"data.root={tmp_path / 'empty'}")
    assert code == 3
    assert f"{tmp_path / 'empty'}: holds no picture" in out


def test_a_picture_on_both_sides_is_named(command: Command, picture_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(picture_folder / "birds", tmp_path / "twins")
    code, out, _ = command("--set", f"validation.sets.twins={tmp_path / 'twins'}")
    assert code == 3
    assert "owl.png of validation set twins is trained on as pictures/birds/owl.png" in out


def test_a_plugin_that_fails_ends_with_6_after_the_report(command: Command) -> None:
    code, out, err = command(plugins=plugin("FailOnOwls"))
    assert code == 6
    assert "At a glance" in out
    assert "plugin FailOnOwls failed" in err
    assert "RuntimeError: an owl" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--plan", "plan.txt"), "plan.txt  ends in neither .jsonl nor .csv"),
        (("--epochs", "2"), "add --plan FILE"),
        (("--html", "nowhere/a.html"), "nowhere is no folder"),
    ],
)
def test_options_that_cannot_be_followed_end_with_2(command: Command, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_the_command_line_knows_it() -> None:
    done = run_py("data", "--help")
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in ("--html", "--look", "--plan", "--epochs", "--epoch"))


def test_the_terminal_gets_no_control_characters_and_no_markup_of_users() -> None:
    file = StringIO()
    table = Table(columns=("Name", "Count"), rows=(("\x1b[31m[bold]red\udce9\n", 1200), ("b", 3)))
    bars = Bars(title="Bars", rows=(("0", 0), ("1–2", 1000), ("3", 1)))
    blocks = (Facts(rows=(("A", "1"),)), table, bars, Gallery(title="Not here", pictures=()), "[red]a[/red]")
    print_report([Section(title="[b]T", blocks=blocks)], file)
    lines = file.getvalue().splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "", "[b]T", "A 1", "Name Count", "\\x1b[31m[bold]red\\udce9 ⏎ 1,200", "b 3", "Bars", "0 0", f"1–2 1,000 {'█' * 40}",
        "3 1 █", "[red]a[/red]",
    ]  # fmt: skip
    assert len({len(line) for line in lines[3:6]}) == 1


def test_a_terminal_without_such_signs_gets_others() -> None:
    bytes_written = BytesIO()
    file = TextIOWrapper(bytes_written, encoding="ascii")
    print_report([Section(title="T", blocks=(Bars(title="", rows=(("1–2", 3),)),))], file)
    file.flush()
    assert b"#" * 40 in bytes_written.getvalue()
    assert b"1\\u20132" in bytes_written.getvalue()


def test_a_wide_terminal_gets_colour_and_lines() -> None:
    file = StringIO()
    file.isatty = lambda: True  # type: ignore[method-assign]
    print_report([Section(title="T", blocks=(Table(columns=("A", "B"), rows=(("[b]a", 1),)),))], file)
    assert "─" in file.getvalue()
    assert "[b]a" in file.getvalue()
