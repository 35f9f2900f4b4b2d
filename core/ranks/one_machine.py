"""What the ranks of one machine are told of each other, and where they meet: within the machine alone."""

import os
import socket
import sys
from collections.abc import Mapping

import psutil
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public by its documentation

from ..errors import ConfigError

HOST = "127.0.0.1"


def require_devices(count: int, device: str) -> None:
    """Raises ConfigError where there are GPUs, but fewer than ranks; `device` is `train.device`."""
    there = torch.cuda.device_count() if device != "cpu" else 0
    if 0 < there < count:
        raise ConfigError(
            "--processes",
            [f"{count} processes want a GPU each, and there are {there}; ask for {there}, or set train.device = 'cpu'"],
        )


def open_store() -> TCPStore:
    """Of a run on this machine, hence out of reach of any other; torch by itself would listen on all of its addresses."""
    listening = socket.create_server((HOST, 0))
    port = listening.getsockname()[1]
    return TCPStore(HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())


def environment(rank: int, count: int, port: int) -> Mapping[str, str]:
    """As torchrun says it; what somebody has set stays: the threads, which are divided, and by which interface gloo speaks."""
    threads = max(1, len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else (0,)) // count)
    said = {
        "RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": HOST,
        "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0,
    }  # fmt: skip
    unless_set = {"OMP_NUM_THREADS": threads, "GLOO_SOCKET_IFNAME": loopback()}
    said |= {name: os.environ.get(name, value) for name, value in unless_set.items()}
    return {name: str(value) for name, value in said.items() if value is not None}


def loopback() -> str | None:
    """The interface by which processes of this machine alone are reached; gloo would take one by the machine's name."""
    found = psutil.net_if_addrs().items()
    return next((name for name, addresses in found if any(one.address == HOST for one in addresses)), None)


def own_variables() -> dict[str, str]:
    """As this process found them: the command line has set one of them for loader workers, which would keep a rank from
    finding the modules beside run.py."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH" or sys.flags.safe_path}
