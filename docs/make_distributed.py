"""The sums on docs/distributed.md: what 8, 64 and 1,024 GPUs keep, send and read, by the formulas of the trainer itself.

Each table stands between markers on the page. What is assumed is a constant here, with its reason, and is said on the page;
what was measured is read from the tables of docs/performance.md.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.page import with_block  # noqa: E402  # the checkout's, found from anywhere
from core.config.tables import DistributedTable  # noqa: E402
from core.ranks.arithmetic import FLOAT, HALF, Sizes, kept, sent  # noqa: E402

PAGE = ROOT / "docs" / "distributed.md"
FIGURES = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
COUNTS = (8, 64, 1024)
GIGA = 1e9


def measured(name: str) -> float:
    """The median of a figure on the page of figures. Raises ValueError where it has none of that name."""
    found = re.search(rf"(?m)^\| {re.escape(name)} \| ([\d.,]+) \|", FIGURES)
    if found is None:
        raise ValueError(f"docs/performance.md has no figure {name!r}")
    return float(found[1].replace(",", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is trained in full, in bf16 over float32 weights, with AdamW."""

    name: str
    weights: int
    """Of the module that denoises; a test counts them."""
    others: int
    """Of its encoders."""
    layer: int
    """Of the largest that FSDP gathers at once."""
    rest: int
    """Of what FSDP gathers for the whole of a step, since it is in no layer; a test counts both."""
    batch_size: int
    forward: float
    """Floating-point operations of a forward pass, a picture of 1024 x 1024 pixels."""

    @property
    def sizes(self) -> Sizes:
        return Sizes(trained=self.weights, frozen=0, frozen_bytes=0, state_bytes=8 * self.weights)

    @property
    def step_seconds(self) -> float:
        """On the assumed GPU, with checkpointed gradients: forward twice, and backward, which is as much as two."""
        return self.batch_size * 4 * self.forward / OPERATIONS


OPERATIONS = 4e14
"""A second, of one GPU: 40 % of what an H100 is rated at in bf16. An assumption."""
SDXL = Model(
    name="SDXL",
    weights=2_567_463_684,
    others=901_000_000,
    layer=49_164_800,
    rest=23_418_244,
    batch_size=4,
    forward=6e12,
)
FLUX = Model(
    name="Flux.1", weights=11_901_408_320, others=4_970_000_000, layer=339_831_296, rest=64_124_992, batch_size=2,
    forward=1.1e14,
)  # fmt: skip
MODELS = (SDXL, FLUX)
STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "`ddp`": {"strategy": "ddp"},
    "`deepspeed`, stage 1": {"strategy": "deepspeed", "zero_stage": 1},
    "`deepspeed`, stage 2": {"strategy": "deepspeed", "zero_stage": 2},
    "`fsdp`": {"strategy": "fsdp"},
    "`fsdp`, layers stay gathered": {"strategy": "fsdp", "reshard_after_forward": False},
}
MACHINE, NVLINK, NETWORK = 8, 450e9, 50e9
"""GPUs of a machine; bytes a second of each of them within it, and of a machine's one link of 400 Gb/s to the others."""

ITEMS = 100_000_000
ITEM_BYTES, PLAN_BYTES = measured("1,000,000 items: mapped"), measured("1,000,000 items: plan in memory")
"""Of the table of items and of an epoch's plan, an item."""
FIRST_SCAN, LATER_SCAN = (measured(f"scan of 20,000 files: {how}") / 20_000 for how in ("cold", "warm"))
PLAN_SECONDS = measured("1,000,000 items: plan") / 1_000_000
"""Seconds an item, on one core."""
LATENTS, PHOTOGRAPHS = measured("latents from the cache") / 4, measured("12 MP: ours, CPU")
"""A second on one core: latents of 1024 x 1024 pixels out of a cache, which are four times those measured, and 12 MP JPEGs."""

EXCHANGES, HOP_SECONDS = 3, 30e-6
"""Of gloo at a meeting that also tells numbers, and what one of its messages takes from machine to machine: assumed."""
ROW_BYTES, SIZE_BYTES, NO_WISHES, AROUND = 12, 8, 2, 288
"""Of a step's numbers, of a length, of an empty list of requests, and what gloo puts around each to each rank: measured."""
CONNECTIONS = 3
"""Of a rank to the store: torch's own, and ours for its two threads; a test counts them."""
LOOKS, LOOK_CALLS = 4, 4
"""A second of a rank that waits for long, and calls of the store at each."""


def main() -> None:
    """Write every table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, block in BLOCKS.items():
        page = with_block(page, name, block())
    PAGE.write_text(page, encoding="utf-8")


# the tables


def memory_block() -> str:
    """What each GPU keeps."""

    def rows() -> Iterator[Sequence[str]]:
        for model in MODELS:
            for name, settings in STRATEGIES.items():
                table = DistributedTable(**settings)
                all_kept = [kept(model.sizes, table, count, 1, is_half=True) for count in COUNTS]
                passing = all_kept[0].passing + (gathered(model, table) if table.strategy == "fsdp" else 0)
                yield (model.name, name, *(number(one.total / GIGA) for one in all_kept), number(passing / GIGA))

    return table_of(("", "strategy", *(f"{count:,} GPUs" for count in COUNTS), "in a step more"), rows())


def gathered(model: Model, table: DistributedTable) -> int:
    """Bytes of the layer that is computed with and of the next, in bf16, and of the gradient of one, whole for a moment."""
    layers = 2 * HALF * model.layer + HALF * model.rest if table.reshard_after_forward else 0
    return layers + FLOAT * model.layer


def exchange_block() -> str:
    """What each GPU sends in a step, how long that takes, and its share in the step's computing."""

    def cells(model: Model, table: DistributedTable) -> Iterator[str]:
        amounts = [sent(model.sizes, table, count, 1, is_half=True) for count in COUNTS]
        yield f"{number(amounts[0] / GIGA)} to {number(amounts[-1] / GIGA)}"
        for amount, count in zip(amounts, COUNTS, strict=True):
            seconds = amount / (NVLINK if count <= MACHINE else NETWORK)
            yield f"{number(seconds)} s ({seconds / model.step_seconds:.0%})"

    def rows() -> Iterator[Sequence[str]]:
        for model in MODELS:
            alike: dict[tuple[str, ...], list[str]] = {}
            for name, settings in STRATEGIES.items():
                alike.setdefault(tuple(cells(model, DistributedTable(**settings))), []).append(name)
            yield from ((model.name, "; ".join(names), *found) for found, names in alike.items())

    places = [f"{count:,} GPUs" for count in COUNTS]
    return table_of(("", "strategy", "GB", *places), rows())


def step_block() -> str:
    """What a step is assumed to be, and what it consumes."""

    def rows() -> Iterator[Sequence[str]]:
        for model in MODELS:
            pace = model.batch_size / model.step_seconds
            for count in COUNTS:
                pictures = model.batch_size * count
                epoch = ITEMS / pictures
                yield (
                    model.name, f"{count:,}", f"{pictures:,}", number(pace * count), number(pace / LATENTS),
                    number(pace / PHOTOGRAPHS), f"{epoch:,.0f}", number(epoch * model.step_seconds / 3600),
                )  # fmt: skip

    heads = ("", "GPUs", "pictures a step", "pictures a second", "cores a GPU, cached", "cores a GPU, 12 MP", "steps an epoch",
             "hours an epoch")  # fmt: skip
    return table_of(heads, rows())


def data_block() -> str:
    """What 10^8 items take on every rank."""
    rows = (
        ("the scan of files that are known, at each start", f"{number(ITEMS * LATER_SCAN / 3600)} h"),
        ("the first scan, on rank 0 alone", f"{number(ITEMS * FIRST_SCAN / 3600)} h"),
        ("the plan of an epoch, at its beginning", f"{number(ITEMS * PLAN_SECONDS)} s"),
        ("the plan of an epoch, in memory", f"{number(ITEMS * PLAN_BYTES / GIGA)} GB"),
        ("the table of items, a file that is mapped", f"{number(ITEMS * ITEM_BYTES / GIGA)} GB"),
        (f"plan and table of the {MACHINE} ranks of a machine", f"{number(MACHINE * ITEMS * (ITEM_BYTES + PLAN_BYTES) / GIGA)} GB"),
    )  # fmt: skip
    return table_of((f"of {ITEMS:,} items, on each rank", ""), rows)


def messages_block() -> str:
    """What is ours, at a meeting and while ranks wait."""

    def rows() -> Iterator[Sequence[str]]:
        for count in COUNTS:
            hops = EXCHANGES * (count - 1)
            payload = SIZE_BYTES + NO_WISHES + 10 * ROW_BYTES + EXCHANGES * AROUND
            yield (
                f"{count:,}", f"{hops:,}", f"{number((count - 1) * payload / 1e3)} kB", f"{number(1e3 * hops * HOP_SECONDS)} ms",
                f"{hops * HOP_SECONDS / (10 * SDXL.step_seconds):.1%}", f"{CONNECTIONS * count:,}", f"{count - 1:,}",
                f"{LOOKS * LOOK_CALLS * count:,}",
            )  # fmt: skip

    heads = ("ranks", "messages of a rank", "bytes of a rank", "a meeting takes", "of ten steps of SDXL", "connections to the store",
             "of a rank to others", "calls of the store a second")  # fmt: skip
    return table_of(heads, rows())


def host_block() -> str:
    """What loading takes."""

    def rows() -> Iterator[Sequence[str]]:
        for model in MODELS:
            whole = 4 * (model.weights + model.others) / GIGA
            yield (model.name, number(whole), number(MACHINE * whole), number(HALF * 6 * model.weights / GIGA))

    return table_of(("", "GB a rank", f"GB a machine of {MACHINE}", "GB of a checkpoint"), rows())


BLOCKS: Mapping[str, Callable[[], str]] = {
    "memory": memory_block, "exchange": exchange_block, "step": step_block, "data": data_block, "messages": messages_block,
    "host": host_block,
}  # fmt: skip


def table_of(heads: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join((f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines))


def number(value: float) -> str:
    """Two or three digits.

    >>> [number(value) for value in (0.0047, 0.31, 4.1, 41.08, 1234.5, 0)]
    ['0.005', '0.31', '4.1', '41', '1,234', '0']
    """
    for least, decimals in ((10, 0), (1, 1), (0.1, 2)):
        if value >= least or value == 0:
            return f"{value:,.{decimals}f}"
    return f"{value:.3f}"


if __name__ == "__main__":
    main()
