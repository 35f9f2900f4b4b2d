"""Fused backward: weights move as their gradients come, one gradient is alive at a time, and the result is the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.config.tables import TrainTable
from core.errors import ConfigError, NonFiniteError
from core.step.fused_backward import FusedBackward, fused_backward_problems
from tests.small_runs import Run, assert_same_state

PLAIN = ("train.clip_norm=0", "train.batch_size=5")
FUSED = (*PLAIN, "train.fused_backward=true")


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.state()["weights.safetensors"]  # type: ignore[return-value]


class Small:
    """A model of four weights, and its optimizer."""

    def __init__(self, **options: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        first, second = list(self.model[0].parameters()), list(self.model[2].parameters())
        self.optimizer: Any = torch.optim.AdamW(
            [{"params": first, "lr": 0.1}, {"params": second, "lr": 0.2}], fused=True, **options
        )
        self.fused = FusedBackward(self.optimizer, TrainTable(fused_backward=True, clip_norm=0))

    def backward(self, loss: torch.Tensor) -> None:
        self.fused.begin(loss)
        loss.backward()

    def loss(self) -> torch.Tensor:
        loss: torch.Tensor = self.model(torch.ones(2, 3)).square().sum()
        return loss


def test_a_run_ends_with_the_same_bits_as_the_ordinary_one(train: Callable[..., Run]) -> None:
    """The gradient norm is reported too, summed in another order."""
    plain = train("run.name=plain", "train.steps=4", *PLAIN)
    assert_same_weights_and_optimizer(train("train.steps=4", *FUSED), plain)


def assert_same_weights_and_optimizer(one: Run, other: Run) -> None:
    for file in ("weights.safetensors", "optimizer.safetensors"):
        left, right = one.state()[file], other.state()[file]
        assert left.keys() == right.keys()  # type: ignore[attr-defined]
        assert all(torch.equal(tensor, right[name]) for name, tensor in left.items()), file  # type: ignore[attr-defined,index]


def test_it_resumes_bit_for_bit_with_the_ordinary_step_on_either_side(train: Callable[..., Run]) -> None:
    whole = train("run.name=whole", "train.steps=4", *FUSED)
    train("train.steps=2", *FUSED)
    assert_same_state(train("train.steps=4", *FUSED), whole)
    train("run.name=mixed", "train.steps=2", *PLAIN)
    assert_same_weights_and_optimizer(train("run.name=mixed", "train.steps=4", *FUSED), whole)


def test_one_gradient_is_alive_at_a_time() -> None:
    small, alive = Small(), list[int]()

    def count(parameter: nn.Parameter) -> None:
        alive.append(sum(one.grad is not None for one in small.model.parameters()))

    for parameter in small.model.parameters():
        parameter.register_post_accumulate_grad_hook(count)
    small.fused.attach()
    small.backward(small.loss())
    assert alive == [1, 1, 1, 1]
    assert all(one.grad is None for one in small.model.parameters())


def test_the_norm_is_that_of_all_gradients_together() -> None:
    small, other = Small(), Small()
    other.loss().backward()
    expected = torch.nn.utils.get_total_norm([one.grad for one in other.model.parameters() if one.grad is not None])
    small.fused.attach()
    small.backward(small.loss())
    torch.testing.assert_close(small.fused.norm(), expected)
    small.backward(small.loss() * 0)
    assert float(small.fused.norm()) == 0


def test_each_parameter_is_updated_by_the_numbers_of_its_own_group() -> None:
    small, other = Small(), Small()
    small.fused.attach()
    small.backward(small.loss())
    other.loss().backward()
    other.optimizer.step()
    for one, expected in zip(small.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, expected)
    assert [len(table["params"]) for table in small.optimizer.param_groups] == [2, 2]


def test_a_loss_that_is_not_finite_touches_no_weight(train: Callable[..., Run]) -> None:
    spoil = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.SpoilLoss"\nsteps = [3]\n'
    good = train("run.name=good", "train.steps=2", *FUSED)
    spoilt = train("run.name=spoilt", "train.steps=3", "log.every_steps=8", *FUSED, plugins=spoil)
    assert_same_weights_and_optimizer(spoilt, good)
    with pytest.raises(NonFiniteError, match="step 3"):
        train("run.name=stopped", "train.on_nonfinite=stop", "log.every_steps=1", *FUSED, plugins=spoil)


def test_a_loss_that_is_not_finite_counts_even_where_gradients_are() -> None:
    small = Small()
    small.fused.attach()
    before = [one.detach().clone() for one in small.model.parameters()]
    small.backward(small.loss() + float("inf"))
    assert small.fused.norm().isfinite()
    assert all(torch.equal(one, old) for one, old in zip(small.model.parameters(), before, strict=True))


def test_a_gradient_that_is_not_finite_leaves_its_own_weight_and_the_norm_tells() -> None:
    small = Small()
    small.fused.attach()
    before = [one.detach().clone() for one in small.model.parameters()]
    small.model[0].bias.register_hook(lambda gradient: gradient * float("nan"))
    small.backward(small.loss())
    moved = [not torch.equal(one, old) for one, old in zip(small.model.parameters(), before, strict=True)]
    assert moved == [True, False, True, True]
    assert not small.fused.norm().isfinite()
    assert not small.optimizer.state[small.model[0].bias]["exp_avg"].any()


def test_what_it_cannot_be_combined_with_is_told_with_both_keys_and_a_way_out() -> None:
    table = TrainTable(fused_backward=True, accumulate=2, clip_norm=1, precision="fp16")
    found = fused_backward_problems(table)
    assert len(found) == 3
    for problem, key in zip(
        found, ("train.accumulate = 2", "train.clip_norm = 1", "train.precision = 'fp16'"), strict=True
    ):
        assert problem.startswith("train.fused_backward  and ")
        assert key in problem
        assert "; set train." in problem
    assert fused_backward_problems(TrainTable(accumulate=2, clip_norm=1, precision="fp16")) == []


@pytest.mark.parametrize("optimizer", ["lion_pytorch.Lion", "schedulefree.AdamWScheduleFree", "torch.optim.Adafactor"])
def test_an_optimizer_that_cannot_skip_on_the_device_is_refused(train: Callable[..., Run], optimizer: str) -> None:
    with pytest.raises(ConfigError, match=rf"train\.fused_backward .*which {optimizer} cannot"):
        train(f"train.optimizer={optimizer}", *FUSED)


def test_hooks_on_the_optimizer_are_refused_by_name(train: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match=r"train\.fused_backward .*one of plugins\.ema"):
        train(*FUSED, plugins='\n[[plugins]]\nuse = "plugins.ema.Ema"\n')


def test_several_processes_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 processes"):
        FusedBackward(Small().optimizer, TrainTable(fused_backward=True, clip_norm=0), processes=2)


def test_check_tells_it_before_anything_is_loaded(write_config: Callable[..., Path]) -> None:
    import run
    from core.checks import check
    from core.run.session import configure

    path = write_config()
    config = run.load(path, ["train.fused_backward=true"])
    bus, source = run.assemble_bus(config, path)
    with pytest.raises(ConfigError, match=r"train\.fused_backward  and train\.clip_norm = 1 exclude each other"):
        list(check(configure(bus, config, str(path)), bus, source))
