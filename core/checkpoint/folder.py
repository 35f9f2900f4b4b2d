"""The checkpoints of one run on disk: which there are, which is the newest whole one, and which may go."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError
from . import manifest
from .commit import TEMPORARY, set_aside, write
from .contents import Checkpoint, Contents

Retain = Callable[[int, tuple[int, ...]], tuple[int, ...]]
"""(step of the new checkpoint, steps whose checkpoints would go, newest first) -> those that go."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A folder that is named as a checkpoint and is none."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class CheckpointFolder:
    """The checkpoints of one run. Looking changes nothing on disk; only `save` does."""

    def __init__(self, folder: Path, keep: int, keep_every: int = 0) -> None:
        """The newest `keep` stay, and those whose step is a multiple of `keep_every`, where that is not 0."""
        self.folder = folder
        self._keep = keep
        self._keep_every = keep_every
        self._damaged: set[Path] = set()

    def pass_over(self, damaged: Iterable[Damaged]) -> None:
        """These count for nothing, and the next save sets them aside."""
        self._damaged.update(one.path for one in damaged)

    def newest(self) -> tuple[Checkpoint | None, tuple[Damaged, ...]]:
        """The newest checkpoint whose every byte is as written, and why newer ones were passed over.

        Raises CheckpointError when there are checkpoints and none is whole: starting from zero would lose work.
        """
        damaged: list[Damaged] = []
        for path in self.existing():
            problem = manifest.problem_with(path)
            if problem is None:
                return Checkpoint(path=path, step=manifest.step_of(path), facts=manifest.read(path)), tuple(damaged)
            damaged.append(Damaged(path, problem))
        if damaged:
            listed = "\n  ".join(map(str, damaged))
            raise CheckpointError(f"no checkpoint can be used; start anew with --fresh\n  {listed}")
        return None, ()

    def existing(self) -> list[Path]:
        """Whatever is named as one and was not passed over, newest step first."""
        if not self.folder.is_dir():
            return []
        found = (path for path in self.folder.iterdir() if manifest.is_named_as_one(path) and path not in self._damaged)
        return sorted(found, key=manifest.step_of, reverse=True)

    def going(self, new: int, retain: Retain | None = None) -> tuple[int, ...]:
        """Steps whose checkpoints may go once there is one of step `new`; never that one."""
        steps = {manifest.step_of(path) for path in self.existing() if (path / manifest.NAME).is_file()} | {new}
        every = self._keep_every
        going = tuple(
            step
            for step in sorted(steps, reverse=True)[self._keep :]
            if step != new and not (every and step % every == 0)
        )
        return retain(new, going) if retain and going else going

    def save(self, step: int, contents: Contents, going: Sequence[int] = ()) -> Path:
        """Write, read back, then let those of the steps `going` go. A whole checkpoint of this step is left as it is."""
        target = self.folder / f"{manifest.PREFIX}{step:08d}"
        try:
            self._tidy()
            if manifest.problem_with(target) is None:
                return target
            write(self.folder, step, contents)
        finally:
            if contents.parts is not None:
                contents.parts.call_off()
        for old in going:
            remove(self.folder / f"{manifest.PREFIX}{old:08d}")
        return target

    def _tidy(self) -> None:
        """Set damaged checkpoints aside, and remove what an interrupted save or removal left behind."""
        while self._damaged:
            path = self._damaged.pop()
            if path.exists():
                set_aside(path)
        for path in self.folder.glob(f"{TEMPORARY}*"):
            remove(path)
        for path in self.existing():
            if not (path / manifest.NAME).is_file():
                remove(path)


def remove(path: Path) -> None:
    """The manifest goes first: from then on it is no checkpoint, whenever the rest goes."""
    if not path.is_dir():
        return
    names = sorted(os.listdir(path), key=lambda name: name != manifest.NAME)
    for name in names:
        os.unlink(path / name)
    os.rmdir(path)
