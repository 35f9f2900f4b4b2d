"""What only a GPU can show, on the one that is here: the tests that are marked `gpu`, and the step in its forms.

    python -m benchmarks.gpu [--write docs/performance.md]

Prints a block of Markdown, and with `--write` puts it into a page in place of the one that the page has of this card. The
exit code is 1 when a test or a form has failed, and 2 when there is no CUDA device.
"""

import argparse
import gc
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu_meter import Measured
from benchmarks.models import PIXELS, write_medium
from benchmarks.page import block_in, with_block
from benchmarks.runs import execute

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "examples" / "emoji" / "pictures"
NAME = "gpu"
"""Of the place on the page."""
WARM_UP, STEPS = 30, 100
NO_CUDA = 2
CONFIG = """
[run]
name = "gpu"
dir = {runs}
[model]
path = {model}
train = ["unet"]
[data]
root = {data}
resolution = {pixels}
max_aspect = 1.0
short_batches = "fill"
[cache]
dir = {cache}
text = true
[train]
batch_size = 4
learning_rate = 1e-5
warmup_steps = 0
[checkpoint]
every_steps = 0
[preview]
every_steps = 0
at_start = false
at_end = false
[export]
at_end = false
[log]
every_steps = 50
"""
LORA = '[[plugins]]\nuse = "plugins.lora.Lora"\n'
DEFAULT = "".join(
    f'[[plugins]]\nuse = "plugins.{name}"\n'
    for name in ("progress_bar.ProgressBar", "metrics_file.MetricsFile", "ema.Ema")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form of the step."""

    name: str
    settings: tuple[str, ...] = ()
    plugins: str = ""


BF16 = "train.precision=bf16"
FORMS = (
    Form(name="float32", settings=("train.tf32=false",)),
    Form(name="float32, TF32"),
    Form(name="float32, TF32, compiled", settings=("train.compile=true",)),
    Form(name="fp16", settings=("train.precision=fp16",)),
    Form(name="bf16", settings=(BF16,)),
    Form(name="bf16, with the default plugins", settings=(BF16,), plugins=DEFAULT),
    Form(name="bf16, channels last", settings=(BF16, "train.channels_last=true")),
    Form(name="bf16, compiled", settings=(BF16, "train.compile=true")),
    Form(name="bf16, compiled, channels last", settings=(BF16, "train.compile=true", "train.channels_last=true")),
    Form(name="bf16, gradient checkpointing", settings=(BF16, "train.gradient_checkpointing=true")),
    Form(name="bf16, fused backward", settings=(BF16, "train.fused_backward=true", "train.clip_norm=0")),
    Form(name="bf16, LoRA of rank 16", settings=(BF16, "train.learning_rate=1e-4"), plugins=LORA),
    Form(name="bf16, batch of 32", settings=(BF16, "train.batch_size=32")),
    Form(name="bf16, batch of 32, compiled", settings=(BF16, "train.batch_size=32", "train.compile=true")),
)
"""Each once, on the UNet of 35 million parameters."""
COLUMNS = ("step", "steps/s", "pictures/s", "ms a step", "peak memory", "first step")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the tests marked `gpu` have said."""

    passed: int
    failed: tuple[str, ...]
    """Their names."""


def main(words: Sequence[str] | None = None) -> int:
    """Test, measure, print, and write where that is asked for."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="a page with the two markers, such as docs/performance.md"
    )
    arguments = parser.parse_args(words)
    if not torch.cuda.is_available():
        print("torch sees no CUDA device here, so there is nothing to test or measure")
        return NO_CUDA
    if arguments.write:
        block_in(arguments.write.read_text(encoding="utf-8"), NAME)  # before the minutes that the rest takes
    tested = run_tests()
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        config = write_config(Path(folder), write_medium(Path(folder) / "model"))
        rows = [(form.name, try_to_measure(config, form)) for form in FORMS]
    block = block_of(card(), facts(), tested, rows)
    print(block)
    if arguments.write:
        page = arguments.write.read_text(encoding="utf-8")
        arguments.write.write_text(with_card(page, card(), block), encoding="utf-8")
    return int(bool(tested.failed) or any(isinstance(one, str) for _, one in rows))


def run_tests(*words: str) -> Verdict:
    """Run the tests marked `gpu` in a process of their own; `words` go to pytest."""
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={report}", *words]
        subprocess.run(command, cwd=ROOT, check=False)
        return read_report(report.read_text(encoding="utf-8"))


def read_report(text: str) -> Verdict:
    """Of pytest's report in JUnit's form. A test that could not be set up or was skipped counts as failed."""
    failed: dict[str, bool] = {}
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = (
            f"{case.get('classname')}::{case.get('name')}"  # twice in the report where a test and its end have failed
        )
        failed[name] = failed.get(name, False) or any(
            case.find(kind) is not None for kind in ("failure", "error", "skipped")
        )
    return Verdict(
        passed=list(failed.values()).count(False),
        failed=tuple(name for name, has_failed in failed.items() if has_failed),
    )


def write_config(folder: Path, model: Path, pixels: int = PIXELS) -> Path:
    """Of a run with everything cached, so that the step is what takes time."""
    values = {"runs": folder / "runs", "model": model, "data": PICTURES, "cache": folder / "cache"}
    path = folder / "config.toml"
    path.write_text(CONFIG.format(**{name: json.dumps(str(place)) for name, place in values.items()}, pixels=pixels))
    return path


def try_to_measure(config: Path, form: Form) -> Measured | str:
    """Or why it cannot be measured here, in a line; the other forms are measured all the same."""
    try:
        return measure(config, form)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}".partition("\n")[0]


def measure(config: Path, form: Form, *, device: str = "cuda", warm_up: int = WARM_UP, steps: int = STEPS) -> Measured:
    """The steps of one form, in a run of its own. Raises RuntimeError when it ended before the last of them."""
    import torch

    path = config.with_name("form.toml")
    meter = f'[[plugins]]\nuse = "benchmarks.gpu_meter.Meter"\nwarm_up = {warm_up}\nsteps = {steps}\n'
    path.write_text(config.read_text(encoding="utf-8") + form.plugins + meter, encoding="utf-8")
    torch.compiler.reset()
    gc.collect()  # of the run before, whose tensors would count
    bus = execute(path, [f"train.device={device}", f"train.steps={warm_up + steps}", *form.settings])
    measured: Measured | None = bus.plugins["Meter"].measured  # type: ignore[attr-defined]  # a Meter
    if measured is None:
        raise RuntimeError(f"{form.name}: the run ended before step {warm_up + steps}")
    return measured


def card() -> str:
    import torch

    return torch.cuda.get_device_name()


def facts() -> str:
    """What the figures depend on, beside the card."""
    import torch

    return (
        f"{datetime.now(UTC).date()}, driver {driver()}, CUDA {torch.version.cuda}, torch {torch.__version__},"
        f" Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    )


def driver() -> str:
    """The version of the card's driver, as its own tool says it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "of unknown version"
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return said[0] if said else "of unknown version"


def block_of(card: str, facts: str, tested: Verdict, rows: Sequence[tuple[str, Measured | str]]) -> str:
    """Markdown: a heading with the card's name, what the tests said, and a table with a row for each form."""
    lines = [
        f"### {card}",
        "",
        f"{facts}.",
        "",
        f"Tests marked `gpu`: {tested.passed} passed, {len(tested.failed)} failed.",
    ]
    lines += [f"* failed: {name}" for name in tested.failed]
    lines += [
        "",
        f"A UNet of 35 million parameters at {PIXELS} px, AdamW, batches of 4 where nothing else is said, latents and text",
        f"embeddings cached; {STEPS} steps after {WARM_UP}. The time of a step is the median by the card's clock.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    for name, one in rows:
        if isinstance(one, str):
            lines.append(f"| {name} | {one.replace('|', '/')} |")
            continue
        cells = (f"{one.steps_per_second:.1f}", f"{one.images_per_second:.0f}", f"{one.step_ms:.1f}",
                 f"{one.peak_bytes / 2**30:.2f} GiB", f"{one.first_seconds:.1f} s")  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def with_card(page: str, card: str, block: str) -> str:
    """The page with the block between its two markers, in place of the block of the same card or behind those of others."""
    held = block_in(page, NAME).strip()
    blocks = [f"### {one.strip()}" for one in f"\n{held}".split("\n### ")[1:]]
    headings = [one.partition("\n")[0] for one in blocks]
    if f"### {card}" in headings:
        blocks[headings.index(f"### {card}")] = block
    else:
        blocks.append(block)
    return with_block(page, NAME, "\n\n".join(blocks))


if __name__ == "__main__":
    sys.exit(main())
