"""The one command that checks everything, and the only one that decides: format, lint, types, imports, tests.

The tests run as two halves beside each other, the trainer's and all others, since whole runs use one core; what looks at
runs from outside is with the others. Words behind
the command go to pytest, which then runs once.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECKS = (
    ("format", ("ruff", "format", "--check", ".")),
    ("lint", ("ruff", "check", ".")),
    ("types", ("mypy",)),
    ("imports", ("lint-imports",)),
)
HALVES = (
    ("tests/core", "--ignore=tests/core/history", "--ignore=tests/core/view"),
    ("--ignore-glob=tests/core/test_*.py",),
)


def main() -> int:
    """Run every check, also after one has failed; the exit code is 1 when any has."""
    failed = []
    for name, command in CHECKS:
        print(f"== {name}", flush=True)
        if subprocess.run(program(command), cwd=ROOT, check=False).returncode:
            failed.append(name)
    print("== tests", flush=True)
    if run_tests(sys.argv[1:]):
        failed.append("tests")
    print(f"== failed: {', '.join(failed)}" if failed else "== all checks passed", flush=True)
    return int(bool(failed))


def run_tests(words: Sequence[str]) -> bool:
    """Whether a test failed. The second half is shown once the first has ended."""
    if words:
        return bool(subprocess.run(program(("pytest", *words)), cwd=ROOT, check=False).returncode)
    first, second = (program(("pytest", *half)) for half in HALVES)
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as output:
        beside = subprocess.Popen(second, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=alone)
        try:
            failed = bool(subprocess.run(first, cwd=ROOT, check=False, env=alone).returncode)
            failed |= bool(beside.wait())
        finally:
            beside.kill()
        output.seek(0)
        print(output.read().decode(errors="replace"), flush=True)
    return failed


def program(command: Sequence[str]) -> list[str]:
    """Of this environment, activated or not."""
    return [str(Path(sys.executable).with_name(command[0])), *command[1:]]


if __name__ == "__main__":
    sys.exit(main())
