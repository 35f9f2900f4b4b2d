"""An optimizer whose state DeepSpeed has divided among the processes, as it looks to those who know it undivided.

A process keeps its state for a flat share of each group's weights, cut wherever it falls. Here it is by weight, and whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import CheckpointError

Shares = Iterator[tuple[Tensor, Sequence[nn.Parameter]]]


ONE_FOR_ALL = frozenset({"step", "mu_product"})
"""What torch's optimizers keep of a weight that is no number for each of its numbers."""


class Engine(Protocol):
    """What is wanted of the engine that has divided it."""

    device: torch.device

    def step(self) -> bool:
        """Move the weights; whether they have moved."""

    def drop_gradients(self) -> None:
        """Forget them."""

    def shares(self) -> Shares:
        """By parameter group: this rank's share of the weights, flat, and the parameters that it is cut from."""


class DividedOptimizer(torch.optim.Optimizer):
    """Has the parameters of the modules, the rates that hold, and hooks that are called once a step.

    Its state is as that of the undivided one.
    """

    def __init__(self, divided: torch.optim.Optimizer, engine: Engine) -> None:
        """Before `divided` is taken over."""
        super().__init__([{**table, "params": [*table["params"]]} for table in divided.param_groups], divided.defaults)
        self.divided = divided
        self.found_inf = torch.zeros((), device=engine.device)
        """1 after a step that was left out, for hooks; torch's own optimizers have it too."""
        self._engine = engine

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # there never is one
        """Rates and whatever else is set of groups hold for it. Waits for the device; a collective."""
        for own, table in zip(self.param_groups, self.divided.param_groups, strict=True):
            table.update({key: value for key, value in own.items() if key != "params"})
        self.found_inf.fill_(float(not self._engine.step()))

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._engine.drop_gradients()

    def state_dict(self) -> dict[str, Any]:
        """Tensors are gathered as they are read, each a collective: every rank reads all of them, in their order."""
        entries = enumerate(self._whole_entries())
        return super().state_dict() | {"state": {number: one for number, one in entries if len(one)}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Raises CheckpointError for a state that cannot be divided."""
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        first = 0
        for share, parameters in self._engine.shares():
            entries = [state_dict["state"].get(first + place, {}) for place in range(len(parameters))]
            self.divided.state[share] = divided_entries(share, parameters, entries)
            first += len(parameters)

    def _whole_entries(self) -> Iterator["WholeEntries"]:
        for share, parameters in self._engine.shares():
            entries = self.divided.state.get(share) or {}
            yield from (WholeEntries(entries, parameter) for parameter in parameters)


class WholeEntries(Mapping[str, Any]):
    """What the optimizer keeps of one weight, each tensor gathered when it is read. A collective."""

    def __init__(self, entries: Mapping[str, Any], parameter: nn.Parameter) -> None:
        """`entries` are those of this rank's share of the weight's group."""
        self._entries, self._parameter = entries, parameter

    def __getitem__(self, key: str) -> Any:
        value = self._entries[key]
        if not isinstance(value, Tensor) or key in ONE_FOR_ALL:
            return value
        parameter = self._parameter
        whole = torch.zeros(parameter.shape, dtype=value.dtype, device=parameter.device)
        if place := own_part(parameter):
            whole.view(-1)[place.in_weight] = value[place.in_share].to(whole.device)
        dist.all_reduce(whole)
        return whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part of one weight that lies in this rank's share."""

    in_weight: slice
    """Of the weight's numbers, in order."""
    in_share: slice


def own_part(parameter: nn.Parameter) -> Part | None:
    """None where the weight lies in other ranks' shares."""
    found: Any = parameter._hp_mapping  # type: ignore[attr-defined]  # DeepSpeed's note of it
    if found is None:
        return None
    weight, share = found.lp_fragment_address, found.hp_fragment_address
    return Part(
        in_weight=slice(weight.start, weight.start + weight.numel),
        in_share=slice(share.start, share.start + share.numel),
    )


def divided_entries(
    share: Tensor, parameters: Sequence[nn.Parameter], entries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What an optimizer keeps of a flat share, from what it kept of each weight.

    Tensors are cut as the weights are, with 0 for one that has had no gradient yet; all else is one for the group.
    Raises CheckpointError where that differs from weight to weight.
    """
    known = [(one, parameter) for one, parameter in zip(entries, parameters, strict=True) if one]
    found: dict[str, Any] = {}
    for key in known[0][0] if known else ():
        values = [one[key] for one, _ in known]
        if isinstance(values[0], Tensor) and key not in ONE_FOR_ALL:
            found[key] = torch.zeros_like(share)
            for one, parameter in known:
                if place := own_part(parameter):
                    found[key][place.in_share] = one[key].flatten()[place.in_weight].to(share.device)
        elif len({number_of(value) for value in values}) > 1:
            raise CheckpointError(
                f"the checkpoint's optimizer has a {key} of {number_of(values[0])} for some weights of a group and another"
                " for others, and DeepSpeed keeps one for all; go on with distributed.strategy = 'ddp', or use --fresh to"
                " start anew"
            )
        else:
            found[key] = values[0].to(share.device, copy=True) if isinstance(values[0], Tensor) else values[0]
    return found


def number_of(value: Any) -> Any:
    return float(value) if isinstance(value, Tensor) else value
