"""A trial of an optimizer on small weights that are divided among processes, beside the same weights whole.

Most optimizers treat every number of a weight by itself, and rows are as good for them as the whole. Others look at a
weight as a whole, or are written in kernels that know nothing of rows; which ones, only trying tells.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from events.payloads import ParameterGroup

from ..config.tables import TrainTable
from ..step.evaluation_weights import has_evaluation_weights
from ..step.optimizer import make_optimizer, optimizer_problems
from .sharding import divided_by_rows, is_in_rows

SHAPES = ((6, 4), (5,), (4, 2, 3, 3))
STEPS = 2
RELATIVE, ABSOLUTE = 1e-4, 1e-6
"""How far results may be apart; sums over rows come in another order."""
UNFUSED = {"fused": False, "foreach": True}
"""Options of torch's own optimizers, whose fused kernels do not all know of rows."""


def optimizer_problem(settings: TrainTable, mesh: DeviceMesh) -> str:
    """What keeps the optimizer of `train.optimizer` from training divided weights; empty for nothing.

    Nothing is said of one that does not even train whole ones here, such as one that needs a GPU. A collective over the
    mesh, and the same on all ranks.
    """
    problem = next(filter(None, (_problem(settings, shape, mesh) for shape in SHAPES)), "")
    if not problem:
        return ""
    remedy = "use one that treats every number by itself, such as torch.optim.AdamW, or distributed.strategy = 'ddp'"
    unfused = settings.model_copy(update={"optimizer_options": {**settings.optimizer_options, **UNFUSED}})
    if not optimizer_problems(unfused) and not any(_problem(unfused, shape, mesh) for shape in SHAPES):
        remedy = "its other kernels can: set train.optimizer_options = { fused = false, foreach = true }"
    return f"train.optimizer  {settings.optimizer} {problem}; {remedy}"


def _problem(settings: TrainTable, shape: tuple[int, ...], mesh: DeviceMesh) -> str:
    weight = _filled(shape).to(mesh.device_type)
    try:
        expected, _ = _trained(weight.clone(), settings)
    except Exception:  # each has its own way of failing, and whoever makes the real one tells
        return ""
    try:
        found, state = _trained(divided_by_rows(weight, mesh), settings)
    except Exception as error:  # likewise
        return f"cannot train weights that are divided among processes ({error!s:.120})"
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim and not (is_in_rows(value) and value.shape == found.shape):
            return f"keeps {key!r} of a weight, which is neither divided as the weight is nor a single number"
    gathered = found.full_tensor() if isinstance(found, DTensor) else found
    if not torch.allclose(gathered, expected, rtol=RELATIVE, atol=ABSOLUTE):
        return "makes something else of weights that are divided among processes than of whole ones"
    return ""


def _trained(weight: Tensor, settings: TrainTable) -> tuple[Tensor, Mapping[str, Any]]:
    """What the weight is after a few steps, and what the optimizer keeps of it."""
    parameter = nn.Parameter(weight)
    group = ParameterGroup(
        name="trial", parameters={"weight": parameter}, learning_rate=1e-2, weight_decay=settings.weight_decay
    )
    optimizer: Any = make_optimizer((group,), settings)
    if has_evaluation_weights(optimizer):
        optimizer.train()
    for step in range(STEPS):
        parameter.grad = parameter.detach() * (0.5 - step) + 0.1
        optimizer.step()
    return parameter.detach(), optimizer.state[parameter]


def _filled(shape: tuple[int, ...]) -> Tensor:
    return torch.linspace(-1.0, 1.0, torch.Size(shape).numel()).sin().reshape(shape)
