"""`run.py check --processes N` says what a step of N processes comes to, and what of the config goes without them."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from core.checks.processes import process_problems
from core.config.file import load_config
from tests.core.checking import checked
from tests.core.surveying import plugin
from tests.warm import run_py

WriteConfig = Callable[..., Path]
FUSED = ("train.fused_backward=true", "train.clip_norm=0")


def told(path: Path, *overrides: str, processes: int = 1) -> list[str]:
    """The lines on processes."""
    lines, problems = checked(path, *overrides, processes=processes)
    assert problems == []
    text = "\n".join(lines)
    return [line for line in text[text.index("processes ") :].split("\nrun ")[0].splitlines() if line]


def test_one_process_has_the_pictures_of_a_step_to_itself(write_config: WriteConfig) -> None:
    step, memory = told(write_config(), "train.accumulate=3")
    assert step == "processes 1, each with 3 x 4 pictures a step: 12 in all; --processes N asks for others"
    assert memory == (
        "          each keeps 1.24 MB beside activations: weights 0.31 MB, gradients 0.31 MB, optimizer 0.62 MB"
    )


@pytest.mark.parametrize(("count", "pictures"), [(2, 24), (8, 96), (64, 768), (1024, 12_288)])
def test_a_step_has_batch_size_times_accumulate_times_processes_pictures(
    write_config: WriteConfig, count: int, pictures: int
) -> None:
    step = told(write_config(), "train.accumulate=3", processes=count)[0]
    assert step == f"processes {count}, each with 3 x 4 pictures a step: {pictures} in all; strategy ddp"


def test_what_is_divided_is_told_with_its_share_and_what_is_sent(write_config: WriteConfig) -> None:
    _, memory, sends = told(write_config(), "distributed.strategy=fsdp", processes=4)
    assert memory.endswith("each keeps 0.31 MB beside activations: weights 0.08 MB (1/4), gradients 0.08 MB (1/4), optimizer"
                           " 0.16 MB (1/4)")  # fmt: skip
    assert sends == "          each sends about 0.70 MB a step"
    _, memory, sends = told(write_config(), "train.precision=bf16", processes=4)
    assert memory.endswith("weights 0.31 MB, gradients 0.31 MB, optimizer 0.62 MB; weights in a step 0.16 MB more")
    assert sends == "          each sends about 0.47 MB a step"


def test_an_adapter_keeps_its_base_without_gradients(write_config: WriteConfig) -> None:
    path, half = write_config(plugin("plugins.lora.Lora", rank=2)), ("train.precision=bf16", "model.dtype=bf16")
    _, memory = told(path, "model.train=['unet']", *half)
    amounts = memory.partition("weights")[2].partition(";")[0].split(", ")
    weights, gradients, optimizer = (float(amount.split()[-2]) for amount in amounts)
    assert optimizer == pytest.approx(2 * gradients, abs=0.02)
    assert weights > 5 * gradients


def test_what_a_start_would_refuse_is_a_problem(write_config: WriteConfig) -> None:
    path = write_config()
    assert checked(path, *FUSED, processes=1)[1] == []
    assert checked(path, *FUSED, processes=8)[1] == [
        "train.fused_backward  updates weights before 8 processes have shared their gradients; use one"
    ]


def test_a_strategy_that_does_not_go_with_other_settings_is_a_problem(write_config: WriteConfig) -> None:
    problems = checked(write_config(), "distributed.strategy=deepspeed", "distributed.zero_stage=3", processes=2)[1]
    assert any("distributed.zero_stage  3 is not offered" in problem for problem in problems)
    assert any("not installed" in problem for problem in problems) == (find_spec("deepspeed") is None)


def test_each_problem_is_that_of_the_module_that_refuses_it(write_config: WriteConfig) -> None:
    from core.ranks.deepspeed_checks import deepspeed_problems
    from core.ranks.divisible import sharding_problems

    path = write_config()
    for strategy, refuse in (("fsdp", sharding_problems), ("deepspeed", deepspeed_problems)):
        config = load_config(path, [f"distributed.strategy={strategy}", "train.precision=fp16"])
        assert process_problems(config, 2) == refuse(config)


def test_the_command_takes_the_number(write_config: WriteConfig) -> None:
    done = run_py("check", str(write_config()), "--processes", "16")
    assert done.returncode == 0, done.stderr
    assert "processes 16, each with 1 x 4 pictures a step: 64 in all; strategy ddp" in done.stdout
