"""Bugs that are put into the product on purpose. A campaign that does not notice them shows nothing.

Each is a patch of the product in this warm process, which the forked runs inherit, and names the row that must fail then.
"""

import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from . import bench
from .rows import all_rows, run_row

IN_SUITE = (
    "a flipped bit is not noticed",
    "the old one goes before the new one is there",
    "the average is not restored",
)


@dataclass(frozen=True)
class Mutant:
    """A bug and the row that it must make fail."""

    name: str
    row: str
    patch: Callable[[], AbstractContextManager[object]]


def try_mutants(size: bench.Size, wanted: Sequence[str] = ()) -> int:
    """Exit code 0 when every one is noticed by its row; cut tries three of them, `wanted` those of these rows."""
    rows, noticed = all_rows(), 0
    tried = [mutant for mutant in MUTANTS if size != "cut" or mutant.name in IN_SUITE]
    tried = [mutant for mutant in tried if not wanted or mutant.row in wanted]
    failing = set() if size == "cut" else failing_anyway({mutant.row for mutant in tried})
    for mutant in tried:
        bench.PRODUCT[:] = [mutant.name]
        with mutant.patch():
            result = run_row(rows[mutant.row], "cut")
        bench.PRODUCT[:] = ["as it is"]
        is_noticed = result.verdict == "fail" and mutant.row not in failing
        noticed += is_noticed
        said = "noticed by" if is_noticed else "NOT noticed by"
        print(f"{mutant.name}: {said} {mutant.row}, {result.seconds:.1f} s", flush=True)
    print(f"mutants {noticed}/{len(tried)} noticed")
    return int(noticed < len(tried))


def failing_anyway(rows: Iterable[str]) -> set[str]:
    """Rows that the product as it is does not pass, and which therefore show nothing."""
    failing = {id for id in sorted(rows) if run_row(all_rows()[id], "cut").verdict == "fail"}
    for id in sorted(failing):
        print(f"{id} fails without a mutant, and notices nothing", flush=True)
    return failing


@contextmanager
def every(*patches: AbstractContextManager[object]) -> Generator[None, None, None]:
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


def without_reason(words: str) -> AbstractContextManager[object]:
    """`problem_with` finds nothing wrong where it would say these words."""
    from core.checkpoint import manifest

    real = manifest.problem_with

    def lenient(path: Path) -> str | None:
        reason = real(path)
        return None if reason and words in reason else reason

    return patch.object(manifest, "problem_with", lenient)


def unsealed() -> AbstractContextManager[object]:
    """Whatever the manifest says is believed."""
    from core.checkpoint import manifest

    return patch.object(manifest, "_require_known", lambda *arguments: None)


def prune_first() -> AbstractContextManager[object]:
    from core.checkpoint import folder

    real = folder.CheckpointFolder.save

    def save(self: Any, step: int, contents: Any, going: Any = ()) -> Path:
        for old in going:
            folder.remove(self.folder / f"step-{old:08d}")
        return real(self, step, contents)

    return patch.object(folder.CheckpointFolder, "save", save)


def files_first() -> AbstractContextManager[object]:
    """A removal begins with the weights and ends with the manifest."""
    from core.checkpoint import folder

    def remove(path: Path) -> None:
        for name in sorted(os.listdir(path), key=lambda name: name == "manifest.json"):
            os.unlink(path / name)
        os.rmdir(path)

    return patch.object(folder, "remove", remove)


def flush_files_only() -> AbstractContextManager[object]:
    from core.checkpoint import commit

    real = commit.flush
    return patch.object(commit, "flush", lambda path: None if path.is_dir() else real(path))


def write_in_place() -> AbstractContextManager[object]:
    """No temporary name: the folder has its own from the beginning."""
    from core.checkpoint import commit

    def make(prefix: str, dir: Path) -> str:
        number = 1 + max((int(path.name[5:]) for path in dir.glob("step-*") if path.name[5:].isdecimal()), default=0)
        os.mkdir(dir / f"step-{number:08d}")
        return str(dir / f"step-{number:08d}")

    return every(
        patch.object(commit, "tempfile", SimpleNamespace(mkdtemp=make)),
        patch.object(commit, "set_aside", lambda path: path),
    )


def never_restored(place: str) -> AbstractContextManager[object]:
    """A function that takes state back does nothing."""
    return patch(place, lambda *arguments, **options: None)


def no_plugin_state() -> AbstractContextManager[object]:
    return patch("core.resuming.plugin_states.PluginStates.collect", lambda self, *arguments: ({}, {}))


def no_step_state() -> AbstractContextManager[object]:
    return never_restored("core.step.closed.Step.load_state")


def one_batch_further() -> AbstractContextManager[object]:
    from core.resuming.position import Position

    real = Position.from_state

    def from_state(state: Any) -> Position:
        position = real(state)
        position.batches_done += 1
        return position

    return patch.object(Position, "from_state", staticmethod(from_state))


def seeded_by(value: Callable[[], int]) -> AbstractContextManager[object]:
    """The noise of training has one part of its place more."""
    from core.compute import rng

    real = rng.derive
    return patch.object(rng, "derive", lambda *place: real(*place, value()))


def worker_in_samples() -> AbstractContextManager[object]:
    """A sample's draws in this process are not those in a worker."""
    from events import randomness

    real, parent = randomness.derive, os.getpid()
    return patch.object(randomness, "derive", lambda *place: real(*place, int(os.getpid() != parent)))


def optimizer_of_before() -> AbstractContextManager[object]:
    """A checkpoint has the moments of the one before it."""
    import copy

    from core.resuming.run_state import RunState

    real, kept = RunState._optimizer_state, {}

    def stale(self: RunState) -> dict[str, Any]:
        now = copy.deepcopy(real(self))
        before = kept.get("state", now)
        kept["state"] = now
        return before

    return patch.object(RunState, "_optimizer_state", stale)


def weights_before_all_is_read() -> AbstractContextManager[object]:
    import torch

    from core.resuming.run_state import RunState

    real = RunState.read

    def read(self: RunState, checkpoint: Any) -> Any:
        stored = checkpoint.tensors("weights")
        with torch.no_grad():
            for name, tensor in self.weights().items():
                if name in stored and stored[name].shape == tensor.shape:
                    tensor.copy_(stored[name])
        return real(self, checkpoint)

    return patch.object(RunState, "read", read)


def live_tensors() -> AbstractContextManager[object]:
    """What is written is not a copy, and training moves it meanwhile."""
    return patch("core.checkpoint.snapshot.Snapshot.take", lambda self, tensor: tensor.detach())


def lost_failure() -> AbstractContextManager[object]:
    from core.checkpoint.writer import Writer

    real = Writer.outcome

    def outcome(self: Writer, *, wait: bool) -> Any:
        written = real(self, wait=wait)
        return written if written is None or written.error is None else None

    return patch.object(Writer, "outcome", outcome)


def newest_by_time() -> AbstractContextManager[object]:
    from core.checkpoint.folder import CheckpointFolder

    real = CheckpointFolder.existing

    def existing(self: CheckpointFolder) -> list[Path]:
        return sorted(real(self), key=lambda path: path.stat().st_mtime, reverse=True)

    return patch.object(CheckpointFolder, "existing", existing)


def from_zero() -> AbstractContextManager[object]:
    from core.checkpoint.folder import CheckpointFolder
    from core.errors import CheckpointError

    real = CheckpointFolder.newest

    def newest(self: CheckpointFolder) -> Any:
        try:
            return real(self)
        except CheckpointError:
            return None, ()

    return patch.object(CheckpointFolder, "newest", newest)


def cause_not_told() -> AbstractContextManager[object]:
    """Whoever ends says nothing, so that the others make what they can of a broken connection."""
    return every(
        patch("core.ranks.board.Board.tell_cause", lambda self, *arguments: False),
        patch("core.ranks.launch.Launcher._tell", lambda self, *arguments: None),
    )


def no_rescue() -> AbstractContextManager[object]:
    return never_restored("core.run.session.Session._rescue")


def no_time_to_save() -> AbstractContextManager[object]:
    """Nobody is given a moment once a rank has failed."""
    return patch("core.ranks.launch.ENDING_SECONDS", 0.0)


def orphans_kept() -> AbstractContextManager[object]:
    """The launcher waits for nobody, and kills nobody."""
    from core.ranks.launch import Launcher

    def watch(self: Launcher) -> None:
        while not any(rank.poll() is not None for rank in self.ranks):
            time.sleep(0.01)
        self._look()

    return every(patch.object(Launcher, "_watch", watch), patch.object(Launcher, "_end_all", lambda self: None))


MUTANTS = (
    Mutant("a flipped bit is not noticed", "F11", partial(without_reason, "is damaged")),
    Mutant("the size of a file is not looked at, nor its digest", "F10", partial(without_reason, " bytes of ")),
    Mutant("the step in the manifest is not looked at", "F12", partial(without_reason, "its manifest is of step")),
    Mutant("the old one goes before the new one is there", "F15", prune_first),
    Mutant("the manifest goes last", "F02", files_first),
    Mutant("folders are not flushed", "F02", flush_files_only),
    Mutant("written under its own name from the beginning", "F02", write_in_place),
    Mutant("plugin state is not stored", "F03", no_plugin_state),
    Mutant(
        "plugin state is not given back",
        "F17",
        partial(never_restored, "core.resuming.plugin_states.PluginStates.give_back"),
    ),
    Mutant("the average is not restored", "F02", partial(never_restored, "plugins.ema.Ema.load_state_dict")),
    Mutant("the loss scale is not restored", "F05", no_step_state),
    Mutant("the position is one batch further", "F17", one_batch_further),
    Mutant("noise by the wall clock", "F17", partial(seeded_by, time.time_ns)),
    Mutant("noise by the process", "F03", partial(seeded_by, os.getpid)),
    Mutant("a sample's draws by its worker", "F36", worker_in_samples),
    Mutant("the optimizer's state is of the step before", "F17", optimizer_of_before),
    Mutant("weights are applied before all is read", "F14", weights_before_all_is_read),
    Mutant("training moves what is being written", "F20", live_tensors),
    Mutant("a failure of the saving thread is lost", "F20", lost_failure),
    Mutant("the newest is that of the latest time", "F17", newest_by_time),
    Mutant("all bad, and it starts from zero", "F13", from_zero),
    Mutant("no lock", "F16", lambda: patch("core.run.session.locked", lambda folder: nullcontext())),
    Mutant("no look at the free space", "F08", partial(never_restored, "core.run.artefacts.Artefacts.require_room")),
    Mutant("what was written is not read back", "F09", partial(never_restored, "core.checkpoint.commit.difference")),
    Mutant("a rank's cause is not told", "F41", cause_not_told),
    Mutant("nothing is saved when a rank has ended", "F41", no_rescue),
    Mutant("a rank that saves is not given the time", "F41", no_time_to_save),
    Mutant("ranks are left behind", "F41", orphans_kept),
)
