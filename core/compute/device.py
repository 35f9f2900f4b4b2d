"""Where training computes: accelerate for placement and precision, and batches moved ahead on a stream of their own."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import InitProcessGroupKwargs, convert_outputs_to_fp32
from torch import Tensor, nn

from events.payloads import Batch

from ..config.tables import TrainTable
from ..errors import ConfigError
from ..ranks.crew import ONE, Crew
from ..ranks.shared import SharedPart
from .tensors import on_tensors, tensors_of

if TYPE_CHECKING:
    from ..ranks.deepspeed import Engine
    from ..ranks.sharding import Sharding

ModuleLike = TypeVar("ModuleLike", bound=nn.Module)
P = ParamSpec("P")
Result = TypeVar("Result")


class Device:
    """One training device behind accelerate; of several processes, this one's."""

    def __init__(self, settings: TrainTable, crew: Crew = ONE, *, timeout_seconds: float = 600.0) -> None:
        """`timeout_seconds` is how long ranks wait for each other in a step. A collective where there are several."""
        if settings.threads:
            torch.set_num_threads(settings.threads)
        require_device(settings)
        self.accelerator = Accelerator(
            mixed_precision="bf16" if settings.precision == "bf16" else "no", cpu=settings.device == "cpu" or (crew.are_several and not torch.cuda.is_available()),  # else it sees one process
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=timeout_seconds))],
        )  # fmt: skip
        self.ranks = crew
        self._shared: list[SharedPart[Any, Any]] = []
        self.sharding: Sharding | None = None
        """How trained modules are divided among ranks, set before they are prepared; None where each has them whole."""
        self.engine: Engine | None = None
        """DeepSpeed's, which takes the steps, set before the step is composed; None where it is not used."""
        if crew.are_several:
            crew.join(timeout_seconds)
        self.device: torch.device = self.accelerator.device
        # accelerate imports DeepSpeed where it is installed, which else says on the terminal what it has found
        os.environ.setdefault("DS_ACCELERATOR", self.device.type)
        self.is_cuda = self.device.type == "cuda"
        self.scales_gradients = settings.precision == "fp16"
        self._channels_last = settings.channels_last
        if self.is_cuda:
            set_tf32(allowed=settings.tf32)
        self._copies = torch.cuda.Stream(self.device) if self.is_cuda else None

    def prepare(self, module: ModuleLike) -> ModuleLike:
        """Move a trained module to the device and wrap its forward pass for precision.

        float16 is ours to arrange: accelerate's own asks the host about each step, and refuses the CPU.
        """
        if self._channels_last:
            channels_innermost(module)
        if self.scales_gradients:
            module.forward = convert_outputs_to_fp32(self._float16()(module.forward))
        if self.sharding is not None:  # which has put it where it belongs
            if self.accelerator.mixed_precision == "bf16":
                module.forward = convert_outputs_to_fp32(self.accelerator.autocast()(module.forward))
            return module
        prepared: ModuleLike = self.accelerator.prepare_model(module, evaluation_mode=True)  # see `shared`
        return prepared

    def shared(
        self, part: Callable[P, Result], modules: Mapping[str, nn.Module], *, trial: Callable[P, Any] | None = None
    ) -> Callable[P, Result]:
        """A part of the step that calls these modules, whose gradients are then added up over ranks; alone, as it is.

        `trial` stands in for the part where it is tried which weights take part; left out: the part itself.
        """
        trained = {
            name: module
            for name, module in modules.items()
            if any(weight.requires_grad for weight in module.parameters())
        }
        if not self.ranks.are_several or self.sharding is not None or not trained:
            return part
        if self.engine is not None:
            return self.engine.shared(part)
        shared = SharedPart(part, trial or part, trained, self.accelerator, self.ranks)
        self._shared.append(shared)
        return shared

    @contextmanager
    def adding_up(self, *, is_last: bool) -> Generator[None, None, None]:
        """Around a round of a step: gradients stay on their rank until the last."""
        if self.sharding is not None:
            self.sharding.add_up(is_last=is_last)
        with ExitStack() as stack:
            for part in self._shared:
                stack.enter_context(part.round(is_last=is_last))
            yield

    @property
    def divides(self) -> bool:
        """Whether ranks keep parts of what is trained, so that none can save it by itself."""
        return self.sharding is not None or self.engine is not None

    def lay_out(self, latents: Tensor) -> Tensor:
        """Latents in the memory layout of the weights that they meet; (B, C, h, w) only, others stay."""
        if self._channels_last and latents.ndim == 4:
            return latents.contiguous(memory_format=torch.channels_last)
        return latents

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        return self.accelerator.prepare_optimizer(optimizer, device_placement=False)

    def autocast(self) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = (
            self._float16() if self.scales_gradients else self.accelerator.autocast()
        )
        return context

    def backward(self, loss: Tensor) -> None:
        backward = self.accelerator.backward if self.engine is None else self.engine.backward
        backward(loss)

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
        self._shared.clear()
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
