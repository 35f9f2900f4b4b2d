"""`python -m tests.faults F03`: shows on this machine that a fault is survived. `--all` prints the whole scorecard.

--cut and --long make fewer and more trials; --json FILE writes the results; --mutants breaks the product on purpose and
wants the campaign to notice.
"""

import argparse
import json
import sys
from pathlib import Path

from .bench import Size, warm_up
from .rows import Result, all_rows, run_row

SHOWN, SHOWN_CHARACTERS = 5, 4000
"""Problems of a row that are printed, and how much of each end of one."""


def main() -> int:
    """Exit code 0 when every row asked for passes, 1 when one fails, 2 for a wrong word."""
    words = arguments()
    rows = all_rows()
    wanted = list(rows) if words.all else words.rows
    unknown = [id for id in wanted if id not in rows]
    if unknown or not (wanted or words.mutants):
        print(f"there is no row {', '.join(unknown)}; " if unknown else "", f"rows: {' '.join(rows)}", sep="")
        return 2
    warm_up()
    size: Size = "long" if words.long else "cut" if words.cut else "short"
    if words.mutants:
        from .mutants import try_mutants

        return try_mutants(size, words.rows)
    results = []
    for id in wanted:
        results.append(run_row(rows[id], size))
        show(results[-1])
    if words.json:
        words.json.write_text(json.dumps([as_json(result) for result in results], indent=1) + "\n")
    return int(any(result.verdict == "fail" for result in results))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="F01 to F48, S1 to S13")
    parser.add_argument("--all", action="store_true", help="every row")
    parser.add_argument("--cut", action="store_true", help="as few trials as the test suite makes")
    parser.add_argument("--long", action="store_true", help="as many as a night allows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument(
        "--mutants", action="store_true", help="break the product on purpose; each break must be noticed"
    )
    return parser.parse_args()


def show(result: Result) -> None:
    for problem in result.problems[:SHOWN]:
        print(f"  {clipped(problem)}")
    if len(result.problems) > SHOWN:
        print(f"  and {len(result.problems) - SHOWN} more")
    notes = "".join(f", {count} {what}" for what, count in result.notes.items())
    seconds = f"{result.seconds:.1f} s ({result.cpu_seconds:.1f} s of CPU)"
    print(f"{result.row.title}, {seconds}{notes}\n{result.line}", flush=True)


def clipped(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[: SHOWN_CHARACTERS // 4]}\n  [...]\n{text[-3 * SHOWN_CHARACTERS // 4 :]}"


def as_json(result: Result) -> dict[str, object]:
    return {
        "id": result.row.id, "title": result.row.title, "verdict": result.verdict, "passed": result.passed,
        "problems": list(result.problems), "seconds": round(result.seconds, 2),
        "cpu_seconds": round(result.cpu_seconds, 2), "notes": dict(result.notes),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
