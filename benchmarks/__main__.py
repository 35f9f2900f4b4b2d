"""How fast Signalbox is, measured here: `python -m benchmarks`, or with names of sections.

Prints a table a section, and writes all figures as JSON and as a picture. The exit code is 1 where a goal is missed by
more than the noise of its rounds, or a section fails.
"""

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from benchmarks.figures import Options, Section
from benchmarks.output import Result, machine, tables_of, write_json
from run import ENVIRONMENT

SECTIONS = (
    "benchmarks.step", "benchmarks.peers", "benchmarks.dispatch", "benchmarks.lanes", "benchmarks.checkpoints",
    "benchmarks.startup", "benchmarks.data", "benchmarks.scale", "benchmarks.scaling",
)  # fmt: skip
"""Modules with a SECTION each, in the order in which they run. A further one is a module and a word here."""
ROUNDS, QUICK_ROUNDS = 11, 2
WIDTH = 130


def main(words: Sequence[str] | None = None, modules: Sequence[str] = SECTIONS) -> int:
    """Measure what is asked for; `words` are those of the command line."""
    arguments = parse(words, modules)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "MKL_CBWR"):
        os.environ.setdefault(name, ENVIRONMENT[name])
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    console, facts, results = console_of(), machine(), list[Result]()
    console.print(words_on(facts))
    for module in modules:
        if arguments.sections and name_of(module) not in arguments.sections:
            continue
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
            options = Options(
                rounds=rounds, is_quick=arguments.quick, folder=Path(folder), peers=dict(arguments.peer or ())
            )
            results.append(measured(module, options))
        show(console, results[-1], is_judged=not arguments.quick)
        write_json(arguments.out, facts, results, rounds=rounds, is_quick=arguments.quick)
    from benchmarks.plot import draw

    console.print(f"figures: {arguments.out}")
    if draw(results, arguments.plot, words_on(facts)):
        console.print(f"picture: {arguments.plot}")
    return exit_code(results, is_judged=not arguments.quick)


def parse(words: Sequence[str] | None, modules: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [name_of(module) for module in modules]
    parser.add_argument("sections", nargs="*", choices=[*names, []], help=f"of {', '.join(names)}; all if none")
    parser.add_argument("--rounds", type=int, help=f"how often contenders take turns; {ROUNDS} when left out")
    parser.add_argument("--quick", action="store_true", help="small sizes that show that it works; nothing is judged")
    parser.add_argument("--out", type=Path, default=Path("benchmarks.json"), help="where the figures go")
    parser.add_argument("--plot", type=Path, default=Path("benchmarks.png"), help="where the picture goes")
    parser.add_argument(
        "--peer", action="append", type=named_path, metavar="NAME=PATH", help="a training script of others; repeatable"
    )
    return parser.parse_args(words)


def measured(module: str, options: Options) -> Result:
    """The section's figures, or why there are none; then the others go on all the same."""
    begun, section = perf_counter(), Section(name=name_of(module), question="", measure=lambda _: [])
    try:
        section = import_module(module).SECTION
        figures = tuple(section.measure(options))
    except Exception as error:
        traceback.print_exc()
        return Result(section=section, seconds=perf_counter() - begun, figures=(), error=repr(error))
    return Result(section=section, seconds=perf_counter() - begun, figures=figures)


def show(console: Console, result: Result, *, is_judged: bool) -> None:
    if result.error:
        console.print(f"[bold red]{result.section.name} has failed:[/] {result.error}")
    else:
        for part in tables_of(result, is_judged=is_judged):
            console.print(part)
    console.print(f"[dim]{result.section.name} took {result.seconds:.0f} s\n")


def console_of() -> Console:
    """As wide as the terminal; into a file or a pipe wide enough for the names."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def exit_code(results: Sequence[Result], *, is_judged: bool) -> int:
    """1 where a section failed or, if goals are judged, one is missed."""
    return int(any(result.error or (is_judged and not result.is_good) for result in results))


def name_of(module: str) -> str:
    return module.rpartition(".")[2]


def named_path(word: str) -> tuple[str, Path]:
    """Raises ValueError for what is no NAME=PATH, which argparse tells."""
    name, sign, path = word.partition("=")
    if not (name and sign and path):
        raise ValueError(word)
    return name, Path(path)


def words_on(facts: dict[str, Any]) -> str:
    return (
        f"{facts['gpu'] or facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, load {facts['load']},"
        f" Python {facts['python']}, torch {facts['torch']}, {facts['date']}"
    )


if __name__ == "__main__":
    sys.exit(main())
