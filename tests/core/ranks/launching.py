"""Runs of several real processes, started by `run.py --processes` or by accelerate; gloo moves their gradients."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.small_runs import ROOT, Run, sets
from tests.warm import Asked, run_warm

ACCELERATE = (
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no",
    "--dynamo_backend", "no", "--main_process_port", "0",
)  # fmt: skip
"""`--multi_gpu` is what it wants for several processes where there is no GPU too."""
TIMEOUT_SECONDS = 300


def train_in_processes(
    config: Path, *overrides: str, count: int = 2, by_accelerate: bool = False, options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None, cold: bool = False,
) -> Run:  # fmt: skip
    """Train and return the run; `run.name` is to be given by `overrides` where a test has several.

    `cold` starts the processes as a shell does, also those of accelerate; else they come out of one that is warm.
    """
    names = [word.partition("=")[2] for word in overrides if word.startswith("run.name=")]
    folder = config.parent / "runs" / (names[-1] if names else "test")
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(config.parent)}
    if not (cold or by_accelerate):
        code, output = run_warm(
            Asked(
                arguments=(str(config), *sets(overrides), *options), count=count, folder=str(config.parent),
                environment=variables | dict(environment or {}),
            ),
            TIMEOUT_SECONDS,
        )  # fmt: skip
        return Run(folder=folder, exit_code=code, output=output)
    done = subprocess.run(
        command(config, *overrides, count=count, by_accelerate=by_accelerate, options=options),
        capture_output=True, text=True, cwd=config.parent, timeout=TIMEOUT_SECONDS,
        env=variables | dict(environment or {}),
    )  # fmt: skip
    return Run(folder=folder, exit_code=done.returncode, output=done.stdout + done.stderr)


def train_here(config: Path, *overrides: str, accept_data_change: bool = False) -> Run:
    """Train in this process, which takes a second; what it does is bit for bit what a process of its own does."""
    import run
    from core.run.session import Session, configure
    from core.run_folder.folder import find_run

    loaded = run.load(config, list(overrides))
    bus, source = run.assemble_bus(loaded, config)
    loaded = configure(bus, loaded, str(config))
    outcome = Session(
        loaded, bus, source, find_run(loaded, fresh=False), accept_data_change=accept_data_change
    ).execute()
    return Run(folder=outcome.folder, exit_code=outcome.exit_code, bus=bus)


def command(
    config: Path, *overrides: str, count: int = 2, by_accelerate: bool = False, options: Sequence[str] = ()
) -> list[str]:
    """The words of the command line; one process needs no launcher."""
    arguments = [str(ROOT / "run.py"), str(config), *sets(overrides), *options]
    if by_accelerate:
        return [sys.executable, *ACCELERATE, "--num_processes", str(count), *arguments]
    return [sys.executable, *arguments, *(["--processes", str(count)] if count > 1 else [])]
