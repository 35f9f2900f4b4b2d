"""What the tests share: a small real model, a few real pictures, and runs of the real trainer on them."""

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import settings

from tests.small_runs import CONFIG, NAMES, PICTURES, ROOT, STARTER, Run, sets

settings.register_profile("untimed", deadline=None)  # no test depends on how fast the machine is
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter model with a UNet and a text encoder so small that a step takes milliseconds."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig

    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(STARTER, folder)
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=1, cross_attention_dim=16,
        attention_head_dim=8, norm_num_groups=4,
    ).save_config(folder / "unet")  # fmt: skip
    config = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_attention_heads = 16, 32, 1, 2
    config.save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten of the demo's pictures with their captions."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    for name in NAMES:
        for suffix in (".png", ".txt"):
            target = (folder / name).with_suffix(suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy((PICTURES / name).with_suffix(suffix), target)
    return folder


@cache
def leave_libraries_to_rest() -> None:
    """Take what has been imported out of the garbage collector's rounds, which each run ends with."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def write_config(tmp_path: Path, model_folder: Path, picture_folder: Path) -> Callable[..., Path]:
    """Write a config.toml of a small quick run; `plugins` is TOML text appended to it."""

    def write(plugins: str = "", *, name: str = "config.toml") -> Path:
        path = tmp_path / name
        values = {
            "dir": tmp_path / "runs", "model": model_folder, "data": picture_folder, "cache": tmp_path / "cache"
        }  # fmt: skip
        path.write_text(CONFIG.format(**{key: json.dumps(str(value)) for key, value in values.items()}) + plugins)
        return path

    return write


@pytest.fixture
def train(write_config: Callable[..., Path]) -> Callable[..., Run]:
    """Train in this process, as `run.py train` does: `train("train.steps=3", plugins="...")`."""
    import run
    from core.run_folder import find_run
    from core.session import Session, configure

    def execute(
        *overrides: str,
        plugins: str = "",
        fresh: bool = False,
        accept_data_change: bool = False,
        profiled_steps: int = 0,
    ) -> Run:
        path = write_config(plugins)
        config = run.load(path, list(overrides))
        bus, source = run.assemble_bus(config, path)
        config = configure(bus, config, str(path))
        folder = find_run(config, fresh=fresh)
        session = Session(
            config, bus, source, folder, accept_data_change=accept_data_change, profiled_steps=profiled_steps
        )  # fmt: skip
        outcome = session.execute()
        leave_libraries_to_rest()
        return Run(folder=outcome.folder, exit_code=outcome.exit_code, bus=bus, spent=outcome.spent.seconds())

    return execute


@pytest.fixture
def run_command(write_config: Callable[..., Path]) -> Callable[..., Run]:
    """Train in a process of its own by the command line: `run_command("train.steps=3", plugins="...")`."""

    def execute(*overrides: str, plugins: str = "", arguments: Sequence[str] = (), name: str = "test") -> Run:
        path = write_config(plugins)
        command = [sys.executable, str(ROOT / "run.py"), "train", str(path), *sets(overrides), *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}  # set by `main`
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            start_new_session=True,
        )
        return Run(folder=path.parent / "runs" / name, exit_code=done.returncode, output=done.stdout + done.stderr)

    return execute
