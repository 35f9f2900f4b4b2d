"""PromptRecall says how often a rendered caption looks most like the training picture that has it."""

import json
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from events.payloads import Item, Prompt
from events.ranks import ALONE, Ranks
from events.testing import GivenRanks, Harness, item, preview_end, prompt, run_info, run_start
from plugins.ema import Ema
from plugins.prompt_recall import PromptRecall

torch.set_num_threads(1)
COLOURS = {"red": (200, 30, 30), "lime": (30, 200, 30), "blue": (30, 30, 200), "grey": (120, 120, 120)}
LIKE = replace(prompt("red", steps=25, guidance=3.0), scheduler="EulerDiscreteScheduler")
"""The first of the previews."""


@dataclass
class PaintBox:
    """A sampler that paints each prompt in a colour of its own: the one it is told, or the prompt's."""

    instead: dict[str, str] = field(default_factory=dict)
    asked: list[Prompt] = field(default_factory=list)
    lockstep: bool = False

    def render(self, prompts: tuple[Prompt, ...]) -> list[Image.Image]:
        self.asked += prompts
        return [
            Image.new("RGB", (one.width, one.height), COLOURS[self.instead.get(one.text, one.text)]) for one in prompts
        ]

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Means of squares of 8 pixels."""
        return torch.nn.functional.avg_pool2d(pixels, 8)


@pytest.fixture
def items(tmp_path: Path) -> tuple[Item, ...]:
    """A training picture of each colour, larger than the previews."""
    return tuple(painted(tmp_path, name, COLOURS[name]) for name in COLOURS)


def painted(
    folder: Path, name: str, colour: tuple[int, ...], caption: str = "", size: tuple[int, int] = (64, 64)
) -> Item:
    path = folder / f"{name}.png"
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(path)
    return item(id=f"pictures/{name}.png", path=path, caption=caption or name, width=size[0], height=size[1])


def measure(
    folder: Path,
    items: tuple[Item, ...],
    sampler: PaintBox,
    *,
    reason: str = "end",
    config: Any = None,
    ranks: Ranks = ALONE,
    **settings: Any,
) -> dict[str, Any] | None:
    """The result file after a preview round, if there is one."""
    run = run_info(folder)
    harness = Harness(PromptRecall(PromptRecall.Settings(**settings)), ranks=ranks)
    harness.emit("run.start", run_start(run=run, config=config or {}))
    harness.emit(
        "preview.end",
        preview_end(
            run=run, step=1000, reason=reason, prompts=(LIKE, replace(LIKE, guidance=7.0)),
            paths=(folder / "00-red.png",), items=items, sampler=sampler,
        ),
    )  # fmt: skip
    path = folder / "prompt_recall.json"
    return json.loads(path.read_text()) if path.exists() else None


def test_a_run_that_has_learnt_every_caption_has_100_per_cent(tmp_path: Path, items: tuple[Item, ...]) -> None:
    assert measure(tmp_path, items, PaintBox()) == {
        "step": 1000, "per_cent": 100.0, "chance_per_cent": 25.0, "count": 4, "pictures": 4, "misses": [],
    }  # fmt: skip


def test_a_miss_is_listed_with_what_it_looks_like(tmp_path: Path, items: tuple[Item, ...]) -> None:
    result = measure(tmp_path, items, PaintBox(instead={"red": "blue"}))
    assert result is not None
    assert result["per_cent"] == 75
    assert result["misses"] == [{"prompt": "red", "nearest": "blue"}]


def test_a_run_that_renders_one_picture_for_every_caption_is_at_chance(tmp_path: Path, items: tuple[Item, ...]) -> None:
    result = measure(tmp_path, items, PaintBox(instead=dict.fromkeys(COLOURS, "grey")))
    assert result is not None
    assert result["per_cent"] == result["chance_per_cent"]


def test_a_picture_with_the_same_caption_counts_as_right_and_in_the_chance(tmp_path: Path) -> None:
    pair = (painted(tmp_path, "one", COLOURS["red"], "red"), painted(tmp_path, "two", COLOURS["lime"], "red"))
    others = (painted(tmp_path, "three", COLOURS["blue"], "blue"), painted(tmp_path, "four", COLOURS["grey"], "grey"))
    result = measure(tmp_path, (*pair, *others), PaintBox(instead={"red": "lime"}))
    assert result is not None
    assert result["per_cent"] == 100
    assert result["chance_per_cent"] == round(100 * (2 + 2 + 1 + 1) / 16, 2)


def test_it_renders_each_caption_once_as_the_first_preview_is(tmp_path: Path, items: tuple[Item, ...]) -> None:
    sampler = PaintBox()
    measure(tmp_path, items, sampler)
    assert [one.text for one in sampler.asked] == list(COLOURS)
    assert {replace(one, text="red", seed=0) for one in sampler.asked} == {LIKE}
    assert [one.seed for one in sampler.asked] == [0, 1, 2, 3]


def test_steps_guidance_and_seed_can_be_set(tmp_path: Path, items: tuple[Item, ...]) -> None:
    sampler = PaintBox()
    measure(tmp_path, items, sampler, steps=50, guidance=0.0, seed=7)
    first = sampler.asked[0]
    assert (first.steps, first.guidance, first.seed) == (50, 0.0, 7)


def test_a_count_spreads_over_the_captions_and_compares_with_every_picture(
    tmp_path: Path, items: tuple[Item, ...]
) -> None:
    sampler = PaintBox()
    result = measure(tmp_path, items, sampler, count=2)
    assert [one.text for one in sampler.asked] == ["red", "blue"]
    assert result is not None
    assert (result["count"], result["pictures"], result["chance_per_cent"]) == (2, 4, 25)


def test_several_processes_render_a_share_of_the_captions_each_and_the_main_one_tells(
    tmp_path: Path, items: tuple[Item, ...]
) -> None:
    instead = {"blue": "grey"}
    alone = measure(tmp_path, items, PaintBox(instead))
    (tmp_path / "prompt_recall.json").unlink()
    first, second = PaintBox(instead), PaintBox(instead)
    ranks = GivenRanks(1, 2, [[0, 3]])
    assert measure(tmp_path, items, second, ranks=ranks) is None
    assert measure(tmp_path, items, first, ranks=GivenRanks(0, 2, ranks.told)) == alone
    assert [[(one.text, one.seed) for one in box.asked] for box in (first, second)] == [
        [("red", 0), ("blue", 2)], [("lime", 1), ("grey", 3)],
    ]  # fmt: skip


def test_a_process_that_is_left_without_a_caption_renders_nothing(tmp_path: Path, items: tuple[Item, ...]) -> None:
    box, ranks = PaintBox(), GivenRanks(2, 3, [[0], [2]])
    measure(tmp_path, items, box, ranks=ranks, count=2)
    assert (box.asked, ranks.told) == ([], [[]])


def test_where_rendering_is_an_exchange_each_process_renders_every_caption(
    tmp_path: Path, items: tuple[Item, ...]
) -> None:
    boxes = [PaintBox(lockstep=True), PaintBox(lockstep=True)]
    measure(tmp_path, items, boxes[1], ranks=GivenRanks(1, 2, [[0, 1, 2, 3]]))
    result = measure(tmp_path, items, boxes[0], ranks=GivenRanks(0, 2, [[3, 3, 3, 3]]))
    assert result is not None
    assert result["per_cent"] == 100
    assert boxes[0].asked == boxes[1].asked
    assert len(boxes[0].asked) == 4


@pytest.mark.parametrize(("reason", "rendered"), [("start", 2), ("end", 3)])
def test_the_start_may_be_measured_with_fewer(
    tmp_path: Path, items: tuple[Item, ...], reason: str, rendered: int
) -> None:
    box = PaintBox()
    measure(tmp_path, items, box, reason=reason, count=3, count_at_start=2)
    assert len(box.asked) == rendered


def test_pictures_of_another_shape_are_left_out(tmp_path: Path, items: tuple[Item, ...]) -> None:
    wide = painted(tmp_path, "wide", COLOURS["red"], size=(128, 64))
    result = measure(tmp_path, (*items, wide), PaintBox())
    assert result is not None
    assert result["pictures"] == 4


def test_without_a_picture_of_the_shape_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wide = painted(tmp_path, "wide", COLOURS["red"], size=(128, 64))
    with caplog.at_level(logging.INFO, "signalbox"):
        assert measure(tmp_path, (wide,), PaintBox()) is None
    assert "no training picture has the previews' shape" in caplog.text


def test_transparent_pictures_are_seen_over_the_colour_they_are_trained_on(tmp_path: Path) -> None:
    clear = painted(tmp_path, "red", (255, 255, 255, 0))
    other = painted(tmp_path, "grey", COLOURS["grey"])
    result = measure(tmp_path, (clear, other), PaintBox(), config={"data": {"transparent": "#c81e1e"}})
    assert result is not None
    assert result["misses"] == []


@pytest.mark.parametrize(("reason", "is_measured"), [("start", True), ("end", True), ("every", False)])
def test_it_measures_at_the_start_and_the_end(
    tmp_path: Path, items: tuple[Item, ...], reason: str, is_measured: bool
) -> None:
    assert (measure(tmp_path, items, PaintBox(), reason=reason) is not None) is is_measured


def test_it_measures_when_it_is_set_to(tmp_path: Path, items: tuple[Item, ...]) -> None:
    assert measure(tmp_path, items, PaintBox(), reason="every", when=("every",)) is not None


def test_the_result_is_logged(tmp_path: Path, items: tuple[Item, ...], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "signalbox.plugins.prompt_recall"):
        measure(tmp_path, items, PaintBox(instead={"red": "blue"}))
    assert "prompt recall at step 1000: 75.0 % of 4 captions" in caplog.text
    assert "chance 25.0 %" in caplog.text


def test_a_preview_round_that_failed_is_passed_over(tmp_path: Path, items: tuple[Item, ...]) -> None:
    failed = preview_end(run=run_info(tmp_path), reason="end", paths=(), items=items, sampler=PaintBox())
    Harness(PromptRecall()).emit("preview.end", failed)
    assert not (tmp_path / "prompt_recall.json").exists()


def test_it_renders_with_the_weights_of_the_previews_wherever_ema_stands_in_the_config() -> None:
    for plugins in ((Ema(), PromptRecall()), (PromptRecall(), Ema())):
        signals = {signal.name: signal for signal in Harness(*plugins).bus.signals}
        assert [handler.plugin for handler in signals["preview.end"].handlers] == [
            "PromptRecall",
            "PromptRecall",
            "Ema",
        ]
