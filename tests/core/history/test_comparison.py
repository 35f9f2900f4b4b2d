"""`run.py compare A B` says in what two runs differ, and from which step on, to the last digit."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from core.history.compare_report import compare_sections, write_comparison
from core.history.comparison import changed_settings, same_until, shared_metrics
from core.history.facts import Data, PluginFacts
from core.history.reading import read_run
from core.pages.terminal import print_report
from tests.core.history.written_runs import falling, made_round, write_run
from tests.core.reading_pages import Page, assert_stands_alone
from tests.small_runs import Run
from tests.warm import run_py

FALLING = ("train.schedule=linear", "train.decay_from=0.5")
FILE = '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'


def compared(one: Path, other: Path) -> str:
    file = StringIO()
    print_report(compare_sections(read_run(one), read_run(other)), file)
    return file.getvalue()


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Two runs that are alike but for what is given for the second."""

    def make(**changed: object) -> tuple[Path, Path]:
        known: dict[str, object] = {"session": {}, "curves": {"loss": falling(), "lr/unet": falling()}}
        one = write_run(tmp_path / "one", **known)  # type: ignore[arg-type]  # of each parameter's type
        return one, write_run(tmp_path / "two", **(known | changed))  # type: ignore[arg-type]  # as above

    return make


def test_alike_they_are_the_same_in_everything(pair: Callable[..., tuple[Path, Path]]) -> None:
    text = compared(*pair())
    assert text.count("The same.") == 3
    assert "The curves are the same to the last digit at every step that both have: 10 steps until 100." in text


def test_the_last_digit_counts(pair: Callable[..., tuple[Path, Path]]) -> None:
    curve = falling()
    curve[70] += 1e-16
    one, two = pair(curves={"loss": curve, "lr/unet": falling()})
    pairs = shared_metrics(read_run(one), read_run(two))
    assert same_until(pairs) == 60
    text = compared(one, two)
    assert "The curves are the same to the last digit until step 60, and differ after it." in text
    assert "The same at every step that both have: lr/unet." in text


def test_values_stand_at_the_same_steps_with_their_difference(pair: Callable[..., tuple[Path, Path]]) -> None:
    text = compared(*pair(curves={"loss": falling(60, by=20, start=3.0)}))
    lines = [line.split() for line in text.splitlines()]
    assert ["20", "0.3333", "1", "+0.6667"] in lines
    assert ["60", "0.1429", "0.4286", "+0.2857"] in lines
    row = next(line for line in lines if line[:1] == ["loss"])
    assert row == ["loss", "0.09091", "at", "100", "0.4286", "at", "60", "0.09091", "0.4286", "+0.2857", "60", "20"]
    assert "The curves differ from the first step on, of 3 steps that both have." in text


def test_settings_are_named_with_both_values_and_plugins_by_name(pair: Callable[..., tuple[Path, Path]]) -> None:
    config = '[run]\nname = "two"\nseed = 3\n[train]\nsteps = 100\nlearning_rate = 0.2\n[[plugins]]\nuse = "a.B"\ngamma = 2\n'
    one, two = pair(config=config)
    changes = {key: (old, new) for key, old, new in changed_settings(read_run(one), read_run(two))}
    assert changes == {
        "run.seed": (None, 3), "train.learning_rate": (0.1, 0.2), "plugins.B": (None, {"use": "a.B", "gamma": 2}),
    }  # fmt: skip
    lines = [line.split() for line in compared(one, two).splitlines()]
    assert ["train.learning_rate", "0.1", "0.2"] in lines
    assert ["run.seed", "-", "3"] in lines


def test_a_plugins_setting_is_named_alone(tmp_path: Path) -> None:
    plugin = '[[plugins]]\nuse = "plugins.ema.Ema"\nname = "{}"\ndecay = {}\n'
    one = write_run(tmp_path / "one", config=plugin.format("mean", 0.9) + plugin.format("other", 0.5))
    two = write_run(tmp_path / "two", config=plugin.format("other", 0.5) + plugin.format("mean", 0.99))
    assert changed_settings(read_run(one), read_run(two)) == [("plugins.mean.decay", 0.9, 0.99)]


def test_versions_and_data_are_compared(pair: Callable[..., tuple[Path, Path]]) -> None:
    session = {"versions": {"torch": "2.10"}, "plugins": (PluginFacts(name="Ema", use="plugins.ema.Ema", version=2),)}
    one, two = pair(session=session, data=Data(items=5, without_caption=0, buckets={"32x32": 5}))
    assert (
        (one / "record")
        .joinpath("data.json")
        .write_text(Data(items=6, without_caption=0, buckets={"32x32": 6}).model_dump_json())
    )
    lines = [line.split() for line in compared(one, two).splitlines()]
    assert ["torch", "2.9", "2.10"] in lines
    assert ["Ema", "-", "version", "2"] in lines
    assert ["buckets.32x32", "6", "5"] in lines


def test_runs_without_a_record_or_numbers_say_so(tmp_path: Path) -> None:
    text = compared(write_run(tmp_path / "one", curves={"loss": falling()}), write_run(tmp_path / "two"))
    assert "Not known of a run without a record." in text
    assert "two wrote no numbers; plugins.metrics_file.MetricsFile" in text
    text = compared(tmp_path / "one", write_run(tmp_path / "three", curves={"loss": {5: 1.0}}))
    assert "They have no step with a number in common." in text


def test_two_runs_of_one_name_are_called_by_their_folders(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / place / "run", session={}) for place in ("a", "b"))
    assert f"{one} and {two}" in compared(one, two)


def test_the_page_has_both_curves_and_previews_of_a_step_side_by_side(
    pair: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    one, two = pair(rounds=[made_round(step, "owl") for step in (0, 50, 75)], curves={"loss": falling(start=2.0)})
    for step in (50, 75):
        folder = one / "previews" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "round.json").write_text(made_round(step, "owl").model_dump_json())
    write_comparison(read_run(one), read_run(two), tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert_stands_alone(page)
    assert [own["aria-label"] for own in page.all("svg")] == ["loss"]
    assert len(page.all("path", "line")) == 2
    assert [text for text in page.text_of("div") if "step" in text] == [
        "one, step 50", "two, step 50", "one, step 75", "two, step 75"
    ]  # fmt: skip
    assert len(page.pictures) == 2  # the other has none on disk
    assert page.text_of("h2") == ["one and two", "Config", "Plugins and versions", "Data", "Curves", "Previews"]


def test_two_trainings_with_one_seed_have_the_same_curves_until_their_settings_part_them(
    train: Callable[..., Run],
) -> None:
    whole = train("train.steps=6", "log.every_steps=1", *FALLING, plugins=FILE).folder
    again = train("run.name=again", "train.steps=6", "log.every_steps=1", *FALLING, plugins=FILE).folder
    longer = train("run.name=longer", "train.steps=8", "log.every_steps=1", *FALLING, plugins=FILE).folder
    assert "at every step that both have: 6 steps until 6." in compared(whole, again)
    assert "to the last digit until step 4, and differ after it" in compared(whole, longer)


def test_the_command_prints_it_and_writes_the_page(pair: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    one, two = pair()
    words = ["compare", str(one), str(two)]
    done = run_py(*words)
    assert done.returncode == 0, done.stderr
    assert "one and two" in done.stdout
    assert run_py(*words, "--html", str(tmp_path / "x.html")).returncode == 0
    assert Page(tmp_path / "x.html").text_of("h1") == ["one and two"]
    missing = [*words, "--html", str(tmp_path / "nowhere" / "x.html")]
    done = run_py(*missing)
    assert done.returncode == 2
    assert "x.html: 1 problem" in done.stderr
