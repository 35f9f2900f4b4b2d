"""The one command that checks everything, and the only one that decides: format, lint, types, imports, tests."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECKS = (
    ("format", ("ruff", "format", "--check", ".")),
    ("lint", ("ruff", "check", ".")),
    ("types", ("mypy",)),
    ("imports", ("lint-imports",)),
    ("tests", ("pytest", *sys.argv[1:])),
)


def main() -> int:
    """Run every check, also after one has failed; the exit code is 1 when any has."""
    failed = []
    for name, (program, *arguments) in CHECKS:
        print(f"== {name}", flush=True)
        beside = Path(sys.executable).with_name(program)  # of this environment, activated or not
        if subprocess.run([str(beside), *arguments], cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(f"== failed: {', '.join(failed)}" if failed else "== all checks passed", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
