"""The one command that checks everything, and the only one that decides: format, lint, types, imports, tests.

The tests run in as many processes as there are cores, each with one thread, in an order that was drawn once, so that the
same code has the same answer; `python -m tests --randomly-seed=N` has another. What they leave behind, in the folder for
temporary files or in the tree, is a failure too. Words that are no options go to pytest alone, which then runs in one process.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

ROOT = Path(__file__).parent.parent
CHECKS = (
    ("format", ("ruff", "format", "--check", ".")),
    ("lint", ("ruff", "check", ".")),
    ("types", ("mypy",)),
    ("imports", ("lint-imports",)),
)
ORDER = "--randomly-seed=425692370"
EXPECTED = ("torchinductor_", "hypothesis", "torchelastic_", "pymp-")
"""What libraries keep for all processes, the folder that torchrun leaves after each launch, and sockets to the loader
processes of a trainer that a test has killed."""
IN_PARALLEL = ("-n", "logical", "--dist", "loadfile")  # the tests of a file share what they set up


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
    """Whether a test failed, or left something. Words of a user come last, and so do they count."""
    environment = {"PYTEST_DEBUG_TEMPROOT": gettempdir(), **os.environ}  # what failed tests have made stays
    if all(word.startswith("-") for word in words):
        words = (*IN_PARALLEL, ORDER, *words)
        environment["OMP_NUM_THREADS"] = "1"
    tree = files_in_the_tree()
    with TemporaryDirectory(prefix="tests-", ignore_cleanup_errors=True) as temporary:
        Path(temporary).chmod(0o755)  # for tests that are another user meanwhile
        environment["TMPDIR"] = temporary
        done = subprocess.run(program(("pytest", *words)), cwd=ROOT, check=False, env=environment)
        left = sorted({name for name in os.listdir(temporary) if not name.startswith(EXPECTED)})
    left += sorted(files_in_the_tree() - tree)
    if left:
        print(f"== left behind: {', '.join(left)}", flush=True)
    return bool(done.returncode or left)


def files_in_the_tree() -> set[str]:
    """Those that are not of the commit, git's ignored ones among them. None where there is no git."""
    status = ("git", "status", "--porcelain", "--ignored", "--untracked-files=all")
    try:
        done = subprocess.run(status, cwd=ROOT, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return set()
    return {line for line in done.stdout.splitlines() if "__pycache__" not in line}


def program(command: Sequence[str]) -> list[str]:
    """Of this environment, activated or not."""
    return [str(Path(sys.executable).with_name(command[0])), *command[1:]]


if __name__ == "__main__":
    sys.exit(main())
