"""What a launcher tells a process of its place among the others; read without torch.

`accelerate launch`, `torchrun` and `run.py --processes` all say it in the same variables.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from events.ranks import Ranks

from ..errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Ranks):
    """Of one process among those of its run, before they have joined."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    """Its number on its machine, by which it takes a device."""
    local_count: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    """Where the launcher keeps the board."""
    is_launched: bool = False
    """Whether a launcher has started it, be it as the only one."""

    def own_file(self, path: Path | None) -> Path | None:
        """Where this rank writes what each writes by itself: as it was asked for on the main rank."""
        return path if path is None or self.is_main else path.with_name(f"{path.stem}-rank-{self.rank}{path.suffix}")


def read_place(environment: Mapping[str, str] | None = None) -> Place:
    """Where this process stands. Raises ConfigError for variables that contradict each other."""
    said = os.environ if environment is None else environment
    _refuse_another_engine(said)
    if "RANK" not in said or "WORLD_SIZE" not in said:
        _refuse_a_lonely_one(said)
        return Place()
    try:
        count = int(said["WORLD_SIZE"])
        place = Place(
            rank=int(said["RANK"]), count=count, local_rank=int(said.get("LOCAL_RANK", said["RANK"])),
            local_count=int(said.get("LOCAL_WORLD_SIZE", count)),
            host=said.get("MASTER_ADDR", "127.0.0.1"), port=int(said.get("MASTER_PORT", "0")), is_launched=True,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError("the environment", [f"RANK, WORLD_SIZE and their like are no numbers: {error}"]) from None
    if not 0 <= place.rank < place.count:
        raise ConfigError("the environment", [f"RANK={place.rank} is none of WORLD_SIZE={place.count}"])
    if not 0 <= place.local_rank < place.local_count <= place.count:
        found = f"LOCAL_RANK={place.local_rank} is none of LOCAL_WORLD_SIZE={place.local_count}"
        raise ConfigError("the environment", [f"{found}, which is at most WORLD_SIZE={place.count}"])
    if place.count > 1 and not place.port:
        raise ConfigError("the environment", ["MASTER_PORT is missing, by which the processes find each other"])
    return place


def own_place() -> Place:
    """As `read_place`, for a process that is about to end: alone where the variables make no sense."""
    with suppress(ConfigError):
        return read_place()
    return Place()


def _refuse_another_engine(said: Mapping[str, str]) -> None:
    """accelerate would wrap the model behind the back of `distributed.strategy`."""
    for name, strategy in (("ACCELERATE_USE_DEEPSPEED", "deepspeed"), ("ACCELERATE_USE_FSDP", "fsdp")):
        if said.get(name, "false").lower() == "true":
            raise ConfigError(
                "the environment",
                [
                    f"accelerate launch was told to use {strategy} (--use_{strategy}, or its config file, or {name}); leave"
                    f" that out and set distributed.strategy = '{strategy}'"
                ],
            )


def _refuse_a_lonely_one(said: Mapping[str, str]) -> None:
    """accelerate starts one process where it sees no GPU, whatever number it was told, and then leaves this trace."""
    if "ACCELERATE_MIXED_PRECISION" in said and "MASTER_PORT" in said:
        raise ConfigError(
            "the environment",
            [
                "accelerate launch was told to start several processes and started one, as it does where it sees no GPU;"
                " add --multi_gpu, which it takes for several processes on CPUs too, or use run.py --processes N"
            ],
        )
