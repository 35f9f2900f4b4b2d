"""Steps that DeepSpeed takes: each process keeps a share of the optimizer's state, and from ZeRO stage 2 on of the gradients.

Modules stay whole on every process, in float32, and are what counts: a process's share of the weights is read from them
before each step. So previews, averages and exports see what they see under ddp.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from events.payloads import ParameterGroup

from ..compute.device import Device
from ..config.tables import Config
from ..errors import ConfigError
from ..step.fused_backward import hook_owner
from ..step.update import Outcome, for_all_ranks
from .deepspeed_checks import deepspeed_problems, optimizer_problems
from .divided_optimizer import DividedOptimizer

log = logging.getLogger("signalbox.ranks")
P = ParamSpec("P")
Result = TypeVar("Result")
LARGEST_BUCKET = 50_000_000
"""Numbers that are exchanged at once; DeepSpeed reserves memory for as many gradients."""
NEVER = 1 << 30
"""Once in so many steps."""


class Engine:
    """DeepSpeed's engine over all that is trained."""

    def __init__(
        self, config: Config, device: torch.device, groups: Sequence[ParameterGroup], optimizer: torch.optim.Optimizer
    ) -> None:
        """A collective, once the process group is there. Takes the optimizer over: `self.optimizer` stands for it.

        Raises ConfigError for settings and optimizers that it does not go together with.
        """
        kind = type(optimizer)
        problems = deepspeed_problems(config) or optimizer_problems(f"{kind.__module__}.{kind.__name__}")
        problems += [
            f"distributed.strategy  'deepspeed' cannot take {name}, a single number; freeze it, or use ddp"
            for group in groups for name, one in group.parameters.items() if not one.ndim
        ]  # fmt: skip
        if problems:
            raise ConfigError("config", problems)
        self.device = device
        deepspeed = load_deepspeed(device, config.distributed.timeout_seconds)
        weights = [one for group in groups for one in group.parameters.values()]
        table = engine_table(config, device, sum(one.numel() for one in weights))
        self.optimizer = DividedOptimizer(optimizer, self)
        self._engine: Any
        self._engine, *_ = deepspeed.initialize(model=Through(weights), optimizer=optimizer, config=table)
        self._weights = weights
        self._hooks = self._count_hooks()
        log.info(
            "DeepSpeed %s, ZeRO stage %d: the optimizer's state of %.1f of %.1f MB of weights is kept by this process",
            deepspeed.__version__, config.distributed.zero_stage,
            sum(share.nbytes for share, _ in self.shares()) / 1e6, sum(one.nbytes for one in weights) / 1e6,
        )  # fmt: skip

    def shared(self, part: Callable[P, Result]) -> Callable[P, Result]:
        """A part of the step, by way of the engine, which prepares itself for its gradients."""

        def through(*arguments: P.args, **named: P.kwargs) -> Result:
            result: Result = self._engine(part, *arguments, **named)
            return result

        return through

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss, scale_wrt_gas=False)

    def step(self) -> bool:
        """Take the mean of the gradients over ranks, clip it and move the weights; whether they have moved.

        Where it is not finite, they have not, on any rank. Waits for the device. A collective.
        """
        self._zero.refresh_fp32_params()
        self._engine.step()
        return bool(self._engine.was_step_applied())

    def norm(self) -> Tensor:
        """Of the gradients of the last step, before they were scaled down; infinite where it was not finite."""
        return torch.as_tensor(self._engine.get_global_grad_norm(), dtype=torch.float32, device=self.device)

    def drop_gradients(self) -> None:
        self._zero.zero_grad(set_to_none=True)

    def shares(self) -> Iterator[tuple[Tensor, list[nn.Parameter]]]:
        """By parameter group: this rank's share of the weights, flat, and the parameters that it is cut from."""
        yield from zip(self._zero.single_partition_of_fp32_groups, self._zero.bit16_groups, strict=True)

    def require_no_hooks(self) -> None:
        """Raises ConfigError where a plugin wants to see gradients, which are whole on no rank when it would."""
        hooks = [*self.optimizer._optimizer_step_pre_hooks.values()]  # torch has no public way to ask for them
        owner = hook_owner(hooks[0]) if hooks else "a plugin" if self._count_hooks() != self._hooks else ""
        if owner:
            raise ConfigError(
                "config",
                [
                    f"distributed.strategy  'deepspeed' and hooks on gradients, here one of {owner}, exclude each other:"
                    " gradients are added up and divided by DeepSpeed itself; leave that plugin out, or use ddp"
                ],
            )

    @property
    def _zero(self) -> Any:
        return self._engine.optimizer

    def _count_hooks(self) -> int:
        return sum(len(one._post_accumulate_grad_hooks or ()) for one in self._weights)


class DeepSpeedUpdate:
    """Leaves clipping, adding up over ranks and the update to the engine, once for all rounds of a step."""

    def __init__(self, engine: Engine, device: Device) -> None:
        self.is_torn = False
        self._engine = engine
        self._device = device

    def begin(self) -> None:
        self._engine.require_no_hooks()

    def round(self, *, is_last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        self._device.backward(for_all_ranks(loss, self._device.ranks.count))

    def finish(self, loss: Tensor) -> Outcome:
        """Waits for the device once or twice, since DeepSpeed asks whether the norm is finite."""
        self.is_torn = True
        self._engine.optimizer.step()
        norm = self._engine.norm()
        return Outcome(norm=norm, bad=~(loss.isfinite() & norm.isfinite()))

    def drop_gradients(self) -> None:
        self._engine.drop_gradients()

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """There is none."""


class Through(nn.Module):
    """What the engine takes for its model: it holds the weights, and calls whatever part of the step it is given."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self, part: Callable[P, Result], *arguments: P.args, **named: P.kwargs) -> Result:
        return part(*arguments, **named)


def load_deepspeed(device: torch.device, timeout_seconds: float) -> Any:
    """The library, told of the device and of the processes that there are. A collective.

    It reads the device from the environment as it is imported, would compile a C++ extension to speak between processes
    on a CPU, and gives its own group of processes torch's time limit for lack of another.
    """
    os.environ["DS_ACCELERATOR"] = device.type
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed
    from deepspeed.utils import groups

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", r"`torch\.distributed\.all_gather_into_tensor`", FutureWarning)  # it calls that
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed()
    everyone = list(range(dist.get_world_size()))
    groups._WORLD_GROUP = dist.new_group(everyone, timeout=timedelta(seconds=timeout_seconds))
    return deepspeed


def engine_table(config: Config, device: torch.device, elements: int) -> dict[str, Any]:
    """DeepSpeed's config for `elements` trained numbers. Batches, rounds, rates and precision stay ours."""
    zero: dict[str, Any] = {
        "stage": config.distributed.zero_stage,
        "overlap_comm": False,
        "reduce_bucket_size": min(elements, LARGEST_BUCKET),
        "allgather_bucket_size": LARGEST_BUCKET,  # it wants an even number
    }
    if config.distributed.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": device.type == "cuda"}
    return {
        "train_micro_batch_size_per_gpu": config.train.batch_size,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.train.clip_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": NEVER,
    }
