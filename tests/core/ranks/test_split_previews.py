"""Previews are rendered by all ranks and kept by the main one: the same pictures as with one process, byte for byte."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from tests.core.ranks.launching import train_in_processes
from tests.core.ranks.plugins_for_split import NOTES, noted
from tests.small_runs import CONFIG, Run

HERE = '[[plugins]]\nuse = "tests.core.ranks.plugins_for_split.{}"\n'
RECALL = '[[plugins]]\nuse = "plugins.prompt_recall.PromptRecall"\ncount = 2\n'
SETTINGS = (
    "train.steps=2",
    "preview.at_start=true",
    "preview.at_end=true",
    "preview.batch_size=2",
    "export.at_end=true",
)
LINES = "red heart\nowl --n day\nfox --ss k_dpm_2_a\nlemon --w 64 --h 32\nduck --d 9\n"
"""In four batches: of two, of one, and of one each for another scheduler and another size."""
FILES = ("00-red-heart.png", "01-owl.png", "02-fox.png", "03-lemon.png", "04-duck.png")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, picture_folder: Path) -> Path:
    """A folder with the prompts and, in a folder for each number of processes, a config."""
    folder = tmp_path_factory.mktemp("previews")
    (folder / "prompts.txt").write_text(LINES)
    for name in ("1", "2", "failing"):
        place = folder / name
        place.mkdir()
        values = {"dir": place / "runs", "model": model_folder, "data": picture_folder, "cache": place / "cache"}
        config = CONFIG.format(**{key: json.dumps(str(value)) for key, value in values.items()})
        plugins = HERE.format("Witness") + (HERE.format("CannotRender") if name == "failing" else RECALL)
        (place / "config.toml").write_text(config + plugins)
    return folder


def train(room: Path, name: str, *overrides: str, count: int) -> Run:
    return train_in_processes(
        room / name / "config.toml", *SETTINGS, f"preview.prompts={room / 'prompts.txt'}", *overrides, count=count,
        environment={NOTES: str(room / name)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def one(room: Path) -> Run:
    return train(room, "1", "train.accumulate=2", count=1)


@pytest.fixture(scope="module")
def two(room: Path) -> Run:
    return train(room, "2", count=2)


def test_the_pictures_are_those_of_one_process_byte_for_byte(one: Run, two: Run) -> None:
    assert (one.exit_code, two.exit_code) == (0, 0), one.output + two.output
    for step in (0, 2):
        rounds = [run.folder / f"previews/step-{step:06d}" for run in (one, two)]
        assert sorted(path.name for path in rounds[1].iterdir()) == sorted((*FILES, "grid.png", "round.json"))
        for name in (*FILES, "grid.png", "round.json"):
            assert (rounds[0] / name).read_bytes() == (rounds[1] / name).read_bytes(), name
    start, end = (Image.open(two.folder / f"previews/step-{step:06d}" / FILES[0]) for step in (0, 2))
    assert ImageChops.difference(start, end).getbbox()


def test_every_rank_goes_through_the_same_round_and_main_alone_says_and_keeps(two: Run) -> None:
    main, other = noted(two.folder, 0), noted(two.folder, 1)
    assert main["preview.start"] == other["preview.start"] == [[0, "start"], [2, "end"]]
    said = [line.split(" --")[0].upper() for line in LINES.splitlines()]
    assert main["preview.end"] == other["preview.end"] == [[0, list(FILES), said], [2, list(FILES), said]]
    assert main["preview.image"] == [*FILES, *FILES]
    assert main["preview.prompts"] == [0, 2]
    assert not {"preview.image", "preview.prompts"} & set(other)


def test_each_rank_renders_its_batches(two: Run) -> None:
    logs = [(two.folder / name).read_text() for name in ("log.jsonl", "log-rank-1.jsonl")]
    for log in logs:
        assert log.count("2 of 4 batches of the previews are rendered here") == 2


def test_the_others_wait_while_a_handler_of_the_main_rank_renders_more(one: Run, two: Run) -> None:
    recall = [(run.folder / "prompt_recall.json").read_text() for run in (one, two)]
    assert recall[0] == recall[1]


def test_main_exports_and_every_rank_is_told_when_it_is_whole(one: Run, two: Run) -> None:
    for rank in range(2):
        assert noted(two.folder, rank)["export.end"] == [[True, True]]
    files = [sorted(path.name for path in (run.folder / "exports").rglob("*.safetensors")) for run in (one, two)]
    assert files[0] == files[1] != []


def test_a_round_that_one_rank_cannot_render_is_told_of_once_and_training_goes_on(room: Path) -> None:
    run = train(room, "failing", count=2)
    assert run.exit_code == 0, run.output
    for step in (0, 2):
        told = f"the preview at step {step} failed and training goes on: rank 1: RuntimeError: no picture today"
        assert run.output.count(told) == 1, run.output
        assert not list((run.folder / f"previews/step-{step:06d}").glob("*.png"))
    assert "Traceback" not in run.output
    assert "in look" in (run.folder / "log-rank-1.jsonl").read_text()
    for rank in range(2):
        told_of = noted(run.folder, rank)
        assert [[step, paths] for step, paths, _ in told_of["preview.end"]] == [[0, []], [2, []]]
        assert told_of["who was at preview.end"] == [[0, 1]] * 2
