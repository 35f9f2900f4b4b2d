"""A part of the step whose trained weights every rank has whole: its backward pass takes the mean of their gradients.

It is the part that accelerate wraps for several processes, by torch's DistributedDataParallel, and not the modules that
the part calls. These stay what they are for whoever looks at them, renders with them or compiles the part.

Some weights may have no share in what a part returns, such as the last layer of a text encoder of which the states
before it are read. The others would wait for their gradients in vain; and torch, which can look for such weights in each
step, waits for the device to tell. So they are looked for once, in a trial before a session's first step.

In which order gradients of three and more ranks are added follows from how torch puts weights together, and that from the
order in which their gradients came the first time. A second trial is that time, so that a resumed run adds as the
unbroken one does.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from ..errors import ConfigError
from .crew import Crew

P = ParamSpec("P")
Result = TypeVar("Result")
NEVER = 1 << 30
"""Once in so many steps."""


class SharedPart(Generic[P, Result]):
    """Called as the part is; every rank calls it in the same rounds."""

    def __init__(
        self, part: Callable[P, Result], trial: Callable[P, Any], modules: Mapping[str, nn.Module],
        accelerator: Accelerator, crew: Crew,
    ) -> None:  # fmt: skip
        """`trial` takes what the part does, and calls the modules in the same way without doing more."""
        self._part, self._trial, self._modules = part, trial, modules
        self._accelerator, self._crew = accelerator, crew
        self._wrapped: Any = None
        self._idle: dict[str, nn.Parameter] = {}
        self._is_last_round = True

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> Result:
        """The first call is a collective, and so is the backward pass of a step's last round; none is without gradients."""
        if not torch.is_grad_enabled():
            return self._part(*arguments, **named)
        if self._wrapped is None:
            self._prepare(*arguments, **named)
        with nullcontext() if self._is_last_round else self._accelerator.no_sync(self._wrapped):
            result: Result = self._wrapped(*arguments, **named)
        return result

    @contextmanager
    def round(self, *, is_last: bool) -> Generator[None, None, None]:
        """Around a round of a step: gradients stay on their rank until the last."""
        self._is_last_round = is_last
        yield
        if is_last:
            self._refuse_newcomers()

    def _prepare(self, *arguments: P.args, **named: P.kwargs) -> None:
        """Before the first round: two trials, which leave no trace in gradients or random state. A collective."""
        device = self._accelerator.device
        trained = {name: weight for name, weight in self._weights() if weight.requires_grad}
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            reached = sums_of(self._trial(*arguments, **named))
            found = torch.autograd.grad(reached, list(trained.values()), allow_unused=True)
            self._idle = self._idle_on_all_ranks(trained, found)
            part = Part(self._trial, [*self._modules.values()])
            self._wrapped = self._wrap(part)
            reached = sums_of(self._wrapped(*arguments, **named))
            torch.autograd.backward(reached, inputs=[one for name, one in trained.items() if name not in self._idle])
            part.function = self._part
        torch.clear_autocast_cache()  # of casts that the trials' backward passes have used up
        for weight in trained.values():
            weight.grad = None

    def _idle_on_all_ranks(
        self, trained: Mapping[str, nn.Parameter], gradients: Sequence[Tensor | None]
    ) -> dict[str, nn.Parameter]:
        own = [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]
        everywhere = set.intersection(*map(set, self._crew.gather(own)))
        return {name: weight for name, weight in trained.items() if name in everywhere}

    def _wrap(self, part: "Part[P, Any]") -> Any:
        """By accelerate, which broadcasts the weights once; the idle ones are frozen meanwhile, so that it passes them over."""
        self._accelerator.ddp_handler = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        for weight in self._idle.values():
            weight.requires_grad_(False)
        try:
            wrapped = self._accelerator.prepare_model(part, device_placement=False)  # "cpu:0" would be another place
        finally:
            for weight in self._idle.values():
                weight.requires_grad_(True)
        vars(part).pop("forward", None)  # accelerate's, for a precision that the modules have already
        wrapped.broadcast_buffers = False  # they are the same on every rank and nothing writes to them
        wrapped._set_ddp_runtime_logging_sample_rate(NEVER)  # no public way; its statistics wait for the device
        return wrapped

    def _refuse_newcomers(self) -> None:
        """Raises ConfigError for a gradient that would stay on this rank."""
        came = [name for name, weight in self._idle.items() if weight.grad is not None]
        if came:
            raise ConfigError(
                "the processes",
                [
                    f"{came[0]} and {len(came) - 1} more weights have a gradient now and had none in the session's first step;"
                    " with several processes the same weights take part in every step: leave out what switches them"
                ],
            )

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, module in self._modules.items():
            for path, weight in module.named_parameters():
                yield f"{name}.{path}", weight


class Part(nn.Module, Generic[P, Result]):
    """A function as a module of those that it calls, as torch wants it to follow their gradients."""

    def __init__(self, function: Callable[P, Result], modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.function = function
        self._called = nn.ModuleList(modules)

    def forward(self, *arguments: P.args, **named: P.kwargs) -> Result:
        return self.function(*arguments, **named)


def sums_of(outputs: Any) -> list[Tensor]:
    """Of one tensor, or of several by name: of each that has a gradient."""
    tensors = outputs.values() if isinstance(outputs, Mapping) else [outputs]
    return [tensor.sum() for tensor in tensors if tensor.requires_grad]
