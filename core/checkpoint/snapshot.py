"""Copies of device tensors on the host, from which a checkpoint is written while training goes on."""

import torch
from torch import Tensor


class Snapshot:
    """Host memory that is used again for each checkpoint, since touching new memory takes longer than copying.

    On CUDA it is pinned and the copies are enqueued behind the last step: the host waits for nothing, and the thread that
    writes calls `arrived` first. It holds one copy of whatever a checkpoint holds.
    """

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []
        self._taken = 0
        self._copied: torch.cuda.Event | None = None

    def begin(self) -> None:
        """Start anew; what was taken before is overwritten."""
        self._taken = 0
        self._copied = None

    def take(self, tensor: Tensor) -> Tensor:
        """A copy of the tensor on the host, complete once `arrived` returns.

        Tensors that come in the order of the time before, as those of a run do, find their memory again.
        """
        tensor, place = tensor.detach(), self._taken
        self._taken += 1
        if place == len(self._buffers) or not _fits(self._buffers[place], tensor):
            del self._buffers[place:]
            self._buffers.append(torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda))
        return self._buffers[place].copy_(tensor, non_blocking=tensor.is_cuda)

    def end(self) -> None:
        """Nothing more is taken; marks the place in the device's queue."""
        del self._buffers[self._taken :]
        if any(buffer.is_pinned() for buffer in self._buffers):
            self._copied = torch.cuda.Event()
            self._copied.record()

    def arrived(self) -> None:
        """Wait until every copy is complete."""
        if self._copied is not None:
            self._copied.synchronize()


def _fits(buffer: Tensor, tensor: Tensor) -> bool:
    return buffer.shape == tensor.shape and buffer.dtype == tensor.dtype and buffer.is_pinned() == tensor.is_cuda
