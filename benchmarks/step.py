"""What a step of Signalbox takes beside a bare loop's, and what plugins add to it.

Each run trains for real, with the plugins that a config names by default, on one thread; in the handler that comes last at
`step.end` a bare loop takes a step on a copy of the modules (`bare_loop.py`). The ratio of the two, pair by pair, is what
counts; CPU time is that of the process with all its threads, and wall time is there to show waiting.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare_loop import WARM_UP, BareLoop
from benchmarks.figures import Figure, Options, Section, figure, ratios
from benchmarks.models import PIXELS, copy_starter, write_medium
from benchmarks.pictures import photograph, sources
from benchmarks.runs import execute

COUNT = 24
"""Pictures of the medium model's data."""
EMOJI = Path(__file__).parent.parent / "examples" / "emoji" / "pictures"
PLUGINS = ("plugins.progress_bar.ProgressBar", "plugins.metrics_file.MetricsFile")
NO_OPS = 20
LORA = '[[plugins]]\nuse = "plugins.lora.Lora"\n'
CONFIG = """
[run]
name = {name}
dir = {runs}
[model]
path = {model}
{train}
[data]
root = {data}
{sizes}
[cache]
dir = {cache}
latents = {is_cached}
text = {is_text_cached}
[train]
steps = {steps}
batch_size = {batch_size}
learning_rate = 1e-5
warmup_steps = 0
device = "cpu"
threads = 1
[checkpoint]
every_steps = 0
[preview]
every_steps = 0
at_start = false
at_end = false
[export]
at_end = false
[log]
level = "error"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of run."""

    model: str
    """`demo` or `medium`."""
    adapter: str = "full"
    is_cached: bool = True
    no_ops: int = 0
    """Plugins that handle every signal and do nothing, beside the default ones."""

    def __str__(self) -> str:
        return f"{self.model}, {self.adapter}, {'cached' if self.is_cached else 'uncached'}"


CASES = (
    Case(model="demo"), Case(model="demo", adapter="LoRA"),
    Case(model="medium"), Case(model="medium", adapter="LoRA"), Case(model="medium", is_cached=False),
    Case(model="medium", adapter="LoRA", is_cached=False),
)  # fmt: skip
PAIRS = {"demo": 12, "medium": 4}
"""Steps of each that a round asks for: those of the demo are short."""
TURNS = 2
QUICK = (Case(model="demo"),)
Times = tuple[list[float], list[float]]
"""CPU and wall seconds of each step."""


def measure(options: Options) -> list[Figure]:
    """Of each case the ratio to the bare loop, and what no-op plugins change of it."""
    cases = QUICK if options.is_quick else CASES
    places = {kind: prepare(options.folder, kind) for kind in {case.model for case in cases}}
    figures = []
    for case in cases:
        ours, bare = take(case, places[case.model], 4 if options.is_quick else options.rounds * PAIRS[case.model])
        name, goal = ("ours / bare loop", 1.02) if case.is_cached else ("ours / loop that loads and encodes", 1.0)
        figures += [
            figure(f"{case}: {name}, CPU", ratios(ours[0], bare[0]), "ratio", at_most=goal),
            figure(f"{case}: {name}, wall", ratios(ours[1], bare[1]), "ratio", at_most=goal),
            figure(f"{case}: a step of ours, CPU", [1e3 * one for one in ours[0]], "ms"),
            figure(f"{case}: a step of the loop, CPU", [1e3 * one for one in bare[0]], "ms"),
        ]
    return figures + plugins(options, places)


def plugins(options: Options, places: dict[str, Path]) -> list[Figure]:
    """How the ratio to the bare loop grows with plugins that do nothing on every signal; the two kinds of run take turns."""
    figures = []
    for model, place in places.items():
        pairs = 4 if options.is_quick else options.rounds * PAIRS[model] // 2
        found: dict[int, list[float]] = {0: [], NO_OPS: []}
        for _ in range(1 if options.is_quick else TURNS):
            for count, kept in found.items():
                ours, bare = take(Case(model=model, no_ops=count), place, pairs)
                kept += ratios(ours[0], bare[0])
        name = f"{model}: {NO_OPS} no-op plugins / none, CPU"
        figures.append(figure(name, ratios(found[NO_OPS], found[0]), "ratio", at_most=1.01))
    return figures


def prepare(folder: Path, kind: str) -> Path:
    """Model and data of a kind, once."""
    place = folder / kind
    if kind == "demo":
        place.mkdir()
        copy_starter(place / "model")
        shutil.copytree(EMOJI, place / "data")
        return place
    write_medium(place / "model")
    (place / "data").mkdir()
    found = sources()[1]
    for number in range(COUNT):
        path = place / "data" / f"{number:03}.jpg"
        photograph(found[number % len(found)], (400, 300), number).save(path, quality=92)
        path.with_suffix(".txt").write_text(f"a photograph of thing number {number}, in the light of the evening")
    return place


def take(case: Case, place: Path, pairs: int) -> tuple[Times, Times]:
    """(CPU, wall) seconds of each step of ours and of the bare loop, from a run of its own."""
    loop = train(case, place, pairs + WARM_UP + 1)
    ours, bare = loop.counted()
    return columns(ours), columns(bare)


def columns(pairs: list[tuple[float, float]]) -> Times:
    return [cpu for cpu, _ in pairs], [wall for _, wall in pairs]


def train(case: Case, place: Path, steps: int) -> BareLoop:
    """A run of its own with the bare loop in it."""
    path = place / "config.toml"
    path.write_text(config_text(case, place, steps))
    bus = execute(path)
    loop = bus.plugins["BareLoop"]
    assert isinstance(loop, BareLoop)
    return loop


def config_text(case: Case, place: Path, steps: int) -> str:
    is_demo = case.model == "demo"
    is_frozen = case.adapter == "LoRA" or not is_demo
    words = {
        "name": json.dumps("timed"), "runs": json.dumps(str(place / "runs")), "model": json.dumps(str(place / "model")),
        "data": json.dumps(str(place / "data")), "cache": json.dumps(str(place / "cache")), "steps": steps,
        "batch_size": 32 if is_demo else 4, "is_cached": json.dumps(case.is_cached),
        "is_text_cached": json.dumps(case.is_cached and is_frozen),
        "train": 'train = ["unet", "text_encoder"]\nfrom_scratch = ["unet", "text_encoder"]' if is_demo else 'train = ["unet"]',
        "sizes": "resolution = 32\nmax_aspect = 1.0" if is_demo else f"resolution = {PIXELS}\nmax_aspect = 1.0",
    }  # fmt: skip
    if is_demo and is_frozen:
        words["train"] = 'train = ["unet"]\nfrom_scratch = ["unet", "text_encoder"]'
    used = "".join(f'[[plugins]]\nuse = "{path}"\n' for path in PLUGINS)
    used += LORA if case.adapter == "LoRA" else ""
    used += "".join(
        f'[[plugins]]\nuse = "benchmarks.no_op.NoOp"\nname = "noop{number}"\n' for number in range(case.no_ops)
    )
    used += '[[plugins]]\nuse = "benchmarks.bare_loop.BareLoop"\n'
    if not case.is_cached:
        used += f"pictures = {json.dumps(str(place / 'data'))}\nbatch_size = 4\nside = {PIXELS}\n"
    return CONFIG.format(**words) + used


SECTION = Section(
    name="step", question="What does a step take beside a bare loop's, and what do plugins add?", measure=measure
)
