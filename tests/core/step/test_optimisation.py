"""Any optimizer serves by its dotted path: its options are checked, it trains, resumes, and lends its weights for looking."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from core.config.tables import TrainTable
from core.errors import ConfigError
from core.step.evaluation_weights import evaluation_weights
from core.step.optimizer import can_skip_on_device, make_optimizer, optimizer_problems
from events.payloads import ParameterGroup
from tests.small_runs import Run, assert_same_state

FREE = ("train.optimizer=schedulefree.AdamWScheduleFree", "train.weight_decay=0.1")
PRODIGY = (
    "train.optimizer=prodigyopt.Prodigy", "train.learning_rate=1", "train.weight_decay=0",
    "train.optimizer_options={d0=1e-6, safeguard_warmup=true}", "train.warmup_steps=0",
)  # fmt: skip
LION = ("train.optimizer=lion_pytorch.Lion", "train.learning_rate=1e-4")
ADAFACTOR = ("train.optimizer=torch.optim.Adafactor", "train.learning_rate=1e-2")
ALL = {"free": FREE, "prodigy": PRODIGY, "lion": LION, "adafactor": ADAFACTOR}


def groups(*rates: float) -> tuple[ParameterGroup, ...]:
    return tuple(
        ParameterGroup(name=f"g{n}", parameters={f"g{n}.w": nn.Parameter(torch.ones(3))}, learning_rate=rate, weight_decay=0.0)
        for n, rate in enumerate(rates)
    )  # fmt: skip


def problems(optimizer: str, **options: Any) -> list[str]:
    return optimizer_problems(TrainTable(optimizer=optimizer, optimizer_options=options))


def test_a_class_that_is_not_there_is_told_with_one_that_is_near() -> None:
    assert problems("torch.optim.AdmW") == ["train.optimizer  torch.optim has no AdmW; did you mean 'AdamW'?"]
    assert "is its package installed?" in problems("no_such_package.Adam")[0]


def test_options_that_it_does_not_take_are_all_told() -> None:
    assert problems("torch.optim.AdamW", beta=[0.9, 0.99], xyz=1) == [
        "train.optimizer_options.beta  is no argument of torch.optim.AdamW; did you mean 'betas'?",
        "train.optimizer_options.xyz  is no argument of torch.optim.AdamW",
    ]


def test_options_that_the_groups_would_override_are_refused_with_the_key_that_sets_them() -> None:
    assert problems("torch.optim.AdamW", lr=1, weight_decay=0) == [
        "train.optimizer_options.lr  is not set here; set train.learning_rate",
        "train.optimizer_options.weight_decay  is not set here; set train.weight_decay",
    ]


class TakesAnything(torch.optim.SGD):
    def __init__(self, parameters: Any, **options: Any) -> None:
        super().__init__(parameters, **options)


def test_one_that_takes_any_option_is_not_second_guessed() -> None:
    assert problems(f"{__name__}.TakesAnything", momentum=0.5) == []


@pytest.mark.parametrize(
    ("optimizer", "options", "said"),
    [
        ("torch.optim.AdamW", {"betas": [2.0, 0.9]}, "Invalid beta parameter at index 0: 2.0"),
        ("torch.optim.AdamW", {"betas": 0.9}, "refuses its options"),
        ("lion_pytorch.Lion", {"betas": [2.0, 0.9]}, "AssertionError"),
        ("prodigyopt.Prodigy", {"d0": -1.0}, "Invalid d0 value: -1.0"),
    ],
)
def test_what_its_constructor_refuses_is_a_problem_of_the_config(optimizer: str, options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.optimizer  ") as caught:
        make_optimizer(groups(1e-3), TrainTable(optimizer=optimizer, optimizer_options=options))
    assert optimizer in str(caught.value)
    assert said in str(caught.value)


def test_prodigy_finds_one_rate_so_groups_cannot_have_several() -> None:
    with pytest.raises(ConfigError, match=r"finds one rate for all; groups have 1 \(g0\), 0\.5 \(g1\)"):
        make_optimizer(groups(1.0, 0.5), TrainTable(optimizer="prodigyopt.Prodigy"))


def test_torchs_own_are_fused_unless_the_config_says_otherwise() -> None:
    assert can_skip_on_device(make_optimizer(groups(1e-3), TrainTable()))
    assert can_skip_on_device(make_optimizer(groups(1e-3), TrainTable(optimizer="torch.optim.SGD")))
    plain = TrainTable(optimizer_options={"foreach": False})
    assert not can_skip_on_device(make_optimizer(groups(1e-3), plain))
    assert not can_skip_on_device(make_optimizer(groups(1e-3), TrainTable(optimizer="lion_pytorch.Lion")))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.state()["weights.safetensors"]  # type: ignore[return-value]


@pytest.mark.parametrize("settings", [pytest.param(one, id=name) for name, one in ALL.items()])
def test_it_trains_and_a_resumed_run_ends_as_the_unbroken_one(
    train: Callable[..., Run], settings: Sequence[str]
) -> None:
    whole = train("run.name=whole", "train.steps=4", *settings)
    first = train("train.steps=2", *settings)
    moved = [not torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(first).items()]
    assert sum(moved) > 0.9 * len(moved)
    assert all(bool(tensor.isfinite().all()) for tensor in weights(whole).values())
    assert_same_state(train("train.steps=4", *settings), whole)


def test_prodigys_estimate_grows_and_is_kept_with_the_groups(train: Callable[..., Run]) -> None:
    stored = train("train.steps=4", *PRODIGY).state()["state"]["optimizer"]["groups"]  # type: ignore[index]
    assert all(group["k"] == 4 for group in stored)
    assert stored[0]["d"] > 1e-6


def test_an_optimizer_that_cannot_skip_on_the_device_leaves_a_bad_step_out_all_the_same(
    train: Callable[..., Run],
) -> None:
    spoil = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.SpoilLoss"\nsteps = [3]\n'
    good = train("run.name=good", "train.steps=2", *LION)
    spoilt = train("run.name=spoilt", "train.steps=3", "log.every_steps=9", *LION, plugins=spoil)
    assert all(torch.equal(tensor, weights(spoilt)[name]) for name, tensor in weights(good).items())


def free(steps: int = 3) -> tuple[nn.Parameter, Any]:
    import schedulefree

    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 3))
    optimizer = schedulefree.AdamWScheduleFree([weight], lr=0.1)
    optimizer.train()
    for _ in range(steps):
        weight.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return weight, optimizer


def test_within_evaluation_the_weights_are_those_its_eval_gives_and_after_it_those_of_training() -> None:
    weight, optimizer = free()
    _, other = free()
    other.eval()
    expected, before = other.param_groups[0]["params"][0].detach(), weight.detach().clone()
    with evaluation_weights(optimizer):
        assert torch.equal(weight, expected)
        assert not torch.equal(weight, before)
    assert torch.equal(weight, before)
    assert optimizer.param_groups[0]["train_mode"] is True


def test_evaluations_may_be_nested_and_may_fail() -> None:
    weight, optimizer = free()
    before = weight.detach().clone()
    with evaluation_weights(optimizer):
        within = weight.detach().clone()
        with evaluation_weights(optimizer):
            assert torch.equal(weight, within)
        assert torch.equal(weight, within)
        assert optimizer.param_groups[0]["train_mode"] is False
    with pytest.raises(RuntimeError), evaluation_weights(optimizer):
        raise RuntimeError
    assert torch.equal(weight, before)
    weight.square().sum().backward()
    optimizer.step()


def test_other_optimizers_are_left_alone() -> None:
    weight = nn.Parameter(torch.ones(2))
    with evaluation_weights(torch.optim.AdamW([weight])):
        assert torch.equal(weight, torch.ones(2))


def test_looking_does_not_change_what_schedule_free_trains(train: Callable[..., Run]) -> None:
    """Previews, validation, exports and an average come between the steps, and the bits are those of a run without."""
    ema = '\n[[plugins]]\nuse = "plugins.ema.Ema"\n'
    plain = train("run.name=plain", "train.steps=4", *FREE)
    looked = train(
        "run.name=looked", "train.steps=4", "preview.every_steps=1", "preview.at_start=true", "export.every_steps=2",
        *FREE, plugins=ema,
    )  # fmt: skip
    assert all(torch.equal(tensor, weights(looked)[name]) for name, tensor in weights(plain).items())


def test_exports_have_the_weights_for_evaluation_and_checkpoints_those_of_training(train: Callable[..., Run]) -> None:
    """x = y + (1 - 1/beta1) (z - y), the inverse of y = (1 - beta1) z + beta1 x (arXiv:2405.15682, eq. 3)."""
    from safetensors.torch import load_file

    run = train("train.steps=3", "export.at_end=true", "export.dtype=fp32", *FREE)
    y, optimizer = weights(run), run.state()["optimizer.safetensors"]
    exported = load_file(next((run.folder / "exports").iterdir()) / "unet" / "diffusion_pytorch_model.safetensors")
    for name, x in exported.items():
        z = optimizer[f"optimizer/state/unet.{name}/z"]  # type: ignore[index]
        torch.testing.assert_close(x, y[f"unet.{name}"].lerp(z, 1 - 1 / 0.9))
    assert any(not torch.equal(x, y[f"unet.{name}"]) for name, x in exported.items())


@pytest.mark.gpu
def test_an_8_bit_optimizer_trains_and_resumes(train: Callable[..., Run]) -> None:
    """Needs bitsandbytes as well."""
    settings = ("train.optimizer=bitsandbytes.optim.AdamW8bit", "train.device=cuda")
    whole = train("run.name=whole", "train.steps=4", *settings)
    train("train.steps=2", *settings)
    resumed = train("train.steps=4", *settings)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], tensor, rtol=1e-4, atol=1e-5)
