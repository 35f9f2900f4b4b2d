"""A caching pass is split over ranks and goes on where it was; no exchange waits for it; all act on what one finds out."""

import json
import shutil
from pathlib import Path

import pytest

from tests.core.ranks.launching import train_in_processes
from tests.core.ranks.plugins_for_split import NOTES, entries, noted
from tests.small_runs import CONFIG, Run

HERE = '[[plugins]]\nuse = "tests.core.ranks.plugins_for_split.{}"\n'
SETTINGS = ('model.train=["unet"]', 'model.from_scratch=["unet", "text_encoder"]', "cache.latents=true", "train.steps=1",
            "data.check=headers", "data.max_bad_fraction=0.2")  # fmt: skip
WATCHED = 8
"""Pictures that every rank makes before the pass, to see what plugins do."""
IN_THE_PASS = f"at = {WATCHED + 1}\n"
PICTURES = 10


class Room:
    """A folder with a config, a cache and notes."""

    def __init__(self, folder: Path, model: Path, data: Path, plugins: str) -> None:
        self.folder, self.cache = folder, folder / "cache"
        values = {"dir": folder / "runs", "model": model, "data": data, "cache": self.cache}
        config = CONFIG.format(**{key: json.dumps(str(value)) for key, value in values.items()})
        (folder / "config.toml").write_text(config + HERE.format("Witness") + plugins)

    def train(self, *overrides: str, count: int, **environment: str) -> Run:
        return train_in_processes(
            self.folder / "config.toml", *SETTINGS, *overrides, count=count,
            environment={NOTES: str(self.folder)} | environment,
        )  # fmt: skip

    def made(self, rank: int, count: int) -> list[str]:
        """The pictures that a rank has made, without the one that is broken."""
        return (self.folder / f"pictures-{rank}-of-{count}").read_text().split()


@pytest.fixture
def room(tmp_path: Path, model_folder: Path, picture_folder: Path) -> Room:
    """With a plugin that the test writes into the config."""
    return Room(tmp_path, model_folder, picture_folder, "")


class Both:
    """One run by one process and one by two, each with a cache of its own. One of their pictures is broken in the middle."""

    def __init__(self, folder: Path, model: Path, pictures: Path) -> None:
        shutil.copytree(pictures, folder / "data")
        broken = folder / "data" / "birds" / "owl.png"
        broken.write_bytes(broken.read_bytes()[:-200])
        plugins = HERE.format("Sleeps") + f"at = {WATCHED}\n"  # the eighth that is made, since one is broken
        self.rooms = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            self.rooms.append(Room(folder / name, model, folder / "data", plugins))
        self.one = self.rooms[0].train("cache.text=true", count=1)
        self.two = self.rooms[1].train(
            "cache.text=true", "distributed.timeout_seconds=5", count=2, SLEEP_SECONDS="11"
        )  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, picture_folder: Path) -> Both:
    return Both(tmp_path_factory.mktemp("caching"), model_folder, picture_folder)


def test_no_exchange_waits_for_a_pass_that_takes_one_rank_longer_than_any_exchange_may(both: Both) -> None:
    assert (both.one.exit_code, both.two.exit_code) == (0, 0), both.one.output + both.two.output


def test_the_entries_are_those_of_one_process_to_the_last_bit(both: Both) -> None:
    for product in ("latents", "text"):
        one, two = (entries(room.cache, product) for room in both.rooms)
        assert len(one) == PICTURES
        assert one == two


def test_each_rank_makes_what_falls_to_it(both: Both) -> None:
    watched, one = WATCHED - 1, both.rooms[0].made(0, 1)
    first, second = (both.rooms[1].made(rank, 2) for rank in range(2))
    assert first[:watched] == second[:watched] == one[:watched]
    assert first[watched:]
    assert second[watched:]
    assert sorted(first[watched:] + second[watched:]) == sorted(one[watched:])


def test_numbers_are_those_of_all_ranks_and_are_told_once(both: Both) -> None:
    for rank in range(2):
        told = noted(both.two.folder, rank)
        assert told["cache.start"] == [["latents", 0, 10, 0], ["text", 0, 10, 0]]
        assert told["cache.end"] == [["latents", 0, 9, 1], ["text", 0, 10, 0]]
    for line in (
        "latents: 0 reused, 10 to encode, 0 orphaned",
        "latents: 0 reused, 9 encoded",
        "text: 0 reused, 10 encoded",
    ):
        assert both.two.output.count(line) == 1, both.two.output
    assert both.two.output.count("set aside: ") == 1, both.two.output
    assert "owl.png" in both.two.output


def test_a_pass_goes_on_where_a_rank_was_killed_also_with_another_number_of_ranks(room: Room) -> None:
    config = room.folder / "config.toml"
    config.write_text(config.read_text() + HERE.format("Dies") + IN_THE_PASS)
    killed = room.train(count=2)
    assert killed.exit_code == 8, killed.output
    assert killed.output.count("rank 1 was killed by SIGKILL") == 1, killed.output
    held = len(entries(room.cache, "latents"))
    assert 0 < held < PICTURES
    on = room.train(count=3)
    assert on.exit_code == 0, on.output
    assert f"latents: {held} reused, {PICTURES - held} to encode, 0 orphaned" in on.output
    assert f"latents: {held} reused, {PICTURES - held} encoded" in on.output
    assert len(entries(room.cache, "latents")) == PICTURES


def test_a_stop_that_one_rank_is_asked_for_ends_the_pass_of_all(room: Room) -> None:
    config = room.folder / "config.toml"
    config.write_text(config.read_text() + HERE.format("IsStopped") + IN_THE_PASS)
    run = room.train(count=2)
    assert run.exit_code == 143, run.output
    assert [told[0] for told in noted(run.folder, 0)["cache.end"]] == ["latents"]
    assert 0 < len(entries(room.cache, "latents")) < PICTURES


def test_what_one_rank_finds_out_all_act_on_and_a_damaged_cache_is_set_aside_once(room: Room) -> None:
    config = room.folder / "config.toml"
    config.write_text(config.read_text() + HERE.format("ReadsOne"))
    room.cache.mkdir()
    (room.cache / "latents.sqlite").write_bytes(b"no database" * 1000)
    run = room.train(count=2)
    assert run.exit_code == 0, run.output
    assert run.output.count("latents.sqlite is damaged; it was moved to latents.sqlite.corrupt") == 1, run.output
    for rank in range(2):
        assert noted(run.folder, rank)["cache.end"][-1] == ["latents", 0, PICTURES, 0]
    again = room.train("run.name=again", count=1)
    assert f"latents: {PICTURES} reused, 0 to encode" in again.output
