"""Stands for CUDA's own detector of waits where there is no CUDA: it raises where the host would wait for the device.

On the CPU every tensor counts as one of the device, so what belongs to the host, such as loading, is done while it pauses.
It sees the calls of the thread that has entered it: functions of torch, since `.cpu()` and `.numpy()` of a CPU tensor are
never dispatched, and operators as they are dispatched. Of the backward pass it sees operators alone.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

FUNCTIONS = frozenset(
    ("item", "tolist", "cpu", "numpy", "__array__", "__bool__", "__int__", "__float__", "__complex__", "__index__",
     "__contains__", "__repr__", "__format__", "is_nonzero", "tensor", "as_tensor", "new_tensor")
)  # fmt: skip
"""Of torch and its tensors, that give the host numbers of the device, or send it numbers from memory that is not pinned."""
OPERATORS = frozenset(
    ("_local_scalar_dense", "is_nonzero", "nonzero", "nonzero_numpy", "masked_select", "equal", "allclose",
     "unique_dim", "unique_consecutive", "unique_dim_consecutive", "_unique", "_unique2", "bincount", "histc",
     "multinomial", "lift_fresh", "_linalg_check_errors")
)  # fmt: skip
"""Of ATen, whose result the host has to see before it can go on, or that copy a number of the host to the device."""


class HostWaits(AssertionError):
    """What would make the host wait."""


class SyncDetector:
    """Raises HostWaits where the host would wait for the device, until it is left; `found` has what it has seen."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._is_paused = False
        self._modes = ExitStack()

    def __enter__(self) -> Self:
        self._modes.enter_context(_Operators(self._refuse))
        self._modes.enter_context(_Functions(self._refuse))
        return self

    def __exit__(self, *_: object) -> None:
        self._modes.close()

    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        """While the host works on tensors of its own."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def _refuse(self, what: str) -> None:
        if not self._is_paused:
            self.found.append(what)
            raise HostWaits(f"{what} makes the host wait for the device")


class _Functions(TorchFunctionMode):
    """Sees what is called of torch, but for what its own functions call."""

    def __init__(self, refuse: Callable[[str], None]) -> None:
        super().__init__()
        self._refuse = refuse

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in FUNCTIONS or (name == "to" and _is_to_the_host(args[1:], kwargs or {})):
            self._refuse(name)
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    """Sees every ATen operator."""

    def __init__(self, refuse: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of torch
        self._refuse = refuse

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in OPERATORS or _depends_on_values(func, args):
            self._refuse(str(func))
        return func(*args, **(kwargs or {}))


def _is_to_the_host(arguments: Sequence[Any], options: Mapping[str, Any]) -> bool:
    """Of `Tensor.to`: a device that is written out as "cpu". One that is held is the device of the test itself."""
    names_host = "cpu" in [one for one in (*arguments, options.get("device")) if isinstance(one, str)]
    return names_host and not options.get("non_blocking", False)


def _depends_on_values(func: Any, args: Sequence[Any]) -> bool:
    """Whether the result's shape follows from a tensor's numbers: a mask as index, counts of repetitions."""
    if func is torch.ops.aten.repeat_interleave.Tensor:
        return True
    if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default):
        return any(isinstance(one, Tensor) and one.dtype in (torch.bool, torch.uint8) for one in args[1])
    return False
