"""Make anew whatever the pages show that follows from the code or from a run: `python docs/make.py [PART...]`.

    signals   docs/signals, a page for each signal of the catalogue
    schema    docs/config.schema.json
    plugins   the tables and pictures of docs/plugins.md
    plan      the plan and the chain of a signal in README.md, as `run.py plan` prints them
    demo      the picture at its head and the figures of the demo, from a finished run of config.toml (--run)
    view      the picture of the live view, of the same run; needs Chromium
    distributed   the sums of docs/distributed.md

Without a part, all of them. The test suite says which part is out of date.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from benchmarks.page import with_block  # noqa: E402  # the checkout's, found from anywhere

README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "images"
FIGURES = IMAGES / "demo.json"
"""What the demo's figures in README.md are made of."""
RECALL = re.compile(
    r"prompt recall at step (\d+): ([\d.]+) % of (\d+) captions rendered look most like their own of (\d+) pictures"
    r" \(chance ([\d.]+) %\)"
)
"""A line of the demo's log."""
TOLD = ("priority", "runs", "settings", "example", "before", "after", "the", "tokens")
"""What README.md shows of a handler, by the first word of its line."""
CHAIN = "examples/readme/chain.toml"
"""The config whose plan README.md shows."""


def main(words: Sequence[str] | None = None) -> int:
    """Make the parts that are named, in order."""
    parser = argparse.ArgumentParser(prog="python docs/make.py", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "demo", help="a finished run of config.toml")
    arguments = parser.parse_args(words)
    for name in arguments.parts or PARTS:
        print(name, flush=True)
        PARTS[name](arguments.run)
    return 0


def make_signals(run: Path) -> None:
    printed("events", "--write", "docs/signals")


def make_schema(run: Path) -> None:
    printed("schema", "--write", "docs/config.schema.json")


def make_plugins(run: Path) -> None:
    import make_plugin_pictures

    make_plugin_pictures.main()


def make_plan(run: Path) -> None:
    page = README.read_text(encoding="utf-8")
    README.write_text(with_block(page, "plan", plan_block()), encoding="utf-8")


def make_demo(run: Path) -> None:
    """Raises FileNotFoundError for a run that is not finished."""
    copyfile(run / "previews" / "evolution.png", IMAGES / "evolution.png")
    FIGURES.write_text(json.dumps(figures_of(run), indent=1) + "\n", encoding="utf-8")
    page = README.read_text(encoding="utf-8")
    README.write_text(with_block(page, "demo", demo_block(read_figures())), encoding="utf-8")


def make_view(run: Path) -> None:
    from tests.core.view.picture import take_picture

    take_picture(run, IMAGES / "live-view.png", height=1500)


def make_distributed_sums(run: Path) -> None:
    import make_distributed

    make_distributed.main()


PARTS: Mapping[str, Callable[[Path], None]] = {
    "signals": make_signals,
    "schema": make_schema,
    "plugins": make_plugins,
    "plan": make_plan,
    "demo": make_demo,
    "view": make_view,
    "distributed": make_distributed_sums,
}


def plan_block() -> str:
    """The config's plugins, and how its captions come about."""
    with TemporaryDirectory() as cache:  # what it learns of the pictures stays out of the checkout
        explained = printed(
            "plan",
            CHAIN,
            "--set",
            f"cache.dir={cache}",
            "--explain",
            "sample.caption",
            "--item",
            "hearts/red-heart.png",
        )
    tables = (ROOT / CHAIN).read_text(encoding="utf-8").partition("[[plugins]]")
    return "\n".join(
        (
            "```toml",
            f"{tables[1]}{tables[2]}".rstrip(),
            "```",
            "",
            f"`python run.py plan {CHAIN} --explain sample.caption` says, among others:",
            "",
            "```text",
            *shortened(explained.splitlines()),
            "```",
        )
    )


def shortened(lines: Sequence[str]) -> Iterator[str]:
    """Of each handler where it is, when it runs, and what it does to the example."""
    first = next(number for number, line in enumerate(lines) if line.startswith("1  "))
    for line in lines[first:]:
        word = line.strip().partition(" ")[0]
        if not line.startswith("  ") or word in TOLD:
            yield line.rstrip()


def figures_of(run: Path) -> dict[str, Any]:
    """What the demo took and how well it has learnt, as its files tell."""
    session = json.loads((run / "record" / "session.json").read_text(encoding="utf-8"))
    if session["status"] != "complete":
        raise FileNotFoundError(f"{run} is {session['status']}; finish it first")
    lines = (run / "log.jsonl").read_text(encoding="utf-8")
    names = ("step", "per_cent", "count", "pictures", "chance_per_cent")
    recall = [dict(zip(names, map(float, found), strict=True)) for found in RECALL.findall(lines)]
    return {
        "date": session["ended"][:10],
        "steps": session["step"],
        "seconds": round(sum(session["seconds"].values())),
        "torch": session["versions"]["torch"].partition("+")[0],
        "recall": [recall[0], recall[-1]],
    }


def read_figures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return found


def demo_block(figures: Mapping[str, Any]) -> str:
    """The paragraph about the demo."""
    first, last = figures["recall"]
    hits = round(first["per_cent"] * first["count"] / 100)
    return (
        f"On two cores of an x86 server without a GPU the run took {figures['seconds']} seconds for its"
        f" {figures['steps']:,} steps, previews and\nmeasurements included ({figures['date']}, torch"
        f" {figures['torch']}). How well the model knows its captions is measured before\nand after: captions of the"
        f" training set are rendered, and the nearest training picture in latent space was the caption's\nown for"
        f" {hits or 'none'} of {first['count']:.0f} before the first step, and for {last['per_cent']:.1f} % of all"
        f" {last['count']:.0f} after the last; chance is {last['chance_per_cent']:.1f} %."
    )


def printed(*words: str) -> str:
    """What a command of run.py prints."""
    done = subprocess.run(
        [sys.executable, "run.py", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise RuntimeError(f"run.py {' '.join(words)} failed: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
