"""What of the config has changed since a checkpoint, and which changes would give the checkpoint another meaning."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import CheckpointError

Change = tuple[str, Any, Any]
"""(dotted key, value in the checkpoint, value now)."""
UNSAFE = frozenset(
    {"run.seed", "train.optimizer"}
    | {f"model.{key}" for key in ("path", "base_config", "family", "train", "from_scratch", "prediction")}
)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[Change]:
    """The changes between two nested mappings, in order of the keys."""
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}", before, after


def change_lines(changes: Sequence[Change]) -> Iterator[str]:
    """A table: key, value before, value now, and whether the run can go on with it."""
    width = max((len(key) for key, _, _ in changes), default=0)
    for key, old, new in changes:
        yield f"{key:<{width}}  {old!r} -> {new!r}" + ("  (refused)" if key in UNSAFE else "")


def refuse_unsafe(changes: Sequence[Change]) -> None:
    """Raises CheckpointError for settings under which the checkpoint would mean something else."""
    unsafe = [change for change in changes if change[0] in UNSAFE]
    if unsafe:
        listed = "\n  ".join(f"{key}  {old!r} -> {new!r}" for key, old, new in unsafe)
        raise CheckpointError(
            f"the run cannot go on with these settings changed; set them back or use --fresh\n  {listed}"
        )
