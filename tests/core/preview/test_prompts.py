"""A prompts file, TOML or lines as kohya's scripts read them, becomes prompts; whatever is wrong with it is told at once."""

import re
from pathlib import Path

import diffusers
import pytest

from core.config.tables import PreviewTable
from core.errors import ConfigError
from core.preview.prompt_lines import OPTIONS, SAMPLERS, parse_lines, sampler_class
from core.preview.prompts import PromptEntry, read_prompts, scheduler_problem, setting_problems
from events.payloads import Prompt
from tests.small_runs import ROOT

SETTINGS = PreviewTable(seed=10, steps=25, guidance=3.0)


def read(
    folder: Path, text: str, *, name: str = "prompts.txt", settings: PreviewTable = SETTINGS
) -> tuple[Prompt, ...]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_prompts(path, settings, 512, 64)


def problems(folder: Path, text: str, *, name: str = "prompts.txt") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text, name=name)
    assert str(folder / name) in str(caught.value)
    return list(caught.value.problems)


def toml_problems(folder: Path, text: str) -> list[str]:
    return problems(folder, text, name="prompts.toml")


# lines


def test_a_line_is_a_prompt_and_what_it_leaves_out_comes_from_the_config(tmp_path: Path) -> None:
    assert read(tmp_path, "a red fox\n") == (
        Prompt(text="a red fox", seed=10, width=512, height=512, steps=25, guidance=3.0),
    )


def test_options_follow_the_prompt_in_any_order(tmp_path: Path) -> None:
    line = "a red fox, from above --w 768 --n blurry, drawn --h 512 --d 7 --s 30 --l 4.5 --ss EulerDiscreteScheduler"
    assert read(tmp_path, line) == (
        Prompt(
            text="a red fox, from above", negative="blurry, drawn", seed=7, width=768, height=512, steps=30,
            guidance=4.5, scheduler="EulerDiscreteScheduler",
        ),
    )  # fmt: skip


def test_comments_and_blank_lines_are_no_prompts(tmp_path: Path) -> None:
    prompts = read(tmp_path, "# for the fox\n\na red fox\n  # later: an owl\n   \nan owl, #1\n")
    assert [(one.text, one.seed) for one in prompts] == [("a red fox", 10), ("an owl, #1", 11)]


@pytest.mark.parametrize("text", ["a fox -- red", "a fox--red", "3--4 foxes", "a fox --2 of them", "a fox -w 512"])
def test_dashes_that_begin_no_option_are_part_of_the_prompt(tmp_path: Path, text: str) -> None:
    assert [one.text for one in read(tmp_path, text)] == [text]


def test_options_may_be_capitals_and_a_prompt_may_be_empty(tmp_path: Path) -> None:
    (prompt,) = read(tmp_path, "--W 768 --D 3\r\n")
    assert (prompt.text, prompt.width, prompt.seed) == ("", 768, 3)


def test_a_byte_order_mark_is_no_part_of_the_first_prompt(tmp_path: Path) -> None:
    assert [one.text for one in read(tmp_path, "\N{BYTE ORDER MARK}ein Mäuschen\n")] == ["ein Mäuschen"]


@pytest.mark.parametrize(
    ("name", "kind"), [*SAMPLERS.items(), ("k_euler_a", SAMPLERS["euler_a"]), ("DDIM", SAMPLERS["ddim"])]
)
def test_samplers_by_the_names_that_kohya_gives_them_are_classes_of_diffusers(name: str, kind: str) -> None:
    assert sampler_class(name) == kind
    assert hasattr(diffusers, kind)


def test_a_sampler_of_kohya_is_the_prompts_scheduler(tmp_path: Path) -> None:
    (prompt,) = read(tmp_path, "a fox --ss k_euler_a")
    assert prompt.scheduler == "EulerAncestralDiscreteScheduler"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a fox --cn edges.png", "line 1 --cn  has no meaning here; leave it out, or use one of --n negative, --w width"),
        ("a fox --fs 2", "line 1 --fs  has no meaning here"),
        ("a fox --w512", "line 1 --w512  has no meaning here"),
        ("a fox --w 512 --W 768", "line 1 --W  is given twice; leave one out"),
        ("a fox --n --w 512", "line 1 --n  has no value; write one after a space, or leave it out"),
        ("a fox --w wide", "line 1 --w  'wide': input should be a valid integer"),
        ("a fox --h 500", "line 1 --h  500 is not a multiple of 64, as the model's pictures are; use 448 or 512"),
        ("a fox --w 8", "line 1 --w  8 is not a multiple of 64, as the model's pictures are; use 64"),
        ("a fox --d -1", "line 1 --d  '-1': input should be greater than or equal to 0"),
        ("a fox --d 99999999999999999999", "line 1 --d  '99999999999999999999': input should be less than"),
        ("a fox --s 0", "line 1 --s  '0': input should be greater than 0"),
        ("a fox --l high", "line 1 --l  'high': input should be a valid number"),
        ("a fox --ss Euler_b", "line 1 --ss  'Euler_b' is no scheduler of diffusers"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_line_is_told_with_its_number_and_option(tmp_path: Path, line: str, problem: str) -> None:
    (found,) = problems(tmp_path, line)
    assert found.startswith(problem)


def test_every_problem_of_a_file_of_lines_is_told(tmp_path: Path) -> None:
    found = problems(tmp_path, "a fox --w 500 --cn a.png\n# --m 3\nan owl\n\na cat --s none --vd 2\n")
    assert [problem.partition("  ")[0] for problem in found] == [
        "line 1 --cn",
        "line 1 --w",
        "line 5 --vd",
        "line 5 --s",
    ]


def test_lines_are_numbered_as_editors_count_them() -> None:
    assert [(line.number, line.values["text"]) for line in parse_lines("# none\na\n\nb\n")] == [(2, "a"), (4, "b")]


# TOML


def test_a_table_is_a_prompt_with_everything_that_a_line_can_say(tmp_path: Path) -> None:
    text = (
        '[[prompts]]\ntext = "a red fox"\nnegative = "blurry"\nseed = 7\nwidth = 768\nheight = 512\nsteps = 30\n'
        'guidance = 4.5\nscheduler = "EulerDiscreteScheduler"\nnote = "held out"\n'
    )
    line = "a red fox --n blurry --d 7 --w 768 --h 512 --s 30 --l 4.5 --ss euler"
    (prompt,), (same,) = read(tmp_path, text, name="prompts.toml"), read(tmp_path, line)
    assert prompt.note == "held out"
    assert {name: getattr(prompt, name) for name in Prompt.__slots__ if name != "note"} == {
        name: getattr(same, name) for name in Prompt.__slots__ if name != "note"
    }


def test_lines_can_say_whatever_tables_can_but_a_note() -> None:
    assert set(PromptEntry.model_fields) - set(OPTIONS.values()) == {"text", "note"}


def test_seeds_count_up_and_a_prompt_may_have_its_own(tmp_path: Path) -> None:
    text = '[[prompts]]\ntext = "a"\n[[prompts]]\ntext = "b"\n[[prompts]]\ntext = "c"\nseed = 42\nwidth = 64\n'
    prompts = read(tmp_path, text, name="prompts.toml")
    assert [prompt.seed for prompt in prompts] == [10, 11, 42]
    assert [(prompt.width, prompt.height) for prompt in prompts] == [(512, 512), (512, 512), (64, 512)]


def test_every_problem_of_the_tables_is_told(tmp_path: Path) -> None:
    text = (
        '[[prompts]]\ntext = "a"\nsed = 3\nwidth = 100\n[[prompts]]\nseed = 1\nguidance = -1\n'
        '[[prompts]]\ntext = "b"\nscheduler = "euler_a"\n[model]\n'
    )
    found = toml_problems(tmp_path, text)
    assert sorted(found) == [
        "model  has no meaning in a file of prompts; it holds [[prompts]] tables",
        "prompts[0].sed  is not a key of this table; did you mean 'seed'?",
        "prompts[0].width  100 is not a multiple of 64, as the model's pictures are; use 64 or 128",
        "prompts[1].guidance  -1: input should be greater than or equal to 0",
        "prompts[1].text  is missing; it has no default",
        "prompts[2].scheduler  'euler_a' is no scheduler of diffusers; did you mean 'EulerAncestralDiscreteScheduler'?",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[prompts", "cannot be read as TOML: "),
        ("", "holds no prompt"),
        ("prompts = []", "holds no prompt"),
        ('prompts = ["a fox"]', "prompts[0]  is no table; write [[prompts]] above its keys"),
        ("prompts = 3", "prompts[0]  is no table; write [[prompts]] above its keys"),
    ],
)
def test_a_file_without_tables_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = toml_problems(tmp_path, text)
    assert found.startswith(problem)


def test_scales_may_not_be_none_at_all(tmp_path: Path) -> None:
    (problem,) = toml_problems(tmp_path, '[[prompts]]\ntext = "a"\nguidance = []\n')
    assert problem == "prompts[0].guidance  []: tuple should have at least 1 item after validation, not 0"


def test_a_misspelt_table_is_named_beside_the_lack_of_prompts(tmp_path: Path) -> None:
    found = toml_problems(tmp_path, '[[prompt]]\ntext = "a"\n')
    assert [problem.partition("  ")[0] for problem in found] == ["prompt", "holds no prompt"]


# both


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prompts.toml", '[[prompts]]\ntext = "a fox"\nguidance = [1, 3, 7.5]\n[[prompts]]\ntext = "an owl"\n'),
        ("prompts.txt", "a fox --l 1,3, 7.5\nan owl\n"),
    ],
)
def test_a_prompt_with_several_scales_is_one_for_each_with_the_same_seed(tmp_path: Path, name: str, text: str) -> None:
    prompts = read(tmp_path, text, name=name)
    assert [(one.text, one.guidance, one.seed) for one in prompts] == [
        ("a fox", 1.0, 10), ("a fox", 3.0, 10), ("a fox", 7.5, 10), ("an owl", 3.0, 11),
    ]  # fmt: skip


def test_scales_and_scheduler_of_the_config_hold_for_prompts_that_name_none(tmp_path: Path) -> None:
    settings = PreviewTable(guidance=(1.0, 7.0), scheduler="DDPMScheduler")
    prompts = read(tmp_path, "a fox\nan owl --l 2 --ss ddim\n", settings=settings)
    assert [(one.text, one.guidance, one.scheduler) for one in prompts] == [
        ("a fox", 1.0, "DDPMScheduler"), ("a fox", 7.0, "DDPMScheduler"), ("an owl", 2.0, "DDIMScheduler"),
    ]  # fmt: skip


def test_a_file_of_comments_holds_no_prompt(tmp_path: Path) -> None:
    assert problems(tmp_path, "# nothing yet\n") == ["holds no prompt"]


@pytest.mark.parametrize("name", ["prompts.json", "prompts"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    assert problems(tmp_path, "a fox", name=name) == ["is no prompts file by its name; that ends in .toml or .txt"]


def test_the_ending_may_be_in_capitals(tmp_path: Path) -> None:
    assert len(read(tmp_path, "a fox", name="PROMPTS.TXT")) == 1


@pytest.mark.parametrize("name", ["prompts.toml", "prompts.txt"])
def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(ConfigError, match=r"cannot be read as text in UTF-8: .*No such file"):
        read_prompts(path, SETTINGS, 512)
    path.write_bytes(b"a \xff fox")
    with pytest.raises(ConfigError, match=r"cannot be read as text in UTF-8: .*invalid start byte"):
        read_prompts(path, SETTINGS, 512)


# schedulers


@pytest.mark.parametrize("name", ["", "DDIMScheduler", "EulerAncestralDiscreteScheduler", "UniPCMultistepScheduler"])
def test_schedulers_of_diffusers_are_known_by_name(name: str) -> None:
    assert scheduler_problem(name) == ""


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("EulerDiscretScheduler", "; did you mean 'EulerDiscreteScheduler'?"),
        ("k_dpm_2", "; did you mean 'KDPM2DiscreteScheduler'?"),
        ("UNet2DConditionModel", ", such as DDIMScheduler or EulerDiscreteScheduler"),
        ("utils", ", such as DDIMScheduler or EulerDiscreteScheduler"),
    ],
)
def test_another_name_is_refused_with_what_could_be_meant(name: str, hint: str) -> None:
    assert scheduler_problem(name).startswith(f"{name!r} is no scheduler of diffusers{hint}")


def test_a_scheduler_whose_library_is_missing_is_refused_with_the_library() -> None:
    stand_ins = {name: getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Scheduler")}
    lacking = {name for name, kind in stand_ins.items() if "dummy" in kind.__module__}
    said = r"'\w+' needs \w+(, \w+)*, which is not installed; install it or name another"
    assert {name for name in stand_ins if re.fullmatch(said, scheduler_problem(name))} == lacking


def test_the_scheduler_of_the_config_is_looked_at_too() -> None:
    assert setting_problems(PreviewTable()) == []
    (problem,) = setting_problems(PreviewTable(scheduler="euler"))
    assert problem == (
        "preview.scheduler  'euler' is no scheduler of diffusers; did you mean 'EulerDiscreteScheduler'?"
    )


def test_the_lines_that_the_documentation_shows_are_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if " --n " in one]
    assert {one.text for one in read(tmp_path, block)} == {"a tabby cat on a red sofa", "a rose made of glass"}
