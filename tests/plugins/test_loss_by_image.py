"""LossByImage finds the pictures whose captions help the model least, and waits for nothing while it gathers."""

import csv
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from core.history.picture_losses import Tally, Typical, judge, mean_loss, robust_scores
from core.history.suspects import Shown, write_suspects
from events import Plugin, PluginSettings, on
from events.payloads import Batch, Item, LossFunction, StepEnd
from events.ranks import ALONE, Ranks
from events.testing import (
    GivenRanks,
    Harness,
    batch,
    checkpoint_start,
    data_ready,
    epoch_end,
    item,
    live_state,
    metrics_ready,
    run_end,
    run_info,
    step_end,
    step_parts,
)
from plugins.loss_by_image import PLACES, LossByImage, Tape
from tests.small_runs import STARTER, Run, assert_same_state

torch.set_num_threads(1)
LOSSES = '[[plugins]]\nuse = "plugins.loss_by_image.LossByImage"\n'
CPU = torch.device("cpu")
COLOURS = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (50, 70, 210), "yellow": (230, 200, 40)}
WRONG = {"red-1": "blue", "blue-1": "red", "green-2": "yellow", "yellow-2": "green"}


class Steps:
    """A stand-in for the trainer: steps whose losses and timesteps are given, and what is measured after them."""

    def __init__(self, ranks: Ranks = ALONE, *, lockstep: bool = False, **settings: Any) -> None:
        self.plugin = LossByImage(LossByImage.Settings.model_validate({"noise_from": 0.0, **settings}))
        self.harness = Harness(self.plugin, ranks=ranks)
        self.lockstep = lockstep
        self.given: list[float] = []
        plain: LossFunction = lambda *_: torch.tensor(self.given)  # noqa: E731  # typed
        self.loss = self.harness.compose("loss", plain, step_parts())
        self.measured: list[Batch] = []
        self.repeats: list[int] = []
        self.answers: list[list[float]] = []

    def take(
        self, losses: Sequence[float], t: Sequence[int], captions: Sequence[str], *, step: int = 1,
        stand_in: Sequence[float] = (),
    ) -> None:  # fmt: skip
        """One step of one batch, and of one that is another process's; with `answers`, the losses that are measured after it."""
        own = [made_batch(captions)] if captions else []
        if own:
            self._loss(losses, t, own[0])
        others = [made_batch(["x"] * len(stand_in))] if stand_in else []
        if others:
            self._loss(stand_in, [500] * len(stand_in), others[0])
        live = replace(
            live_state(
                measure=lambda each, repeat: self._loss(self._answer(each, repeat), [500] * len(each.keys), each)
            ),
            lockstep=self.lockstep,
        )
        event = replace(step_end(*own, step=step, live=live), stand_ins=tuple(others))
        self.harness.emit("step.end", event)

    def tallies(self) -> dict[str, Tally]:
        self.harness.emit("metrics.ready", metrics_ready())
        return {Path(name).stem: tally for name, tally in self.plugin._pictures.items()}

    def _loss(self, losses: Sequence[float], t: Sequence[int], made: Batch) -> Tensor:
        self.given = list(losses)
        nothing, losses_of = torch.zeros(len(t), 4, 1, 1), self.loss
        return losses_of(nothing, nothing, torch.tensor(t), made)

    def _answer(self, made: Batch, repeat: int) -> list[float]:
        self.measured.append(made)
        self.repeats.append(repeat)
        return self.answers.pop(0)


def made_batch(captions: Sequence[str]) -> Batch:
    count = len(captions)
    return batch(
        torch.zeros(count, 3, 8, 8), captions=tuple(captions), tokens={"text_encoder": torch.arange(count)[:, None]}
    )


@pytest.fixture
def mislabelled(tmp_path: Path) -> Path:
    """Six shades each of four colours, captioned by their colour, but for two pairs that are exchanged."""
    folder = tmp_path / "colours"
    folder.mkdir()
    for colour, (red, green, blue) in COLOURS.items():
        for shade in range(6):
            name, lighter = f"{colour}-{shade}", 6 * shade
            Image.new("RGB", (32, 32), (red + lighter, green + lighter, blue + lighter)).save(folder / f"{name}.png")
            (folder / f"{name}.txt").write_text(WRONG.get(name, colour))
    return folder


def told(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "loss_by_image.json").read_text())["pictures"]
    return rows


def test_it_finds_the_mislabelled_pictures_of_a_real_run(
    train: Callable[..., Run], mislabelled: Path, model_folder: Path, tmp_path: Path
) -> None:
    """With an encoder of pictures that has been trained, which keeps colours apart."""
    model = shutil.copytree(model_folder, tmp_path / "model")
    shutil.copytree(STARTER / "vae", model / "vae", dirs_exist_ok=True)
    settings = (f"model.path={model}", "cache.latents=true", "train.steps=60", "train.batch_size=24",
                "train.learning_rate=0.01", "checkpoint.every_steps=0")  # fmt: skip
    rows = told(train(f"data.root={mislabelled}", *settings, plugins=LOSSES).folder)
    assert len(rows) == 24
    assert len({Path(row["id"]).stem for row in rows[:5]} & WRONG.keys()) >= 3
    assert all(row["lost"] > 0.3 for row in rows[:3])
    assert sum(row["lost"] for row in rows[8:]) / 16 < 0.3


def test_a_comparison_is_lost_where_anothers_caption_has_the_lower_loss() -> None:
    steps = Steps()
    steps.answers = [[1.0, 1.0, 1.0], [0.5, 2.0, 1.0]]
    steps.take([1.0, 1.0, 1.0], [500] * 3, ["a", "b", "c"])
    assert {name: (tally.compared, tally.lost) for name, tally in steps.tallies().items()} == {
        "0": (1, 1), "1": (1, 0), "2": (1, 0),
    }  # fmt: skip


def test_captions_go_round_the_batch_and_everything_else_stays() -> None:
    steps = Steps()
    steps.answers = [[1.0] * 3] * 4
    steps.take([1.0] * 3, [500] * 3, ["a", "b", "c"], step=1)
    steps.take([1.0] * 3, [500] * 3, ["a", "b", "c"], step=2)
    own, first, _, second = (each.tokens["text_encoder"].flatten().tolist() for each in steps.measured)
    assert own == [0, 1, 2]
    assert {tuple(first), tuple(second)} == {(2, 0, 1), (1, 2, 0)}  # no picture keeps its own
    assert {each.sample_ids for each in steps.measured} == {steps.measured[0].sample_ids}


def test_both_captions_are_measured_at_the_same_noise_and_each_step_at_another() -> None:
    steps = Steps()
    steps.answers = [[1.0, 1.0]] * 4
    steps.take([1.0, 1.0], [500] * 2, ["a", "b"], step=1)
    steps.take([1.0, 1.0], [500] * 2, ["a", "b"], step=2)
    assert steps.repeats == [1, 1, 2, 2]


def test_a_dropped_caption_is_no_evidence_and_neither_is_one_that_two_pictures_share() -> None:
    steps = Steps()
    steps.answers = [[1.0] * 4, [0.5] * 4]
    steps.take([1.0] * 4, [500] * 4, ["", "b", "b", "d"], step=3)  # each is held against the one before
    found = steps.tallies()
    assert "0" not in found
    assert {name: tally.compared for name, tally in found.items()} == {"1": 1, "2": 0, "3": 1}


def test_timesteps_with_little_noise_do_not_count() -> None:
    steps = Steps(noise_from=0.6)
    steps.answers = [[1.0, 1.0], [0.5, 0.5]]
    steps.take([1.0, 1.0], [590, 610], ["a", "b"])
    assert set(steps.tallies()) == {"1"}


def test_losses_that_are_not_finite_do_not_count() -> None:
    steps = Steps(compare_every_steps=0)
    steps.take([math.nan, math.inf, 0.0, 1.0], [500] * 4, ["a", "b", "c", "d"])
    assert set(steps.tallies()) == {"3"}


@pytest.mark.parametrize(("every", "forwards"), [(0, 0), (1, 8), (2, 4)])
def test_captions_are_compared_as_often_as_it_is_set(every: int, forwards: int) -> None:
    steps = Steps(compare_every_steps=every)
    steps.answers = [[1.0, 1.0]] * 8
    for step in range(1, 5):
        steps.take([1.0, 1.0], [500] * 2, ["a", "b"], step=step)
    assert len(steps.measured) == forwards


def test_a_batch_of_one_has_no_other_caption() -> None:
    steps = Steps()
    steps.take([1.0], [500], ["a"])
    assert steps.measured == []


def test_what_a_picture_has_lost_is_held_against_the_others() -> None:
    pictures = {f"right-{number}": Tally(compared=40, lost=4 + number % 3) for number in range(20)}
    pictures["wrong"] = Tally(compared=40, lost=24)
    pictures["rare"] = Tally(compared=2, lost=1)
    verdicts = judge(pictures, 3.0)
    assert [one.id for one in verdicts if one.is_suspect] == ["wrong"]
    assert verdicts[0].id == "wrong"
    assert (verdicts[0].lost, verdicts[0].compared) == (0.6, 40)
    assert verdicts[0].lost_error == pytest.approx(math.sqrt(0.6 * 0.4 / 40))


def test_where_nothing_is_compared_the_losses_decide() -> None:
    pictures = {
        f"easy-{number}": Tally(draws=50, total=-5.0 + number % 5, squares=50.0) for number in range(20)
    } | {"hard": Tally(draws=50, total=60.0, squares=122.0), "seen once": Tally(draws=1, total=9.0, squares=81.0)}  # fmt: skip
    verdicts = judge(pictures, 3.0)
    assert [one.id for one in verdicts if one.is_suspect] == ["hard"]
    assert "seen once" not in {one.id for one in verdicts}
    assert verdicts[0].loss == pytest.approx(1.2)
    assert verdicts[0].loss_error == pytest.approx(math.sqrt((122 / 50 - 1.44) * 50 / 49 / 50))


def test_equal_pictures_have_no_suspect_and_no_picture_has_no_verdict() -> None:
    assert judge({str(number): Tally(compared=10, lost=1) for number in range(9)}, 3.0)[0].score == 0
    assert judge({}, 3.0) == []


def test_a_score_is_of_median_absolute_deviations_or_of_the_pictures_own_error() -> None:
    values = [float(number) for number in range(-5, 6)]
    assert robust_scores([(value, 0.1) for value in values])[-1] == pytest.approx(5 / (1.4826 * 3))
    assert robust_scores([(value, 10.0) for value in values])[-1] == pytest.approx(0.5)


def test_a_loss_is_held_against_those_before_it_at_about_its_timestep() -> None:
    typical = Typical(0.4)
    for number in range(60):
        typical.standardised(0.45, 1.0 + 0.1 * (-1) ** number)
        typical.standardised(0.95, 5.0 + 0.5 * (-1) ** number)
    assert typical.standardised(0.45, 1.3) == pytest.approx(3.0, abs=0.3)
    assert typical.standardised(0.95, 5.0) == pytest.approx(0.0, abs=0.1)
    assert typical.standardised(0.7, 1.0) is None  # the first of its stage
    assert typical.standardised(1.0, 5.0) is not None  # a flow's last timestep


def test_the_mean_follows_a_loss_that_falls() -> None:
    typical = Typical(0.0)
    found = [typical.standardised(0.5, 5.0 - 0.02 * step + 0.1 * (-1) ** step) for step in range(400)]
    assert all(abs(value) < 25 for value in found[100:] if value is not None)
    assert typical.standardised(0.5, 5.0) > 5  # type: ignore[operator]  # a number by now


def test_the_error_of_a_mean_is_that_of_its_samples() -> None:
    values = [0.5, 1.5, -0.5, 2.5]
    tally = Tally()
    for value in values:
        tally.add(value)
    assert mean_loss(tally) == pytest.approx((1.0, math.sqrt(sum((v - 1) ** 2 for v in values) / 3 / 4)))


def test_the_tape_gives_the_newest_in_order_round_and_round() -> None:
    tape = Tape(CPU, 1000)
    for first in range(0, 3 * PLACES, 1000):
        tape.write(torch.arange(first, first + 1000).float(), torch.full((1000,), 250))
    share, losses = tape.newest(1500)
    last = 1000 * math.ceil(3 * PLACES / 1000)
    assert torch.equal(losses, torch.arange(last - 1500, last).float())
    assert share.unique().tolist() == [0.25]


def test_a_step_that_was_taken_twice_is_read_as_it_was_the_second_time() -> None:
    """When memory runs out in its second round, the first has been written already."""
    tape = Tape(CPU, 1000)
    for losses in ([9.0, 9.0], [1.0, 2.0], [3.0, 4.0]):
        tape.write(torch.tensor(losses), torch.zeros(2))
    assert tape.newest(4)[1].tolist() == [1, 2, 3, 4]


def test_what_was_gone_through_in_anothers_stead_is_not_read_as_a_ranks_own() -> None:
    tape = Tape(CPU, 1000)
    for losses in ([1.0, 2.0], [8.0, 9.0]):
        tape.write(torch.tensor(losses), torch.zeros(2))
    assert tape.newest(2, behind=2)[1].tolist() == [1, 2]
    ranks = GivenRanks(1, 2, [[]])
    steps = Steps(ranks, compare_every_steps=0)
    steps.take([1.0, 2.0], [250] * 2, ["a", "b"], stand_in=[8.0, 9.0, 7.0])
    steps.harness.emit("checkpoint.start", checkpoint_start())
    ((first, second),) = ranks.told
    assert [row[2:] for row in (first, second)] == [[0.25, 1.0], [0.25, 2.0]]


def test_the_main_process_takes_in_what_all_have_drawn_in_the_order_of_one() -> None:
    """A step's losses come before its comparisons, and batches in the order in which they were dealt."""
    second = GivenRanks(1, 2, [[]])
    other = Steps(second)
    other.answers = [[4.0, 4.0], [5.0, 3.0]]
    other.take([3.0, 4.0], [500] * 2, ["c", "d"], step=1)
    other.harness.emit("checkpoint.start", checkpoint_start())
    steps = Steps(GivenRanks(0, 2, second.told))
    taken: list[Any] = []
    steps.plugin._take_in = lambda rows: taken.extend(rows)  # type: ignore[method-assign]  # the order is of interest
    steps.answers = [[1.0, 1.0], [2.0, 2.0]]
    steps.take([1.0, 2.0], [500] * 2, ["a", "b"], step=1)
    steps.harness.emit("checkpoint.start", checkpoint_start())
    assert [place for place, *_ in taken] == [[1, kind, number] for kind in (0, 1) for number in (0, 0, 1, 1)]
    assert [row[3] for row in taken] == [1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 4.0, 4.0]


def test_with_several_processes_a_report_takes_in_what_was_sent_at_the_one_before() -> None:
    """Which has arrived on each of them, so that nobody waits for a device."""
    ranks = GivenRanks(0, 2, [[]], [[]])
    steps = Steps(ranks, compare_every_steps=0)
    steps.take([1.0, 2.0], [500] * 2, ["a", "b"])
    steps.harness.emit("metrics.ready", metrics_ready())
    assert (ranks.told, steps.plugin._pictures) == ([[]], {})
    steps.harness.emit("metrics.ready", metrics_ready())
    assert [len(told) for told in ranks.told] == [0, 2]
    assert len(steps.plugin._pictures) == 2


@pytest.mark.parametrize(
    ("captions", "stand_in", "forwards"), [(["a"], [], 2), ([], [1.0, 1.0], 2), (["a", "b"], [1.0], 4)]
)
def test_where_a_forward_pass_is_an_exchange_each_process_makes_as_many(
    captions: list[str], stand_in: list[float], forwards: int
) -> None:
    steps = Steps(GivenRanks(1, 2, [[]]), lockstep=True)
    steps.answers = [[1.0] * len(each) for each in (captions, captions, stand_in, stand_in) if each]
    steps.take([1.0] * len(captions), [500] * len(captions), captions, stand_in=stand_in)
    assert len(steps.measured) == forwards


class Kept(Plugin):
    """The captions and loss of each step's samples, as the trainer reports them."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.count = 0

    @on("step.end")
    def note(self, event: StepEnd) -> None:
        self.count += sum(bool(caption) for each in event.batches for caption in each.captions)


def test_every_captioned_sample_of_a_real_run_is_counted(train: Callable[..., Run]) -> None:
    plugins = LOSSES + (
        'noise_from = 0.0\n[[plugins]]\nuse = "tests.plugins.test_loss_by_image.Kept"\n'
        '[[plugins]]\nuse = "plugins.captions.DropCaption"\nprobability = 0.3\n'
    )
    run = train("train.steps=40", "train.accumulate=2", "checkpoint.every_steps=0", plugins=plugins)
    assert run.bus is not None
    plugin: Any = run.bus.plugins["LossByImage"]
    kept: Any = run.bus.plugins["Kept"]
    counted = sum(count for count, _, _ in plugin._typical.means)
    assert counted == kept.count
    assert 0 < sum(tally.compared for tally in plugin._pictures.values()) <= kept.count


def test_resumed_it_ends_with_the_same_numbers_and_files(train: Callable[..., Run]) -> None:
    settings = ("checkpoint.every_steps=0", "log.every_steps=3", "train.batch_size=3")
    plugins = LOSSES + "noise_from = 0.0\n"
    whole = train("run.name=whole", "train.steps=9", *settings, plugins=plugins)
    train("train.steps=5", *settings, plugins=plugins)  # one step after the numbers of the others were read
    resumed = train("train.steps=9", *settings, plugins=plugins)
    assert_same_state(resumed, whole)
    assert told(resumed.folder) == told(whole.folder)


def test_it_changes_nothing_of_what_is_trained(train: Callable[..., Run]) -> None:
    """Neither its record in the closed step nor its comparisons, which draw by places of their own."""
    plain = train("run.name=plain", "train.steps=4")
    watched = train("run.name=watched", "train.steps=4", plugins=LOSSES)
    for name in ("weights.safetensors", "optimizer.safetensors"):
        before, after = plain.state()[name], watched.state()[name]
        assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())  # type: ignore[index,attr-defined]  # dicts


def items_in(folder: Path) -> tuple[Item, ...]:
    Image.new("RGB", (40, 20), (200, 30, 30)).save(folder / "0.png")
    (folder / "1.png").write_bytes(b"no picture")
    captions = ("a <b>red</b> bar", "broken")
    return tuple(
        item(id=f"pictures/{number}.png", path=folder / f"{number}.png", caption=caption)
        for number, caption in enumerate(captions)
    )


def test_the_report_lists_every_picture_and_shows_the_first(tmp_path: Path) -> None:
    steps = Steps(every_epochs=2)
    steps.harness.emit("data.ready", data_ready(items=items_in(tmp_path)))
    steps.answers = [[1.0, 1.0], [0.5, 2.0]] * 30
    for step in range(1, 31):
        steps.take([1.0, 1.0], [500] * 2, ["a", "b"], step=step)
    steps.harness.emit("metrics.ready", metrics_ready())
    run = run_info(tmp_path)
    steps.harness.emit("epoch.end", epoch_end(run=run, epoch=0))
    assert not (tmp_path / "loss_by_image.json").exists()
    steps.harness.emit("epoch.end", epoch_end(run=run, epoch=1))
    assert [row["lost"] for row in told(tmp_path)] == [1.0, 0.0]
    steps.harness.emit("run.end", run_end(run=run))
    with (tmp_path / "loss_by_image.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["caption"], row["compared"]) for row in rows] == [
        ("pictures/0.png", "a <b>red</b> bar", "30"), ("pictures/1.png", "broken", "30"),
    ]  # fmt: skip
    page = (tmp_path / "loss_by_image.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;red&lt;/b&gt; bar" in page
    assert "lost 100% of 30" in page
    assert "is damaged, or no picture" in page


def test_suspects_come_before_the_others_under_a_heading_of_their_own(tmp_path: Path) -> None:
    first, second = items_in(tmp_path)
    shown = [Shown(item=first, numbers="score 4.0", is_suspect=True), Shown(item=second, numbers="", is_suspect=False)]
    write_suspects(tmp_path / "page.html", "test", (("Pictures", "2"),), shown, transparent="white")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.index("Suspects") < page.index("score 4.0") < page.index("The next") < page.index("broken")
    write_suspects(tmp_path / "page.html", "test", (), shown[1:], transparent="white")
    assert "No picture stands out" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_page_shows_no_more_than_it_is_set_to(tmp_path: Path) -> None:
    steps = Steps(shown=1)
    steps.harness.emit("data.ready", data_ready(items=items_in(tmp_path)))
    steps.answers = [[1.0, 1.0], [0.5, 2.0]]
    steps.take([1.0, 1.0], [500] * 2, ["a", "b"])
    steps.harness.emit("run.end", run_end(run=run_info(tmp_path)))
    assert (tmp_path / "loss_by_image.html").read_text(encoding="utf-8").count("<figure>") == 1
    assert len(told(tmp_path)) == 2
