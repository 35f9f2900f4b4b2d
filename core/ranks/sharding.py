"""Weights that are divided among the processes of a run: torch's `fully_shard` over trained modules, layer by layer (FSDP).

Each rank keeps its rows of every weight, and so of its gradient and of what the optimizer keeps of it. A layer's rows
are gathered for as long as the layer computes. So every forward pass is a collective, and all ranks make the same ones.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from events.errors import PluginError
from events.payloads import ParameterGroup
from events.watchdog import Running

from ..config.tables import DistributedTable
from ..errors import ConfigError
from .crew import Crew

log = logging.getLogger("signalbox.ranks")
Copy = Callable[[Tensor], Tensor]


class Sharding:
    """How the trained modules of one run are divided."""

    def __init__(
        self, settings: DistributedTable, device: torch.device, crew: Crew, *, precision: str = "fp32",
        running: Sequence[Running] = (),
    ) -> None:  # fmt: skip
        """`running` are the bus's handlers that go on, by which a forward pass on one rank alone is refused.

        A collective, after `crew.join`.
        """
        self._settings = settings
        self._device = device
        self._crew = crew
        self._running = running
        self._computes_in = torch.bfloat16 if precision == "bf16" else None
        everybody: Any = dist.group.WORLD  # None before there is one
        self.mesh = DeviceMesh.from_group(everybody, device.type)
        self.savers: Any = dist.new_group(backend="gloo", timeout=timedelta(seconds=settings.wait_seconds))
        """For what the threads that write checkpoints exchange, beside whatever the training thread does."""
        self._on_host = DeviceMesh.from_group(self.savers, "cpu")
        self._divided: dict[str, nn.Module] = {}
        self._hollow: dict[str, nn.Module] = {}
        """The modules as they were before, without values."""

    def divide(self, modules: Mapping[str, nn.Module], groups: Sequence[ParameterGroup]) -> tuple[ParameterGroup, ...]:
        """Divide the modules in place, on their way to the device; returns the groups with what has become of their parameters.

        Names and order stay. A collective. Raises ConfigError for layers to wrap that there are not, and for what
        cannot be divided.
        """
        kinds = self._kinds(modules)
        places = {id(one): (name, path) for name, module in modules.items() for path, one in module.named_parameters()}
        whole = sum(one.nbytes for module in modules.values() for one in module.parameters())
        for name, module in modules.items():
            self._divided[name], self._hollow[name] = module, without_values(module)
            self._divide(name, module, kinds)
        found = {(name, path): one for name, module in modules.items() for path, one in module.named_parameters()}
        divided = tuple(_with_divided(group, places, found) for group in groups)
        own = sum(local(one).nbytes for one in found.values())
        log.info(
            "%s divided among %d processes: %.1f of %.1f MB of weights are kept by this one",
            ", ".join(modules), self._crew.count, own / 1e6, whole / 1e6,
        )  # fmt: skip
        return divided

    def add_up(self, *, is_last: bool) -> None:
        """Before a round of a step. Gradients are shared out in every round; or, where layers stay gathered, in the last."""
        for module in self._divided.values():
            if isinstance(module, FSDPModule):
                module.set_requires_gradient_sync(is_last or self._settings.reshard_after_forward)

    def clip(self, gradients: Sequence[Tensor], clip_norm: float) -> Tensor:
        """The norm of all gradients over all ranks, before they are scaled down to `clip_norm`, where that is not 0.

        One number is summed over ranks. Nothing waits for the device, unless gradients are kept on the host.
        """
        own = [local(one) for one in gradients]
        square = torch.nn.utils.get_total_norm(own, foreach=True).to(self._device).square()
        dist.all_reduce(square, group=self.mesh.get_group())
        norm = square.sqrt()
        if clip_norm:
            factor = (clip_norm / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grads_with_norm_ has it
            torch._foreach_mul_(own, factor.to(own[0].device))
        return norm

    def part(self, tensor: Any, copy_of: Copy) -> Tensor:
        """What this rank puts into a checkpoint: of what is divided its rows on the host, copied by `copy_of`.

        Other tensors are the same on every rank, and the main rank's count. Called for the same tensors by all ranks.
        """
        if is_in_rows(tensor):
            return like_rows(copy_of(local(tensor)), tensor, self._on_host)
        whole: Tensor = tensor.full_tensor() if is_divided(tensor) else tensor
        return copy_of(whole) if self._crew.is_main else whole

    def whole(self, modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
        """The modules with undivided weights on the host, on the main rank; those that are not divided as they are.

        A collective; one weight at a time is whole on each device. On other ranks they have no values.
        """
        found: dict[str, nn.Module] = {}
        for name, module in modules.items():
            if name not in self._hollow:
                found[name] = module
                continue
            state = {key: self._gathered(tensor) for key, tensor in module.state_dict().items()}
            found[name] = copy.deepcopy(self._hollow[name])
            if self._crew.is_main:
                found[name].load_state_dict(state, assign=True)
        return found

    def _gathered(self, tensor: Any) -> Tensor:
        whole: Tensor = tensor.detach().to(self._device).full_tensor() if is_divided(tensor) else tensor.detach()
        return whole.cpu() if self._crew.is_main else torch.empty_like(whole, device="meta")

    def _kinds(self, modules: Mapping[str, nn.Module]) -> frozenset[str]:
        """Names of the classes of layers that are divided one by one."""
        known = {type(part).__name__ for module in modules.values() for part in module.modules()}
        if not self._settings.wrap:
            return frozenset(name for module in modules.values() for name in repeated_layers(module)) & known
        if strange := [name for name in self._settings.wrap if name not in known]:
            repeated = sorted(
                frozenset(name for module in modules.values() for name in repeated_layers(module)) & known
            )
            raise ConfigError(
                "config",
                [
                    f"distributed.wrap  {strange[0]!r} is no class of a layer of {', '.join(modules)}; the model repeats"
                    f" {', '.join(repeated) or 'none that it names'}"
                ],
            )
        return frozenset(self._settings.wrap)

    def _divide(self, name: str, module: nn.Module, kinds: frozenset[str]) -> None:
        alone = {one for one in module.parameters() if not one.ndim}
        if any(one.requires_grad for one in alone):
            path = next(path for path, one in module.named_parameters() if not one.ndim and one.requires_grad)
            raise ConfigError(
                "config",
                [f"distributed.strategy  'fsdp' cannot divide {name}.{path}, a single number; freeze it, or use ddp"],
            )
        options: dict[str, Any] = {"mesh": self.mesh, "ignored_params": alone, "offload_policy": self._offload()}
        layers = [part for part in module.modules() if part is not module and type(part).__name__ in kinds]
        for part in reversed(layers):  # those within others first
            if next(part.parameters(), None) is not None:
                fully_shard(
                    part,
                    reshard_after_forward=self._settings.reshard_after_forward,
                    mp_policy=self._policy(),
                    **options,
                )
        fully_shard(module, mp_policy=self._policy(), **options)
        module.to(self._device)  # what is not divided
        module.register_forward_pre_hook(self._refuse_alone, prepend=True)

    def _policy(self) -> MixedPrecisionPolicy:
        """Rows travel in the precision of the forward pass, and gradients in float32.

        What goes into a layer is left to autocast, which casts nothing that needs its precision, such as timesteps.
        """
        if self._computes_in is None:
            return MixedPrecisionPolicy(cast_forward_inputs=False)
        return MixedPrecisionPolicy(
            param_dtype=self._computes_in, reduce_dtype=torch.float32, cast_forward_inputs=False
        )

    def _offload(self) -> OffloadPolicy:
        return CPUOffloadPolicy(pin_memory=self._device.type == "cuda") if self._settings.offload else OffloadPolicy()

    def _refuse_alone(self, module: nn.Module, inputs: Any) -> None:
        """Raises PluginError where a handler computes with what is divided and does not say that all ranks do so with it."""
        for handler, _ in self._running:
            if not handler.is_collective:
                raise PluginError(
                    f"plugin {handler.plugin}: {handler.label} at {handler.signal} computes with a model whose weights are"
                    " divided among the processes (distributed.strategy = 'fsdp'), which all of them have to do together;"
                    ' leave the plugin out, use ddp, or write a handler with ranks="all", collective=True that computes as'
                    " often on every rank",
                    plugin=handler.plugin, signal=handler.signal,
                )  # fmt: skip


def local(tensor: Any) -> Tensor:
    """This rank's rows of what is divided; else the tensor."""
    found: Tensor = tensor.detach().to_local() if is_divided(tensor) else tensor
    return found


def is_divided(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor)


def is_in_rows(tensor: Tensor) -> bool:
    """Whether a tensor is divided by its first dimension, as weights and what is made of them are."""
    return isinstance(tensor, DTensor) and tensor.placements == (Shard(0),)


def like_rows(rows: Tensor, divided: DTensor, mesh: DeviceMesh | None = None) -> DTensor:
    """These rows as this rank's part of a tensor that is divided as another is; `mesh`: among the ranks of that one."""
    with torch.no_grad():
        return DTensor.from_local(
            rows, mesh or divided.device_mesh, divided.placements, run_check=False, shape=divided.shape,
            stride=torch.empty(divided.shape, device="meta").stride(),
        )  # fmt: skip


def divided_by_rows(whole: Tensor, mesh: DeviceMesh) -> DTensor:
    """This rank's rows of a tensor that every rank has whole, as its part of it."""
    rows = rows_of(len(whole), mesh)
    return DTensor.from_local(
        whole[rows.start : rows.stop].clone(), mesh, (Shard(0),), run_check=False, shape=whole.shape,
        stride=whole.stride(),
    )  # fmt: skip


def own_rows(divided: DTensor) -> range:
    """Which rows of the whole are this rank's."""
    return rows_of(len(divided), divided.device_mesh)


def rows_of(count: int, mesh: DeviceMesh) -> range:
    """This rank's of so many rows: a share of them, rounded up; for the last ranks fewer may be left, or none."""
    each = -(-count // mesh.size())
    first = min(mesh.get_local_rank() * each, count)
    return range(first, min(first + each, count))


def repeated_layers(module: nn.Module) -> Iterator[str]:
    """Names of the classes that the libraries say a model repeats, or does not want to be taken apart."""
    for part in module.modules():
        for said in ("_no_split_modules", "_repeated_blocks"):
            yield from getattr(part, said, None) or ()


def without_values(module: nn.Module) -> nn.Module:
    """A copy whose weights have shapes and no values, on torch's meta device; no value is copied on the way."""
    memo: dict[int, Any] = {
        id(one): nn.Parameter(torch.empty_like(one, device="meta"), requires_grad=one.requires_grad)
        for one in module.parameters()
    }
    return copy.deepcopy(module, memo)


def _with_divided(
    group: ParameterGroup, places: Mapping[int, tuple[str, str]], found: Mapping[tuple[str, str], nn.Parameter]
) -> ParameterGroup:
    """The group with the parameters that now stand where its own stood."""
    divided: dict[str, nn.Parameter] = {}
    for name, one in group.parameters.items():
        place = places.get(id(one))
        if place is None:
            raise ConfigError(
                "config",
                [
                    f"distributed.strategy  'fsdp' divides the weights of the trained modules, and {name} of the group"
                    f" {group.name} is in none of them; leave out the plugin that made it, or use ddp"
                ],
            )
        divided[name] = found[place]
    return replace(group, parameters=divided)
