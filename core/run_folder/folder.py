"""Where a run lives, and whether it is new, to be resumed, or finished."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..checkpoint import manifest
from ..checkpoint.contents import Checkpoint
from ..checkpoint.folder import CheckpointFolder, Damaged
from ..config.tables import CheckpointTable, Config, ModelTable
from ..errors import CheckpointError, ConfigError, ResourceError
from ..ranks.crew import ONE, Crew

Status = Literal["new", "unfinished", "finished"]
CHECKPOINTS = "checkpoints"
EXPORTS = "exports"
PARTS = (CHECKPOINTS, "previews", EXPORTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """One run on disk."""

    path: Path
    status: Status
    checkpoint: Checkpoint | None
    """The newest whole one."""
    passed_over: tuple[Damaged, ...] = ()
    """Newer checkpoints that could not be used."""

    def model(self, table: ModelTable) -> ModelTable:
        """As the config has it; a run that goes on has the model it began with, whatever its path means by now."""
        if self.checkpoint is None:
            return table
        return table.model_copy(update={"path": Path(self.checkpoint.json("state").get("model", table.path))})

    def checkpoints(self, settings: CheckpointTable) -> CheckpointFolder:
        folder = CheckpointFolder(self.path / CHECKPOINTS, settings.keep, settings.keep_every_steps)
        folder.pass_over(self.passed_over)
        return folder

    def create(self) -> None:
        """Make the folder, for nobody else to read, and its parts. Raises ResourceError where that cannot be."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in PARTS:
                (self.path / part).mkdir(exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"{self.path} cannot be written ({error.strerror}); name another place as run.dir"
            ) from error

    def require_unchanged(self) -> None:
        """Raises ConfigError when another process has trained the run since it was looked at."""
        folder = CheckpointFolder(self.path / CHECKPOINTS, 1)
        folder.pass_over(self.passed_over)
        newest = next(iter(folder.existing()), None)
        if newest != (self.checkpoint and self.checkpoint.path):
            raise ConfigError("run", [f"another process has just trained {self.path}; run the command again"])


def find_run(config: Config, *, fresh: bool, crew: Crew = ONE) -> RunFolder:
    """The folder that `run.name` means now: the newest numbered one, or with `fresh` the next number.

    Of several processes the main one looks, and the others take what it found.
    Raises ConfigError when `run.resume = "never"` and there is one; CheckpointError when its checkpoints are unusable.
    """
    found: list[RunFolder] = []

    def look() -> dict[str, Any]:
        found.append(_look(config, fresh=fresh))
        one = found[0]
        return {"path": str(one.path), "status": one.status, "step": one.checkpoint and one.checkpoint.step}

    told = crew.from_main("the run", look)
    return found[0] if found else _as_told(told)


def _as_told(told: Mapping[str, Any]) -> RunFolder:
    """What the main rank found. Raises CheckpointError where this rank's disk has no such thing."""
    path, checkpoint = Path(told["path"]), None
    if told["step"] is not None:
        place = path / CHECKPOINTS / f"{manifest.PREFIX}{told['step']:08d}"
        if not place.is_dir():
            raise CheckpointError(
                f"{place} is not here, and the main rank has it; run.dir must be the same for all ranks"
            )
        checkpoint = Checkpoint(path=place, step=told["step"], facts=manifest.read(place))
    return RunFolder(path=path, status=told["status"], checkpoint=checkpoint)


def _look(config: Config, *, fresh: bool) -> RunFolder:
    first, number = config.run.dir / config.run.name, _newest_number(config)
    path = numbered(first, number)
    if fresh:
        return RunFolder(path=numbered(first, number + 1) if path.exists() else path, status="new", checkpoint=None)
    if not path.exists():
        return RunFolder(path=path, status="new", checkpoint=None)
    if config.run.resume == "never":
        raise ConfigError(
            "run", [f"run.resume = 'never' and {path} exists; use --fresh for {numbered(first, number + 1).name}"]
        )
    checkpoint, passed_over = CheckpointFolder(path / CHECKPOINTS, config.checkpoint.keep).newest()
    if checkpoint is None:
        return RunFolder(path=path, status="new", checkpoint=None)
    is_trained = checkpoint.step >= config.train.steps
    is_exported = not config.export.at_end or export_path(path, checkpoint.step).is_dir()
    status: Status = "finished" if is_trained and is_exported else "unfinished"
    return RunFolder(path=path, status=status, checkpoint=checkpoint, passed_over=passed_over)


def current_folder(config: Config) -> Path:
    """The folder that `run.name` means now, whether it is there or not: the newest numbered one."""
    return numbered(config.run.dir / config.run.name, _newest_number(config))


def _newest_number(config: Config) -> int:
    number = 1
    while numbered(config.run.dir / config.run.name, number + 1).exists():
        number += 1
    return number


def export_path(run: Path, step: int) -> Path:
    """Where the export of a step lies."""
    return run / EXPORTS / f"{run.name}-step-{step:06d}"


def numbered(path: Path, number: int) -> Path:
    """`demo`, `demo-2`, `demo-3`, ..."""
    return path if number == 1 else path.with_name(f"{path.name}-{number}")
