"""What the tests share: a small real model, a few real pictures, and runs of the real trainer on them."""

import gc
import json
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from tempfile import gettempdir

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as the command line does
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(gettempdir()) / "hypothesis"))  # and not in the tree
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed says on the terminal that it has found no other

import pytest
from hypothesis import settings

from tests.small_runs import CONFIG, NAMES, PICTURES, STARTER, Run, sets
from tests.warm import run_py

settings.register_profile("the same", deadline=None, derandomize=True)  # on a slow machine, and in every run
settings.load_profile("the same")


def pytest_configure(config: pytest.Config) -> None:
    """Nobody's seeding is called between tests: that of an installed library would import it, and torch with it."""
    config.option.randomly_reset_seed = False


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A command line that ran in a test's own process has set it for all that are started from there."""
    os.environ.pop("PYTHONSAFEPATH", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What tests have printed and logged travels between processes, which halves of characters cannot."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter model with parts so small that a step takes milliseconds."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig

    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(STARTER, folder)
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",),
        mid_block_type=None, up_block_types=("UpBlock2D",), layers_per_block=1, cross_attention_dim=16, attention_head_dim=8,
        norm_num_groups=4,
    ).save_config(folder / "unet")  # fmt: skip
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            sample_size=32, block_out_channels=(4, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1, norm_num_groups=4, latent_channels=4,
            mid_block_add_attention=False, scaling_factor=0.56393,
        )  # fmt: skip
        means, logarithms = vae.quant_conv.weight.chunk(2)  # as those of a trained one: of unit variance, and certain
        means.mul_(10)
        logarithms.zero_()
        vae.quant_conv.bias.copy_(torch.tensor([0.0] * 4 + [-10.0] * 4))
        vae.save_pretrained(folder / "vae")
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


class Rest:
    """Takes what stays in memory out of the garbage collector's rounds, which each run ends with."""

    RUNS = 10
    """After so many it looks at everything again, for what has become garbage meanwhile."""
    _count = 0

    @classmethod
    def after_a_run(cls) -> None:
        if cls._count % cls.RUNS == 0:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        cls._count += 1


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
    from core.run.session import Session, configure
    from core.run_folder.folder import find_run

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
        Rest.after_a_run()
        return Run(folder=outcome.folder, exit_code=outcome.exit_code, bus=bus, spent=outcome.spent.seconds())

    return execute


@pytest.fixture
def run_command(write_config: Callable[..., Path]) -> Callable[..., Run]:
    """Train in a process of its own by the command line: `run_command("train.steps=3", plugins="...")`."""

    def execute(*overrides: str, plugins: str = "", arguments: Sequence[str] = (), name: str = "test") -> Run:
        path = write_config(plugins)
        done = run_py("train", str(path), *sets(overrides), *arguments)
        return Run(folder=path.parent / "runs" / name, exit_code=done.returncode, output=done.stdout + done.stderr)

    return execute
