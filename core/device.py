"""Where training computes: accelerate for placement and precision, and batches moved ahead on a stream of their own."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor, nn

from events.payloads import Batch

from .config import TrainTable
from .errors import ConfigError
from .tensors import on_tensors, tensors_of

ModuleLike = TypeVar("ModuleLike", bound=nn.Module)


class Device:
    """One training device behind accelerate."""

    def __init__(self, settings: TrainTable) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("config", ["train.device  'cuda', but torch sees no CUDA device; use auto or cpu"])
        self.accelerator = Accelerator(
            mixed_precision="bf16" if settings.precision == "bf16" else "no", cpu=settings.device == "cpu"
        )
        self.device: torch.device = self.accelerator.device
        self.is_cuda = self.device.type == "cuda"
        self._copies = torch.cuda.Stream(self.device) if self.is_cuda else None

    def prepare(self, module: ModuleLike) -> ModuleLike:
        """Move a trained module to the device and wrap it for precision (and, with several processes, for them)."""
        prepared: ModuleLike = self.accelerator.prepare_model(module)
        return prepared

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        return self.accelerator.prepare_optimizer(optimizer, device_placement=False)

    def bare(self, module: nn.Module) -> nn.Module:
        """The module without accelerate's wrappers."""
        unwrapped: nn.Module = self.accelerator.unwrap_model(module)
        return unwrapped

    def autocast(self) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = self.accelerator.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def ahead(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Batches on the device. On CUDA the next one is copied from pinned memory while the current one is used."""
        if self._copies is None:
            yield from (self._move(batch) for batch in batches)
            return
        moved: tuple[Batch, torch.cuda.Event] | None = None
        for batch in batches:
            with torch.cuda.stream(self._copies):
                following = self._move(batch), self._copies.record_event()
            if moved is not None:
                yield self._hand_over(*moved)
            moved = following
        if moved is not None:
            yield self._hand_over(*moved)

    def close(self) -> None:
        """Forget accelerate's process-wide settings, so that the next run in this process may have others.

        accelerate offers no public way; its own tests do the same.
        """
        self.accelerator.free_memory()
        AcceleratorState._reset_state()
        PartialState._reset_state()

    def _move(self, batch: Batch) -> Batch:
        return on_tensors(batch, lambda tensor: tensor.to(self.device, non_blocking=True))

    def _hand_over(self, batch: Batch, copied: torch.cuda.Event) -> Batch:
        """Let the training stream wait for the copy (the host does not) and keep the memory until it is used."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(copied)
        for tensor in tensors_of(batch):
            tensor.record_stream(stream)
        return batch
