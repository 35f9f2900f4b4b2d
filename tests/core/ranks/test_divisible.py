"""What does not go together with divided weights is refused before training, with the key and what to do.

The group is of this process alone, on the CPU; what only several can show is in test_sharding.py.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from core.config.tables import CheckpointTable, Config, DataTable, DistributedTable, ModelTable, TrainTable
from core.errors import ConfigError
from core.ranks.crew import ONE
from core.ranks.divided_trial import optimizer_problem
from core.ranks.divisible import make_sharding, mesh_of_one, setting_problems, sharding_problems
from core.ranks.sharding import Sharding, is_in_rows, local
from events.errors import PluginError
from events.payloads import ParameterGroup
from events.signals import Handler

CPU = torch.device("cpu")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(x)
        return found


class Model(nn.Module):
    """As libraries make them: they say which layers they repeat."""

    _repeated_blocks = ("Block",)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.blocks(x) * self.scale
        return found


@pytest.fixture
def alone() -> Iterator[None]:
    with mesh_of_one():
        yield


class ByRows(torch.optim.SGD):
    """Does otherwise with rows, as one may that looks at the norm of what it has."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # there never is one
        for group in self.param_groups:
            for weight in group["params"]:
                weight.sub_(weight.grad, alpha=2 * group["lr"] if is_in_rows(weight) else group["lr"])


def config(**tables: object) -> Config:
    fsdp = DistributedTable(strategy="fsdp")
    return Config(**({"model": ModelTable(path="x"), "data": DataTable(root="x"), "distributed": fsdp} | tables))  # type: ignore[arg-type]  # tables of a test


def group_of(model: nn.Module) -> ParameterGroup:
    named = {f"unet.{name}": one for name, one in model.named_parameters() if one.requires_grad}
    return ParameterGroup(name="unet", parameters=named, learning_rate=1e-3, weight_decay=0.0)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"train": TrainTable(channels_last=True)}, "train.channels_last  lays weights out"),
        ({"train": TrainTable(fused_backward=True)}, "train.fused_backward  updates weights before"),
        ({"train": TrainTable(compile=True)}, "train.compile  takes denoiser and loss as one graph"),
        ({"train": TrainTable(precision="fp16")}, "train.precision  'fp16' scales gradients"),
        ({"checkpoint": CheckpointTable(on_failure="pause")}, "checkpoint.on_failure  'pause' writes the same"),
    ],
)  # fmt: skip
def test_a_setting_that_does_not_go_with_it_is_told(tables: dict[str, object], said: str) -> None:
    (problem,) = setting_problems(config(**tables))
    assert problem.startswith(said)
    assert not setting_problems(config())


def test_the_check_tells_of_settings_and_optimizer_together() -> None:
    train = TrainTable(compile=True, optimizer="torch.optim.Adafactor")
    problems = sharding_problems(config(train=train))
    assert [problem.split()[0] for problem in problems] == ["train.compile", "train.optimizer"]
    assert not torch.distributed.is_initialized()


def test_one_process_has_its_weights_whole() -> None:
    assert make_sharding(config(), CPU, ONE, ()) is None


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ["AdamW", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "Adadelta", "ASGD"])
def test_an_optimizer_that_treats_every_number_by_itself_can_be_used(name: str) -> None:
    with mesh_of_one() as mesh:
        assert not optimizer_problem(TrainTable(optimizer=f"torch.optim.{name}"), mesh)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torch.optim.Adafactor", "cannot train weights that are divided among processes (aten"),
        ("torch.optim.SGD", "its other kernels can: set train.optimizer_options = { fused = false, foreach = true }"),
        ("tests.core.ranks.test_divisible.ByRows", "makes something else of weights that are divided among processes"),
        ("prodigyopt.Prodigy", "keeps 's' of a weight, which is neither divided as the weight is nor a single number"),
    ],
)
def test_one_that_cannot_is_told_by_trying_it(name: str, said: str) -> None:
    pytest.importorskip(name.partition(".")[0])
    with mesh_of_one() as mesh:
        assert said in optimizer_problem(TrainTable(optimizer=name), mesh)


@pytest.mark.usefixtures("alone")
def test_parameters_stay_under_their_names_and_are_in_rows() -> None:
    model, sharding = Model(), Sharding(DistributedTable(), CPU, ONE)
    group = group_of(model)
    (divided,) = sharding.divide({"unet": model}, [group])
    assert list(divided.parameters) == list(group.parameters)
    assert all(is_in_rows(one) for one in divided.parameters.values())
    assert type(model.blocks[0]).__name__ == "FSDPBlock"


@pytest.mark.usefixtures("alone")
def test_what_a_checkpoint_is_given_does_not_change_with_the_run() -> None:
    """Neither rows nor what every rank has whole, such as an optimizer's count of steps."""
    model, sharding = Model(), Sharding(DistributedTable(), CPU, ONE)
    sharding.divide({"unet": model}, [group_of(model)])
    for tensor in (model.blocks[0].inner.weight, torch.tensor(3.0)):
        part = sharding.part(tensor, torch.clone)
        before = local(part).clone()
        with torch.no_grad():
            local(tensor).add_(1.0)
        assert torch.equal(local(part), before)


@pytest.mark.usefixtures("alone")
def test_a_module_is_whole_again_with_its_own_class_and_values() -> None:
    model, sharding = Model(), Sharding(DistributedTable(), CPU, ONE)
    expected = {name: one.clone() for name, one in model.state_dict().items()}
    sharding.divide({"unet": model}, [group_of(model)])
    whole = sharding.whole({"unet": model})["unet"]
    assert type(whole) is Model
    assert all(torch.equal(one, expected[name]) and not is_in_rows(one) for name, one in whole.state_dict().items())


@pytest.mark.usefixtures("alone")
def test_the_layers_to_divide_can_be_named_and_a_strange_name_is_refused() -> None:
    model = Model()
    Sharding(DistributedTable(wrap=("Linear",)), CPU, ONE).divide({"unet": model}, [group_of(model)])
    assert [type(part).__name__ for part in model.blocks[0].modules()] == ["Block", "FSDPLinear"]
    with pytest.raises(ConfigError, match=r"distributed.wrap  'Blok' is no class of a layer of unet; .* repeats Block"):
        Sharding(DistributedTable(wrap=("Blok",)), CPU, ONE).divide({"unet": Model()}, [])


@pytest.mark.usefixtures("alone")
def test_a_single_number_that_is_trained_and_a_parameter_of_no_module_are_refused() -> None:
    model = Model().requires_grad_(True)
    with pytest.raises(ConfigError, match=r"cannot divide unet\.scale, a single number"):
        Sharding(DistributedTable(), CPU, ONE).divide({"unet": model}, [group_of(model)])
    stray = ParameterGroup(
        name="extra", parameters={"x": nn.Parameter(torch.ones(2))}, learning_rate=1.0, weight_decay=0.0
    )
    with pytest.raises(ConfigError, match="x of the group extra is in none of them"):
        Sharding(DistributedTable(), CPU, ONE).divide({"unet": Model()}, [stray])


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("is_collective", [False, True])
def test_a_handler_that_computes_with_them_has_to_say_so(is_collective: bool) -> None:
    handler = Handler(
        signal="preview.end", plugin="Mine", function=print, call=print, label="Mine.look", source="x.py:1", order=(50, 0, 0),
        is_async=False, on_error="raise", ranks="all", is_collective=is_collective,
    )  # fmt: skip
    model = Model()
    sharding = Sharding(DistributedTable(), CPU, ONE, running=[(handler, 0.0)])
    sharding.divide({"unet": model}, [])
    if is_collective:
        assert model(torch.ones(1, 4)).shape == (1, 4)
    else:
        with pytest.raises(
            PluginError, match=r"plugin Mine: Mine\.look at preview\.end computes with a model whose weights"
        ):
            model(torch.ones(1, 4))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("stays_gathered", [False, True])
def test_gradients_of_rounds_add_up_however_long_layers_stay_gathered(stays_gathered: bool) -> None:
    """Where they stay, gradients are shared out in the last round alone."""
    model = Model()
    sharding = Sharding(DistributedTable(reshard_after_forward=not stays_gathered), CPU, ONE)
    (group,) = sharding.divide({"unet": model}, [group_of(model)])
    for is_last in (False, True):
        sharding.add_up(is_last=is_last)
        model(torch.ones(1, 4)).sum().backward()
        if not is_last:
            has_come = [one.grad is not None for one in group.parameters.values()]
            assert not any(has_come) if stays_gathered else all(has_come)
    first, *_ = group.parameters.values()
    once = Model()
    once.load_state_dict(sharding.whole({"unet": model})["unet"].state_dict())
    (2 * once(torch.ones(1, 4)).sum()).backward()
    torch.testing.assert_close(local(first.grad), once.blocks[0].inner.weight.grad)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_gradients_are_clipped_as_torch_clips_whole_ones(clip_norm: float) -> None:
    model, whole = Model(), Model()
    whole.load_state_dict(model.state_dict())
    sharding = Sharding(DistributedTable(), CPU, ONE)
    (group,) = sharding.divide({"unet": model}, [group_of(model)])
    for one in (model, whole):
        one(torch.ones(3, 4)).square().sum().backward()
    norm = sharding.clip([one.grad for one in group.parameters.values() if one.grad is not None], clip_norm)
    expected = torch.nn.utils.get_total_norm([one.grad for one in whole.parameters() if one.grad is not None])
    if clip_norm:
        torch.nn.utils.clip_grads_with_norm_(whole.parameters(), clip_norm, expected)
    torch.testing.assert_close(norm, expected)
    for one, other in zip(group.parameters.values(), (p for p in whole.parameters() if p.requires_grad), strict=True):
        torch.testing.assert_close(local(one.grad), other.grad)
