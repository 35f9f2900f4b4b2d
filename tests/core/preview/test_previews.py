"""Previews look and do not touch: the same prompts give the same pictures, and training has the same bits without them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops
from torch import nn

from core.checks import check
from core.errors import ConfigError
from core.preview.previews import LiveSampler, evaluating, rows_of
from events.payloads import Prompt
from events.testing import prompt
from tests.small_runs import Run, assert_same_state

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # of schedulers that use numpy 1's ways
EMA = '\n[[plugins]]\nuse = "plugins.ema.Ema"\ndecay = 0.5\n'
LINES = (
    "red heart --n blue, round --l 1,3,7.5 --ss euler_a\nowl --n day --d 5 --s 3 --l 4\nfox --ss k_dpm_2_a\n"
    "lemon --w 64 --h 32 --ss DDPMScheduler\n"
)
"""Of every kind: several scales, what to lead away from, a size, and schedulers that draw noise as they go."""


def written(folder: Path, text: str, *, name: str = "prompts.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def plugin(name: str, **settings: object) -> str:
    lines = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
    return f'\n[[plugins]]\nuse = "tests.core.plugins_for_previews.{name}"\n{lines}'


def pictures(run: Run, step: int) -> dict[str, bytes]:
    """The pictures of a round by name, without the grid."""
    folder = run.folder / f"previews/step-{step:06d}"
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.suffix == ".png" and path.name != "grid.png"
    }


@pytest.fixture
def preview(train: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """A short run with a round of previews of these lines at its end: `preview("owl", "preview.steps=1")`."""

    def execute(text: str, *overrides: str, name: str = "test", plugins: str = "") -> Run:
        path = written(tmp_path, text)
        return train(
            f"run.name={name}", "train.steps=1", "preview.at_end=true", f"preview.prompts={path}", *overrides,
            plugins=plugins,
        )  # fmt: skip

    return execute


# training is not touched


def test_a_run_has_the_same_bits_with_previews_and_without(train: Callable[..., Run], tmp_path: Path) -> None:
    without = train("run.name=without", plugins=EMA)
    with_them = train(
        "run.name=with", "preview.every_steps=2", "preview.at_start=true", "preview.at_end=true",
        f"preview.prompts={written(tmp_path, LINES)}", plugins=EMA,
    )  # fmt: skip
    assert [len(pictures(with_them, step)) for step in (0, 2, 4, 6, 7)] == [6] * 5
    assert_same_state(with_them, without)


def test_previews_show_the_average_and_training_goes_on_with_the_weights(train: Callable[..., Run]) -> None:
    raw = train("run.name=raw", "train.steps=3", "train.learning_rate=0.05", "preview.at_end=true")
    mean = train("run.name=mean", "train.steps=3", "train.learning_rate=0.05", "preview.at_end=true", plugins=EMA)
    assert not set(pictures(raw, 3).values()) & set(pictures(mean, 3).values())
    left, right = raw.state()["weights.safetensors"], mean.state()["weights.safetensors"]
    assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())  # type: ignore[attr-defined,index]


def test_every_module_has_its_own_mode_again_after_a_failure_too() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    module[1].eval()

    def fail_within() -> None:
        with evaluating([module]):
            assert not any(part.training for part in module.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert [part.training for part in module.modules()] == [True, True, False, False]


# the same prompts, the same pictures


def test_the_same_prompts_give_the_same_bytes_in_a_fresh_run(preview: Callable[..., Run]) -> None:
    one, two = preview(LINES, name="one"), preview(LINES, name="two")
    assert pictures(one, 1) == pictures(two, 1)


def test_pictures_do_not_depend_on_the_prompts_beside_them(preview: Callable[..., Run]) -> None:
    together, alone = preview(LINES, name="together"), preview(LINES, "preview.batch_size=1", name="alone")
    for name, data in pictures(together, 1).items():
        left, right = (Image.open(BytesIO(one)) for one in (data, pictures(alone, 1)[name]))
        extremes = ImageChops.difference(left, right).getextrema()
        assert max(high for _, high in extremes) <= 1  # the batch may be computed in another order


@pytest.mark.parametrize("options", ["--l 9", "--n red", "--ss ddpm", "--d 1", "--s 4"])
def test_what_a_prompt_says_is_seen_in_its_picture(preview: Callable[..., Run], options: str) -> None:
    run = preview(f"red heart --d 0\nred heart {options if '--d' in options else f'--d 0 {options}'}\n")
    first, second = pictures(run, 1).values()
    assert first != second


def test_a_picture_has_the_size_that_its_prompt_says(preview: Callable[..., Run]) -> None:
    run = preview("owl\nfox --w 64\nlemon --h 64\n")
    sizes = [Image.open(BytesIO(data)).size for data in pictures(run, 1).values()]
    assert sizes == [(32, 32), (64, 32), (32, 64)]


# rounds and their grids


def test_each_round_keeps_every_picture_and_a_grid(train: Callable[..., Run], tmp_path: Path) -> None:
    path = written(tmp_path, "red heart\nowl\nowl\n\n--d 3\n")
    run = train("train.steps=2", "preview.at_start=true", "preview.at_end=true", f"preview.prompts={path}")
    for step in (0, 2):
        names = sorted(entry.name for entry in (run.folder / f"previews/step-{step:06d}").iterdir())
        assert names == ["00-red-heart.png", "01-owl.png", "02-owl.png", "03-empty.png", "grid.png", "round.json"]


def test_each_guidance_scale_has_a_picture_of_its_own(preview: Callable[..., Run]) -> None:
    found = pictures(preview("owl --l 1,3,7.5\nfox\n"), 1)
    assert list(found) == ["00-owl-cfg-1.png", "01-owl-cfg-3.png", "02-owl-cfg-7.5.png", "03-fox.png"]
    assert len(set(found.values())) == 4


def test_scales_of_the_config_hold_for_every_prompt(preview: Callable[..., Run]) -> None:
    run = preview("owl\nfox\n", "preview.guidance=[1, 3]")
    assert list(pictures(run, 1)) == ["00-owl-cfg-1.png", "01-owl-cfg-3.png", "02-fox-cfg-1.png", "03-fox-cfg-3.png"]


def test_prompts_that_differ_in_guidance_alone_are_a_row() -> None:
    owl, fox = prompt("owl", guidance=1.0), prompt("fox", guidance=1.0)
    three = tuple(replace(owl, guidance=scale) for scale in (1.0, 3.0, 7.5))
    other_seed = replace(owl, seed=1)
    assert rows_of((*three, fox, other_seed, owl)) == [three, (fox,), (other_seed,), (owl,)]


def test_without_a_prompts_file_captions_spread_over_the_training_set_stand_in(train: Callable[..., Run]) -> None:
    run = train("train.steps=1", "preview.at_end=true", "preview.count=3", "preview.guidance=[1, 3]")
    assert list(pictures(run, 1)) == [
        "00-fox-cfg-1.png", "01-fox-cfg-3.png", "02-green-circle-cfg-1.png", "03-green-circle-cfg-3.png",
        "04-lemon-cfg-1.png", "05-lemon-cfg-3.png",
    ]  # fmt: skip


def test_a_round_without_prompts_renders_nothing(preview: Callable[..., Run], caplog: pytest.LogCaptureFixture) -> None:
    assert pictures(preview("owl", plugins=plugin("NoPrompts")), 1) == {}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# the file is read anew


@pytest.mark.parametrize(
    ("name", "good", "broken"),
    [
        ("prompts.toml", '[[prompts]]\ntext = "owl"\n', "[[prompts"),
        ("prompts.txt", "owl", "fox --cn edges.png"),
    ],
)
def test_an_edit_that_breaks_the_file_is_told_and_the_old_prompts_stay(
    train: Callable[..., Run], tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, good: str, broken: str
) -> None:
    path = written(tmp_path, good, name=name)
    edit = plugin("WriteFile", path=str(path), step=2, text=broken)
    run = train("train.steps=3", "preview.at_start=true", "preview.at_end=true", f"preview.prompts={path}",
                plugins=edit)  # fmt: skip
    assert list(pictures(run, 3)) == ["00-owl.png"]
    (told,) = (
        text for record in caplog.records if "the prompts of the last round stay" in (text := record.getMessage())
    )
    assert str(path) in told


def test_an_edit_while_training_shows_in_the_next_round(train: Callable[..., Run], tmp_path: Path) -> None:
    path = written(tmp_path, "owl")
    edit = plugin("WriteFile", path=str(path), step=2, text="fox --l 1,3")
    run = train("train.steps=3", "preview.at_start=true", "preview.at_end=true", f"preview.prompts={path}",
                plugins=edit)  # fmt: skip
    assert list(pictures(run, 0)) == ["00-owl.png"]
    assert list(pictures(run, 3)) == ["00-fox-cfg-1.png", "01-fox-cfg-3.png"]


# what goes wrong


@pytest.mark.parametrize(
    ("text", "problem"),
    [("owl --cn edges.png", "line 1 --cn"), ("owl --w 33", "line 1 --w  33 is not a multiple of 4")],
)
def test_a_file_that_is_bad_from_the_start_is_refused_before_training(
    preview: Callable[..., Run], text: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        preview(text)


def test_a_scheduler_that_diffusers_has_not_is_refused_before_training(train: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match=r"preview\.scheduler  'Euler' is no scheduler"):
        train("preview.scheduler=Euler")


def test_a_preview_that_fails_does_not_end_the_run(
    preview: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    run = preview("owl", "train.steps=2", plugins=EMA + plugin("OddSize"))
    assert run.state()["step"] == "step-00000002"
    assert pictures(run, 2) == {}
    assert any("training goes on" in record.getMessage() for record in caplog.records)


def test_check_reads_prompts_and_scheduler_as_training_does(write_config: Callable[..., Path], tmp_path: Path) -> None:
    import run

    def checked(*overrides: str) -> list[str]:
        config = run.load(write_config(), list(overrides))
        bus, source = run.assemble_bus(config, tmp_path)
        return list(check(config, bus, source))

    path = written(tmp_path, "owl --l 1,3\nfox")
    assert f"previews  of 3 prompts in {path}" in checked(f"preview.prompts={path}")
    assert "previews  of 2 training captions" in checked()
    written(tmp_path, "owl --w 33\nfox --g 2")
    with pytest.raises(ConfigError) as caught:
        checked(f"preview.prompts={path}", "preview.scheduler=Euler")
    beginnings = ("preview.scheduler  'Euler'", f"{path}  line 1 --w  33", f"{path}  line 2 --g  ")
    assert [any(one.startswith(begun) for one in caught.value.problems) for begun in beginnings] == [True] * 3


# what the family is asked for


@dataclass
class DrawingFamily:
    """Paints from torch's global generator, as some schedulers draw, and notes what it is asked for."""

    modules: dict[str, nn.Module] = field(default_factory=lambda: {"unet": nn.Dropout()})
    asked: list[tuple[str, ...]] = field(default_factory=list)
    trains: bool = False
    """Whether its module was in training mode, or gradients were kept, while it rendered."""

    def render(self, prompts: tuple[Prompt, ...]) -> list[Image.Image]:
        self.trains |= self.modules["unet"].training or torch.is_grad_enabled()
        self.asked.append(tuple(f"{one.text} {one.guidance:g}{one.scheduler}" for one in prompts))
        return [Image.new("RGB", (1, 1), tuple(torch.randint(256, (3,)).tolist())) for _ in prompts]


def rendered(*prompts: Prompt, batch_size: int = 16) -> tuple[list[Any], list[tuple[str, ...]]]:
    """Colours of the pictures, and what was asked for at once."""
    family: Any = DrawingFamily()
    found = LiveSampler(family, torch.device("cpu"), batch_size).render(prompts)
    return [picture.getpixel((0, 0)) for picture in found], family.asked


def test_prompts_are_rendered_at_once_with_those_alike_wherever_they_stand() -> None:
    owl, fox = prompt("owl", guidance=1.0), prompt("fox", guidance=1.0)
    strong = [replace(one, guidance=3.0) for one in (owl, fox)]
    other = replace(owl, scheduler="DDIMScheduler")
    _, asked = rendered(owl, strong[0], fox, strong[1], other)
    assert asked == [("owl 1", "fox 1"), ("owl 3", "fox 3"), ("owl 1DDIMScheduler",)]
    _, asked = rendered(owl, fox, owl, batch_size=2)
    assert asked == [("owl 1", "fox 1"), ("owl 1",)]


def test_pictures_come_in_the_order_of_the_prompts() -> None:
    owl, fox, lemon = prompt("owl", seed=1), prompt("fox", seed=2, guidance=3.0), prompt("lemon", seed=3)
    together, asked = rendered(owl, fox, lemon, batch_size=1)
    assert asked == [("owl 1",), ("lemon 1",), ("fox 3",)]
    assert together == [rendered(one)[0][0] for one in (owl, fox, lemon)]


def test_rendering_is_in_evaluation_mode_without_gradients_and_training_goes_on_in_its_own() -> None:
    family = DrawingFamily()
    anything: Any = family
    LiveSampler(anything, torch.device("cpu"), 4).render((prompt("owl"),))
    assert not family.trains
    assert family.modules["unet"].training
    assert torch.is_grad_enabled()


def test_draws_from_the_global_generator_follow_from_the_seed_and_leave_it_as_it_was() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    colours, _ = rendered(prompt("owl", seed=5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert rendered(prompt("owl", seed=5))[0] == colours
    assert rendered(prompt("owl", seed=6))[0] != colours
