"""Rows F04 and F05: signals, in whatever a run is just doing."""

import signal
import time
from functools import partial

from .bench import Bench, Workspace
from .injectors import FolderCalls, on_call, signal_self
from .on_disk import taken_steps, whole_steps
from .rows import row
from .rows_process import LEAN, assert_ends_as_unbroken, go_on

PHASES: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "mid-step": ("core.step.update:PlainUpdate.backward", (), False),
    "mid-save": ("", (), False),
    "mid-sample": ("core.preview.previews:Previews._keep", ("preview.every_steps=2",), False),
    "mid-validation": ("core.step.closed:Step.measure", ("validation.fraction=0.3", "validation.every_steps=1"), True),
    "mid-caching": ("core.cache.latent_pass:LatentPass._row", ("cache.latents=true",), False),
}
"""What is signalled in: a function of the product that runs then, what the config needs for it, and whether that makes
another run of it."""
SHORT = (*LEAN, "train.steps=5")
HALF = ("train.precision='fp16'",)
"""The loss scale is a part of what must be resumed."""


@row("F04", "SIGTERM in a step, a save, a preview, a validation, the caching", cut=5, short=50, long=200)
def terminated(bench: Bench) -> None:
    """SIGTERM lets the step end, saves and exits with 143; a second one within the save leaves a whole checkpoint."""
    trials = {}
    for number in range(bench.count):
        phase = list(PHASES)[number % len(PHASES)]
        bench.reference(*expected(phase))
        numbers = (signal.SIGTERM,) * (1 + number // len(PHASES) % 2)
        trials[f"{len(numbers)} x SIGTERM {phase}, {number}"] = partial(interrupt, phase, numbers, 143, ())
    bench.spread(trials)


@row("F05", "SIGINT once and twice, SIGHUP", cut=3, short=30, long=120)
def interrupted(bench: Bench) -> None:
    """The first signal saves (130 for SIGINT, 143 for SIGHUP), a second ends the run now and leaves the old checkpoint."""
    kinds = (((signal.SIGHUP,), 143), ((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGINT,), 130))
    trials = {}
    for number in range(bench.count):
        numbers, code = kinds[number % 3]
        phase, settings = list(PHASES)[number // 3 % 3], HALF * (number % 3 == 0)
        bench.reference(*expected(phase), *settings)
        name = " ".join(one.name for one in numbers)
        trials[f"{name} {phase}, {number}"] = partial(interrupt, phase, numbers, code, settings)
    bench.spread(trials)


def interrupt(
    phase: str, numbers: tuple[signal.Signals, ...], code: int, settings: tuple[str, ...], bench: Bench
) -> None:
    """Send these signals within a phase, look at how the run ends, and let it go on to its end."""
    place, needed, _ = PHASES[phase]
    work, at = bench.workspace(*SHORT, *needed, *settings), bench.random.randint(1, 3)
    ended = bench.train(work, inject=partial(signal_within, work, place, at, numbers))
    assert ended.code == code, f"{ended.code} is not {code}:\n{ended.output}"
    noted = (work.path / "signalled").read_text().split()
    signalled, seconds = int(noted[0]), time.time() - float(noted[1])
    assert seconds < 20, f"it took {seconds:.1f} s to end"
    if len(numbers) == 1:
        assert "go on with: python run.py" in ended.output, ended.output
        assert whole_steps(work)[-1] <= signalled + 1, f"{whole_steps(work)} after a signal at step {signalled}"
        assert whole_steps(work)[-1] == taken_steps(work), "a step was lost"
    assert whole_steps(work) or signalled <= 1, "no whole checkpoint is left"
    assert len(whole_steps(work)) == len(work.checkpoints), "a checkpoint is damaged"
    said = go_on(work, bench)
    assert said.code == 0, said.output
    assert_ends_as_unbroken(work, bench, *expected(phase), *settings)


def expected(phase: str) -> tuple[str, ...]:
    """The settings of a run with the same bits: caches and previews change none."""
    _, needed, is_another = PHASES[phase]
    return (*SHORT, *needed) if is_another else SHORT


def signal_within(work: Workspace, place: str, at: int, numbers: tuple[signal.Signals, ...]) -> None:
    """Signal this process at the n-th call of a function; or at a call of a save, beyond the first checkpoint."""

    def send(count: int) -> None:
        if count == at:
            (work.path / "signalled").write_text(f"{taken_steps(work)} {time.time()}")
            signal_self(*numbers)

    if place:
        on_call(place, send)
        return
    at += 20
    FolderCalls(work.run / "checkpoints", lambda call: send(call.number)).begin()
