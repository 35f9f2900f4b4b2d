"""`python -m tests.faults.make_golden`: keeps a checkpoint of this version in golden/, for all later ones to read (row F19).

It is made once for each schema, and never again.
"""

import json
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from core.checkpoint import manifest
from core.checkpoint.manifest import SCHEMA
from tests.small_runs import CONFIG, ROOT

from .bench import EMA, Bench, Workspace, copy_pictures, model_folder, warm_up, with_overrides
from .rows_versions import GOLDEN

STEPS = 4
OF_ITSELF = ("schema", "step", "files", "manifest_sha256")
"""What `manifest.make` says of every checkpoint."""


def main() -> int:
    """1 where there is one already."""
    target = GOLDEN / f"schema-{SCHEMA}"
    if target.exists():
        print(f"{target} is there already")
        return 1
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copytree(model_folder(), place / "model")
        copy_pictures(place / "pictures")
        work = Workspace(place)
        values = {"dir": '"runs"', "model": '"model"', "data": '"pictures"', "cache": '"cache"'}
        overrides = ("model.train=['unet']", f"train.steps={STEPS}")
        work.config.write_text(with_overrides(CONFIG.format(**values), overrides) + EMA)
        ended = Bench("golden", "cut", 1, place).train(work, inject=partial(os.chdir, place))
        assert ended.code == 0, ended.output
        newest = work.checkpoints[-1]
        leave_out_places(newest)
        shutil.copytree(newest, target / "run" / "checkpoints" / newest.name)
        for name in ("unet", "text_encoder"):
            (target / name).mkdir()
            shutil.copy(place / "model" / name / "config.json", target / name / "config.json")
    print(target)
    return 0


def leave_out_places(checkpoint: Path) -> None:
    """Files are named from the root of the project, wherever that was; sizes and digests follow."""
    state, here = checkpoint / "state.json", f"{ROOT}/"
    state.write_text(state.read_text().replace(here, ""))
    stored = json.loads((checkpoint / manifest.NAME).read_text().replace(here, ""))
    files = {name: manifest.facts_of(checkpoint / name) for name in stored["files"]}
    facts = {key: value for key, value in stored.items() if key not in OF_ITSELF}
    (checkpoint / manifest.NAME).write_text(manifest.make(stored["step"], files, facts))


if __name__ == "__main__":
    sys.exit(main())
