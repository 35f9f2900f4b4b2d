"""Two launchers that are told they were those of two machines train one run: as near to two machines as one comes."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.core.ranks.launching import TIMEOUT_SECONDS
from tests.small_runs import ROOT, sets

ACCELERATE = (
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "2", "--num_processes", "2", "--mixed_precision",
    "no", "--dynamo_backend", "no", "--main_process_ip", "127.0.0.1",
)  # fmt: skip


def test_they_train_one_run_that_the_first_of_them_keeps(write_config: Callable[..., Path]) -> None:
    config, port = write_config(), free_port()
    words = (*ACCELERATE, "--main_process_port", str(port), str(ROOT / "run.py"), str(config), *sets(["train.steps=2"]))
    machines = [launcher(config.parent, "--machine_rank", number, words) for number in ("0", "1")]
    said = [machine.communicate(timeout=TIMEOUT_SECONDS)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], "".join(said)
    assert "complete at step 2" in said[0]
    assert "complete at step 2" not in said[1]
    left = {path.name for path in (config.parent / "runs" / "test").iterdir()}
    assert {"log.jsonl", "log-rank-1.jsonl", "checkpoints"} <= left
    assert [path.name for path in (config.parent / "runs" / "test" / "checkpoints").glob("step-*")] == ["step-00000002"]


def launcher(folder: Path, key: str, number: str, words: Sequence[str]) -> subprocess.Popen[str]:
    """That of one machine."""
    module, *rest = words[1:]
    return subprocess.Popen(
        [sys.executable, words[0], module, key, number, *rest], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)},
    )  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
