"""The row about plugins that cannot be loaded."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.small_runs import ROOT

from .bench import Bench, Workspace
from .rows import row

CLEAN = "from events import Plugin, on\n\n\nclass Broken(Plugin):\n"
HANDLER = '    @on("{}")\n    {} note({}) -> None: ...\n'
MISTAKES: dict[str, tuple[str, str, str]] = {
    "import error": ("from events import nothing_of_the_kind\n", "", "cannot import name 'nothing_of_the_kind' from 'events'"),
    "syntax error": ("class Broken(:\n", "", "importing {module} failed: SyntaxError: invalid syntax ({module}.py, line 1)"),
    "missing dependency": ("import no_such_package\n", "", "it needs the package 'no_such_package', which is not installed"),
    "sys.exit() at import": ("import sys\nsys.exit(0)\n", "", "importing {module} failed: SystemExit: 0"),
    "no such class": ("from events import Plugin\n\nclass Brokem(Plugin): ...\n", "", "{module} has no Broken; did you mean 'Brokem'?"),
    "no plugin": ("class Broken: ...\n", "", "Broken is no subclass of events.Plugin"),
    "duplicate name": (CLEAN + "    pass\n", '\n[[plugins]]\nuse = "{module}.Broken"\n', "two plugins are named Broken; give one of them a name"),
    "unknown event": (CLEAN + HANDLER.format("step.ended", "def", "self, event"), "", "subscribes to 'step.ended', which is no signal; did you mean 'step.end'?"),
    "wrong signature": (CLEAN + HANDLER.format("step.end", "def", "self, step, loss"), "", "a handler of step.end takes (self, event): missing a required argument: 'loss'"),
    "unknown option": (CLEAN + "    pass\n", "colour = 1\n", "colour  is not a setting of {module}.Broken"),
    "async where it is not allowed": (CLEAN + HANDLER.format("step.end", "async def", "self, event"), "", "is async, but step.end must be handled before training goes on"),
    "fails when it is made": (CLEAN + "    def __init__(self, *arguments, **options) -> None:\n        raise ValueError('no')\n", "", "{module}.Broken cannot be made: ValueError('no')"),
}  # fmt: skip
"""What the plugin's file holds, what follows its table in the config, and what is said."""
AT_ONCE = 2
PROCESSES = {"cut": 2, "short": 50, "long": 200}


def mistaken(bench: Bench, number: int, name: str) -> Workspace:
    code, further, _ = MISTAKES[name]
    module = f"broken_{number}"
    work = bench.workspace(plugins=f'\n[[plugins]]\nuse = "{module}.Broken"\n' + further.format(module=module))
    (work.path / f"{module}.py").write_text(code)
    return work


def start_light(*words: str, seed: int = 0) -> "subprocess.Popen[str]":
    """`tests.faults.without_torch` in a process of its own with this hash seed."""
    command = [sys.executable, "-m", "tests.faults.without_torch", *words]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": str(seed)}, stdout=subprocess.PIPE, text=True
    )


def answer_of(process: "subprocess.Popen[str]") -> Any:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return json.loads(output.splitlines()[-1])


def orders_in(count: int) -> Iterator[list[str]]:
    """The order of equal handlers in so many processes, a few at a time."""
    for first in range(0, count, AT_ONCE):
        processes = [start_light("--order", seed=seed) for seed in range(first, min(first + AT_ONCE, count))]
        yield from [answer_of(process) for process in processes]


@row("F47", "a plugin that cannot be loaded", cut=13, short=13, long=13)
def loading(bench: Bench) -> None:
    """Said before torch is imported, with what to do; and equal priorities keep the order of the config in every process.

    There are no before and after constraints between plugins, only priorities, so there are no cycles to find.
    """
    works = [mistaken(bench, number, name) for number, name in enumerate(MISTAKES)]
    outcomes = answer_of(start_light(*(str(work.config) for work in works)))
    for number, (name, (code, output)) in enumerate(zip(MISTAKES, outcomes, strict=True)):
        with bench.trial(name):
            assert code == 2, f"exit code {code}: {output}"
            assert MISTAKES[name][2].format(module=f"broken_{number}") in output, output
            assert "Traceback" not in output, output
            assert not works[number].run.exists(), "the run has begun"
    with bench.trial(f"one order in {PROCESSES[bench.size]} processes"):
        for order in orders_in(PROCESSES[bench.size]):
            assert order == [f"plugin-{number}" for number in range(20)]
