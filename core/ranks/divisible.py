"""Whether weights are divided in a run, and what of its config does not go together with that."""

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from events.watchdog import Running

from ..config.tables import Config
from ..errors import ConfigError
from .crew import Crew

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from .sharding import Sharding

log = logging.getLogger("signalbox.ranks")
KEY = "distributed.strategy"


def make_sharding(config: Config, device: torch.device, crew: Crew, running: Sequence[Running]) -> "Sharding | None":
    """How the trained modules are to be divided, or None where they are not. A collective.

    Raises ConfigError for settings that do not go together with it.
    """
    if config.distributed.strategy != "fsdp":
        return None
    if problems := setting_problems(config):
        raise ConfigError("config", problems)
    if not crew.are_several:
        log.info("%s 'fsdp' divides weights among processes, and this is one: it has them whole", KEY)
        return None
    from .divided_trial import optimizer_problem
    from .sharding import Sharding

    sharding = Sharding(config.distributed, device, crew, precision=config.train.precision, running=running)
    if problem := optimizer_problem(config.train, sharding.mesh):
        raise ConfigError("config", [problem])
    return sharding


def sharding_problems(config: Config) -> list[str]:
    """All that would keep the run from starting with divided weights, as far as one process can tell."""
    problems = setting_problems(config)
    from .divided_trial import optimizer_problem

    with mesh_of_one() as mesh:
        problem = optimizer_problem(config.train, mesh)
    return [*problems, problem] if problem else problems


def setting_problems(config: Config) -> list[str]:
    """Settings that divided weights do not go together with."""
    train, fsdp = config.train, f"{KEY} = 'fsdp'"
    problems = []
    if train.channels_last:
        problems.append(
            f"train.channels_last  lays weights out otherwise than by rows, in which {fsdp} divides them; set it to false"
        )
    if train.fused_backward:
        problems.append(
            f"train.fused_backward  updates weights before the processes have shared their gradients, and with {fsdp} no"
            " process keeps whole ones anyway; set it to false"
        )
    if train.compile:
        problems.append(
            f"train.compile  takes denoiser and loss as one graph, and {fsdp} gathers weights between layers, which breaks"
            " it; set it to false, or use ddp"
        )
    if train.precision == "fp16":
        problems.append(
            f"train.precision  'fp16' scales gradients, which is not done with {fsdp}; set train.precision = 'bf16', or use"
            " ddp"
        )
    if config.checkpoint.on_failure == "pause":
        problems.append(
            f"checkpoint.on_failure  'pause' writes the same checkpoint again, of which with {fsdp} every process has a part;"
            " use 'retry' or 'stop'"
        )
    return problems


@contextmanager
def mesh_of_one() -> "Generator[DeviceMesh, None, None]":
    """This process alone on the CPU, as a group among which weights could be divided."""
    import torch.distributed as dist
    from torch.distributed import HashStore  # type: ignore[attr-defined]  # public by its documentation
    from torch.distributed.device_mesh import DeviceMesh

    is_own = not dist.is_initialized()
    if is_own:
        dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield DeviceMesh.from_group(dist.new_group(ranks=[dist.get_rank()], backend="gloo"), "cpu")
    finally:
        if is_own:
            dist.destroy_process_group()
