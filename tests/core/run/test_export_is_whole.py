"""An export is there as a whole or not at all, and a run is not finished without the one that it was to leave."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ResourceError
from core.run_folder.folder import export_path
from tests.small_runs import Run

PLUGIN = '\n[[plugins]]\nuse = "plugins.ema.Ema"\n'


def files(folder: Path) -> dict[str, bytes]:
    """By name; of safetensors what follows the header, whose entries are in no order."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: data[8 + int.from_bytes(data[:8], "little") :] if name.endswith(".safetensors") else data
        for name, data in found.items()
    }


def test_an_export_that_is_missing_is_made_by_the_same_command(train: Callable[..., Run]) -> None:
    run = train("train.steps=3", "export.at_end=true", plugins=PLUGIN)
    export = export_path(run.folder, 3)
    before = files(export)
    checkpoint = files(run.folder / "checkpoints")
    shutil.rmtree(export)
    train("train.steps=3", "export.at_end=true", plugins=PLUGIN)
    assert files(export) == before
    assert files(run.folder / "checkpoints") == checkpoint


def test_a_full_disk_leaves_no_half_export_and_says_what_to_do(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    import core.weights.export

    flush = core.weights.export.flush_all

    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(core.weights.export, "flush_all", full)
    with pytest.raises(ResourceError, match="exports what is missing") as caught:
        train("train.steps=2", "export.at_end=true")
    monkeypatch.setattr(core.weights.export, "flush_all", flush)
    assert caught.value.exit_code == 7
    run = train("train.steps=2", "export.at_end=true")
    assert [path.name for path in (run.folder / "exports").iterdir()] == ["test-step-000002"]
