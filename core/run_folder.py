"""Where a run lives, and whether it is new, to be resumed, or finished."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .checkpoint import Checkpoint, CheckpointFolder
from .config import CheckpointTable, Config
from .errors import CheckpointError, ConfigError

Status = Literal["new", "unfinished", "finished"]
PARTS = ("checkpoints", "previews", "exports")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """One run on disk."""

    path: Path
    status: Status
    checkpoint: Checkpoint | None
    """The newest whole one."""
    passed_over: tuple[str, ...]
    """Newer checkpoints that could not be used, with the reason."""

    def checkpoints(self, settings: CheckpointTable) -> CheckpointFolder:
        return CheckpointFolder(self.path / "checkpoints", settings.keep, settings.keep_every_steps)

    def create(self) -> None:
        for part in PARTS:
            (self.path / part).mkdir(parents=True, exist_ok=True)


def find_run(config: Config, *, fresh: bool) -> RunFolder:
    """The folder that `run.name` means now: the newest numbered one, or with `fresh` the next number.

    Raises ConfigError when `run.resume = "never"` and there is one; CheckpointError when its checkpoints are unusable.
    """
    path = config.run.dir / config.run.name
    number = 1
    while numbered(path, number + 1).exists():
        number += 1
    if fresh:
        free = number + 1 if numbered(path, number).exists() else number
        return RunFolder(path=numbered(path, free), status="new", checkpoint=None, passed_over=())
    path = numbered(path, number)
    if not path.exists():
        return RunFolder(path=path, status="new", checkpoint=None, passed_over=())
    if config.run.resume == "never":
        raise ConfigError(
            "run", [f"run.resume = 'never' and {path} exists; use --fresh for {numbered(path, number + 1).name}"]
        )
    checkpoint, passed_over = CheckpointFolder(path / "checkpoints", config.checkpoint.keep).newest()
    if checkpoint is None:
        return RunFolder(path=path, status="new", checkpoint=None, passed_over=())
    status: Status = "finished" if checkpoint.step >= config.train.steps else "unfinished"
    return RunFolder(path=path, status=status, checkpoint=checkpoint, passed_over=passed_over)


def numbered(path: Path, number: int) -> Path:
    """`demo`, `demo-2`, `demo-3`, ..."""
    return path if number == 1 else path.with_name(f"{path.name}-{number}")


def refuse_unsafe_changes(changed: list[tuple[str, object, object]]) -> None:
    """Raises CheckpointError for settings under which the checkpoint would mean something else."""
    unsafe = [(key, old, new) for key, old, new in changed if key in UNSAFE]
    if unsafe:
        listed = "\n  ".join(f"{key}  {old!r} -> {new!r}" for key, old, new in unsafe)
        raise CheckpointError(
            f"the run cannot go on with these settings changed; set them back or use --fresh\n  {listed}"
        )


UNSAFE = frozenset(
    {"run.seed", "train.optimizer"}
    | {f"model.{key}" for key in ("path", "base_config", "family", "train", "from_scratch", "prediction")}
)
