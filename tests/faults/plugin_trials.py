"""What the rows about plugins share: runs with a plugin that misbehaves at a signal, and what must not suffer from it."""

from collections.abc import Callable

from . import plugins_for_misbehaviour
from .bench import EMA, JOURNAL, Bench, Ended, Workspace

NEEDS = {
    "cache.": ("cache.latents=true",),
    "validation.": ("validation.fraction=0.2", "validation.every_steps=2"),
    "preview.": ("preview.every_steps=3",),
    "checkpoint.retention": ("checkpoint.keep=1",),
    "export.": ("export.at_end=true",),
    "checkpoint.metadata": ("export.at_end=true",),
    "checkpoint.tensors": ("export.at_end=true",),
}
"""What makes a signal fire, by how its name begins."""
EVERYTHING = tuple(dict.fromkeys(need for needs in NEEDS.values() for need in needs))
REQUEST = '\n[[plugins]]\nuse = "plugins.rhythm.Rhythm"\nwhat = "save"\nepochs = 1\n'
"""Asks for something at the end of each epoch, which `control.applied` tells of."""
TOLD = """
[[plugins]]
use = "plugins.metrics_file.MetricsFile"
[[plugins]]
use = "tests.faults.plugins_for_misbehaviour.Epochs"
"""
OTHERS = JOURNAL + EMA + REQUEST + TOLD
"""What must not suffer from the plugin that fails."""
PARTS = ("position", "optimizer", "step", "metrics", "plugins.Journal", "plugins.Ema")
Trials = dict[str, Callable[[Bench], None]]


def mend() -> None:
    plugins_for_misbehaviour.IS_MENDED = True


def misbehaving(signal: str, *settings: str, name: str = "Misbehaving") -> str:
    use = 'use = "tests.faults.plugins_for_misbehaviour.Misbehaving"'
    return "\n".join(("\n[[plugins]]", use, f'name = "{name}"', f'signal = "{signal}"', *settings, ""))


def needs_of(signal: str) -> tuple[str, ...]:
    return next((needs for begin, needs in NEEDS.items() if signal.startswith(begin)), ())


def workspace_for(bench: Bench, signal: str, *settings: str) -> Workspace:
    """With the plugin first, so that those whose state is compared come after it."""
    return bench.workspace(*needs_of(signal), plugins=misbehaving(signal, *settings) + OTHERS)


def reference(bench: Bench, *needs: str) -> str:
    """Of a run whose plugin behaves."""
    plugins = misbehaving("run.close", 'does = "nothing"') + OTHERS
    return bench.reference(*needs, plugins=plugins)


def same(found: str, expected: str, ended: Ended) -> None:
    assert found == expected, f"it ended with other bits than an undisturbed run:\n{ended.output[-2000:]}"


def spread(bench: Bench, trials: Trials) -> None:
    """As many of the trials as the size asks for, the most telling first."""
    bench.spread(dict(list(trials.items())[: bench.count]))
