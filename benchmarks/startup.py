"""How long each command takes as a whole process, and training until the demo's first step has been taken."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, time

from benchmarks.figures import Figure, Options, Section, figure

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "config.toml"
COMMANDS = ("--help", "events", "plan", "check", "data")
MOST_ROUNDS = 3
GOAL_SECONDS = 10.0
QUIET = "preview.at_end=false", "export.at_end=false"
"""What comes after the first step."""
TRAINING = {
    "with a preview at start, caches empty": ("preview.at_start=true", False),
    "without a preview, caches empty": ("preview.at_start=false", False),
    "without a preview, caches filled": ("preview.at_start=false", True),
}
"""(a setting, whether the caches of the run before stay) by kind of start."""


def measure(options: Options) -> list[Figure]:
    """Commands in turns; what the disk had not read before is left out with the first round."""
    rounds = 1 if options.is_quick else min(options.rounds, MOST_ROUNDS)
    seconds: dict[str, list[float]] = {command: [] for command in COMMANDS[: 2 if options.is_quick else None]}
    steps: dict[str, list[float]] = {} if options.is_quick else {kind: [] for kind in TRAINING}
    for number in range(rounds + (not options.is_quick)):
        for command, taken in seconds.items():
            one = command_seconds(command)
            taken += [one] * bool(number or options.is_quick)
        for kind, taken in steps.items():
            one = first_step_seconds(options.folder, *TRAINING[kind])
            taken += [one] * bool(number)
    return [
        *(figure(f"first step of the demo, {kind}", taken, "s", at_most=GOAL_SECONDS) for kind, taken in steps.items()),
        *(figure(f"run.py {command}", taken, "s") for command, taken in seconds.items()),
    ]


def command_seconds(command: str) -> float:
    """The wall time of a command that ends by itself, interpreter included."""
    words = [] if command.startswith("-") or command == "events" else [str(DEMO)]
    begun = perf_counter()
    call(command, *words)
    return perf_counter() - begun


def first_step_seconds(folder: Path, setting: str, keeps_caches: bool) -> float:
    """From the start of `run.py train` to the end of the demo's first step, in a new run."""
    caches = folder / "cache" if keeps_caches else Path(tempfile.mkdtemp(dir=folder))
    noted, config = folder / "first-step", folder / "demo.toml"
    plugin = f'\n[[plugins]]\nuse = "benchmarks.first_step.FirstStep"\npath = {json.dumps(str(noted))}\n'
    config.write_text(DEMO.read_text(encoding="utf-8") + plugin, encoding="utf-8")
    values = (f"run.dir={folder / 'runs'}", f"cache.dir={caches}", setting, *QUIET)
    if keeps_caches and not caches.exists():
        call("train", str(config), *sets(values), "--fresh")
    begun = time()
    call("train", str(config), *sets(values), "--fresh")
    return float(noted.read_text()) - begun


def call(*words: str) -> None:
    """Raises RuntimeError, with what was said, for a command that fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"run.py {' '.join(words)} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-2000:]}"
        )


def sets(values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


SECTION = Section(
    name="startup", question="How long do the commands take, and training to its first step?", measure=measure
)  # fmt: skip
