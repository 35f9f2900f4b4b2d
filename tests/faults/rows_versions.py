"""Row F19: checkpoints that another version has written."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import tomli

from core.checkpoint import manifest
from tests.small_runs import CONFIG, STARTER

from .bench import Bench, Workspace, copy_pictures, with_overrides
from .on_disk import seal_again, tree, write_manifest
from .rows import row
from .rows_process import begun
from .rows_signals import SHORT

REFUSED = 4
GOLDEN = Path(__file__).parent / "golden"
"""A folder for each schema that was ever written: `run/` as a run left it, and the configs of its small model."""


@row("F19", "checkpoints of other versions", cut=4, short=6, long=6)
def other_versions(bench: Bench) -> None:
    """A checkpoint of each schema is loaded to the last bit; unknown ones are refused, other libraries warned of."""
    trials: dict[str, Callable[[Bench], None]] = {
        f"golden of schema {schema}": partial(loads_golden, GOLDEN / f"schema-{schema}") for schema in manifest.READ
    }
    trials |= {"the newest is of schema 99": passes_over_unknown, "all are of schema 99": refuses_unknown}
    trials |= {"another torch": warns_of_libraries, "a plugin of another version": warns_of_plugin}
    bench.spread(dict(list(trials.items())[: bench.count]))


def loads_golden(golden: Path, bench: Bench) -> None:
    """Where it was made, `model`, `pictures` and `runs` were folders of the current one."""
    place = bench.folder / golden.name
    shutil.copytree(STARTER, place / "model")
    for name in ("unet", "text_encoder"):
        shutil.copy(golden / name / "config.json", place / "model" / name / "config.json")
    copy_pictures(place / "pictures")
    shutil.copytree(golden / "run", place / "runs" / "test")
    stored = next((golden / "run" / "checkpoints").glob("step-*"))
    step = int(stored.name[5:])
    config = tomli.loads((stored / "config.toml").read_text())
    plugins = "".join(f"\n[[plugins]]\nuse = {json.dumps(entry['use'])}\n" for entry in config["plugins"])
    keep = f'\n[[plugins]]\nuse = "tests.faults.plugins_for_faults.KeepLoaded"\ntarget = "{place}/loaded.safetensors"\n'
    values = {"dir": '"runs"', "model": '"model"', "data": '"pictures"', "cache": '"cache"'}
    overrides = (f"model.train={json.dumps(config['model']['train'])}", f"train.steps={step + 2}")
    work = Workspace(place)
    work.config.write_text(with_overrides(CONFIG.format(**values), overrides) + plugins + keep)
    ended = bench.train(work, inject=partial(os.chdir, place))
    assert ended.code == 0, ended.output
    assert f"resumed step={step} " in ended.output, ended.output
    assert work.checkpoints[-1].name == f"step-{step + 2:08d}"
    assert_holds(place / "loaded.safetensors", stored / "weights.safetensors")


def assert_holds(loaded: Path, stored: Path) -> None:
    """Every stored tensor is among the loaded ones, bit for bit."""
    import torch
    from safetensors.torch import load_file

    live, wanted = load_file(loaded), load_file(stored)
    assert wanted
    different = [name for name, tensor in wanted.items() if not torch.equal(tensor, live[name])]
    assert not different, different


def as_of_schema_99(checkpoint: Path) -> None:
    path = checkpoint / "manifest.json"
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 99'))


def passes_over_unknown(bench: Bench) -> None:
    work = begun(bench, SHORT, steps=3)
    as_of_schema_99(work.checkpoints[-1])
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    told = next(line for line in ended.output.splitlines() if "passed over" in line)
    assert "schema 99" in told, told
    assert "resumed step=2 lost=1" in ended.output, ended.output
    assert (work.run / "checkpoints" / "step-00000003.corrupt").is_dir()


def refuses_unknown(bench: Bench) -> None:
    work = begun(bench, SHORT, steps=3)
    for checkpoint in work.checkpoints:
        as_of_schema_99(checkpoint)
    before = tree(work.run / "checkpoints")
    ended = bench.train(work)
    assert ended.code == REFUSED, ended.output
    assert ended.output.count("schema 99") == 2, ended.output
    assert "use the version of Signalbox that wrote it" in ended.output, ended.output
    assert tree(work.run / "checkpoints") == before


def warns_of_libraries(bench: Bench) -> None:
    work = begun(bench, SHORT)
    stored = json.loads((work.checkpoints[-1] / "manifest.json").read_text())
    stored["libraries"]["torch"] = "1.13.1"
    write_manifest(work.checkpoints[-1], stored)
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    assert "torch 1.13.1 -> " in ended.output, ended.output


def warns_of_plugin(bench: Bench) -> None:
    work = begun(bench, SHORT)
    path = work.checkpoints[-1] / "state.json"
    state = json.loads(path.read_text())
    state["versions"]["Journal"] = 7
    path.write_text(json.dumps(state))
    seal_again(work.checkpoints[-1])
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    assert "plugin Journal stored its state as version 7 and is 1 now" in ended.output, ended.output
