"""The stand-in for CUDA's detector of waits raises at each call that would make the host wait, and at no other."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.core.sync_detector import HostWaits, SyncDetector

VALUES, ONE = torch.tensor([1.0, 0.0, 2.0]), torch.tensor(1)
ANY_ONE: Any = ONE
MASK, PLACES = torch.tensor([True, False, True]), torch.tensor([0, 1])
WAITS: dict[str, Callable[[], Any]] = {
    "item": lambda: ONE.item(),
    "tolist": lambda: VALUES.tolist(),
    "cpu": lambda: VALUES.cpu(),
    "to cpu": lambda: VALUES.to("cpu"),
    "to device cpu": lambda: VALUES.to(device="cpu", dtype=torch.float64),
    "numpy": lambda: VALUES.numpy(),
    "an array of it": lambda: np.asarray(VALUES, copy=None),
    "bool": lambda: bool(ONE),
    "if": lambda: 1 if (VALUES > 0).any() else 2,
    "int": lambda: int(ONE),
    "float": lambda: float(ONE),
    "complex": lambda: complex(ONE),
    "as an index of a list": lambda: [0, 1][ONE],
    "math": lambda: math.sqrt(ONE),
    "as an index of no dimension": lambda: VALUES[ONE],
    "as a bound of a slice": lambda: VALUES[:ONE],
    "a mask as index": lambda: VALUES[MASK],
    "a mask as index to write to": lambda: VALUES.clone().index_put_((MASK,), VALUES[:2]),
    "a list as index": lambda: VALUES[[0, 1]],
    "nonzero": lambda: VALUES.nonzero(),
    "where of a mask alone": lambda: torch.where(MASK),
    "argwhere": lambda: torch.argwhere(VALUES),
    "is_nonzero": lambda: ONE.is_nonzero(),
    "masked_select": lambda: VALUES.masked_select(MASK),
    "equal": lambda: torch.equal(VALUES, VALUES),
    "allclose": lambda: torch.allclose(VALUES, VALUES),
    "in": lambda: 1.0 in VALUES,
    "unique": lambda: VALUES.unique(),
    "unique by a dimension": lambda: VALUES[:, None].unique(dim=0),
    "unique_consecutive": lambda: VALUES.unique_consecutive(),
    "bincount": lambda: PLACES.bincount(),
    "repeat_interleave by counts": lambda: VALUES.repeat_interleave(PLACES.new_zeros(3)),
    "multinomial": lambda: torch.multinomial(VALUES, 1),
    "inverse": lambda: torch.linalg.inv(torch.eye(2)),
    "as the number of a fill": lambda: torch.full((2,), ANY_ONE),
    "as the factor of a sum": lambda: torch.add(VALUES, VALUES, alpha=ANY_ONE),
    "print": lambda: repr(VALUES),
    "format": lambda: f"{ONE}",
    "a tensor of numbers": lambda: torch.tensor([1.0]),
    "as_tensor": lambda: torch.as_tensor([1.0]),
    "new_tensor": lambda: VALUES.new_tensor([1.0]),
    "from an array": lambda: torch.from_numpy(np.zeros(2)),
    "max of Python": lambda: max(VALUES),
}
GOES_ON: dict[str, Callable[[], Any]] = {
    "arithmetic": lambda: (VALUES * 2 + ONE).sum().sqrt(),
    "constants": lambda: (torch.zeros(3), torch.full((3,), 2.0), torch.arange(3), torch.zeros_like(VALUES)),
    "places as index": lambda: VALUES[PLACES],
    "a number as index": lambda: VALUES[1:][0],
    "where": lambda: torch.where(MASK, VALUES, 0.0),
    "masked_fill": lambda: VALUES.masked_fill(MASK, 0.0),
    "draws": lambda: torch.randn(3, generator=torch.Generator().manual_seed(1)),
    "to the device": lambda: VALUES.to(VALUES.device, non_blocking=True),
    "to a dtype": lambda: VALUES.to(torch.bfloat16).float(),
    "copies that nobody waits for": lambda: VALUES.to("cpu", non_blocking=True),
    "norm and clip": lambda: torch.nn.utils.clip_grad_norm_([parameter()], 1.0, foreach=True),
    "a fused optimizer": lambda: fused_step(),
    "looking at shapes": lambda: (VALUES.shape, len(VALUES), VALUES.device, VALUES.dtype, VALUES.numel(), id(VALUES)),
}


def parameter() -> Tensor:
    held = torch.ones(3, requires_grad=True)
    held.grad = torch.ones(3)
    return held


def fused_step() -> None:
    optimizer: Any = torch.optim.AdamW([parameter()], fused=True)
    optimizer.found_inf = torch.zeros(())
    optimizer.step()


@pytest.mark.parametrize("name", WAITS)
def test_it_raises_where_the_host_would_wait(name: str) -> None:
    WAITS[name]()
    with SyncDetector() as detector, pytest.raises(HostWaits, match="makes the host wait for the device"):
        WAITS[name]()
    assert len(detector.found) == 1


@pytest.mark.parametrize("name", GOES_ON)
def test_it_lets_pass_what_is_only_enqueued(name: str) -> None:
    with SyncDetector() as detector:
        GOES_ON[name]()
    assert detector.found == []


def test_it_sees_the_operators_of_the_backward_pass() -> None:
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            return value * 1

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * float(gradient.sum())

    loss = Reads.apply(parameter()).sum()  # type: ignore[no-untyped-call]
    with SyncDetector(), pytest.raises(HostWaits, match="_local_scalar_dense"):
        loss.backward()


def test_it_lets_the_host_work_while_it_pauses_and_comes_to_its_end() -> None:
    with SyncDetector() as detector:
        with detector.paused():
            assert ONE.item() == 1
        with pytest.raises(HostWaits):
            ONE.item()
    assert ONE.item() == 1


def test_it_ends_after_it_has_raised() -> None:
    with pytest.raises(HostWaits), SyncDetector():
        ONE.item()
    assert ONE.item() == 1
