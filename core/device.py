"""Where training computes: accelerate for placement and precision, and batches moved ahead on a stream of their own."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import convert_outputs_to_fp32
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
        require_device(settings)
        self.accelerator = Accelerator(
            mixed_precision="bf16" if settings.precision == "bf16" else "no", cpu=settings.device == "cpu"
        )
        self.device: torch.device = self.accelerator.device
        self.is_cuda = self.device.type == "cuda"
        self.scales_gradients = settings.precision == "fp16"
        self._channels_last = settings.channels_last
        if self.is_cuda:
            set_tf32(allowed=settings.tf32)
        self._copies = torch.cuda.Stream(self.device) if self.is_cuda else None

    def prepare(self, module: ModuleLike) -> ModuleLike:
        """Move a trained module to the device and wrap it for precision (and, with several processes, for them).

        float16 is ours to arrange: accelerate's own asks the host about each step, and refuses the CPU.
        """
        if self._channels_last:
            channels_innermost(module)
        if self.scales_gradients:
            module.forward = convert_outputs_to_fp32(self._float16()(module.forward))
        prepared: ModuleLike = self.accelerator.prepare_model(module)
        return prepared

    def lay_out(self, latents: Tensor) -> Tensor:
        """Latents in the memory layout of the weights that they meet; (B, C, h, w) only, others stay."""
        if self._channels_last and latents.ndim == 4:
            return latents.contiguous(memory_format=torch.channels_last)
        return latents

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        return self.accelerator.prepare_optimizer(optimizer, device_placement=False)

    def bare(self, module: nn.Module) -> nn.Module:
        """The module without accelerate's wrappers."""
        unwrapped: nn.Module = self.accelerator.unwrap_model(module)
        return unwrapped

    def autocast(self) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = (
            self._float16() if self.scales_gradients else self.accelerator.autocast()
        )
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

    def _float16(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.float16)

    def _move(self, batch: Batch) -> Batch:
        return on_tensors(batch, lambda tensor: tensor.to(self.device, non_blocking=True))

    def _hand_over(self, batch: Batch, copied: torch.cuda.Event) -> Batch:
        """Let the training stream wait for the copy (the host does not) and keep the memory until it is used."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(copied)
        for tensor in tensors_of(batch):
            tensor.record_stream(stream)
        return batch


def require_device(settings: TrainTable) -> None:
    """Raises ConfigError where `train.device` is not there."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("config", ["train.device  'cuda', but torch sees no CUDA device; use auto or cpu"])


def channels_innermost(module: nn.Module) -> None:
    """Lay out weights of convolutions over pictures with channels innermost: the same values, and often faster kernels."""
    for weight in module.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.to(memory_format=torch.channels_last)


def set_tf32(*, allowed: bool) -> None:
    """Whether float32 products and convolutions on CUDA may round their factors to 10 bits; for the whole process.

    These two switches keep torch's older and newer views of the setting alike; inductor reads the older one.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
