"""What a trial trains with, and what says whether two runs have left the same."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from tests.small_runs import NAMES, PICTURES, STARTER

DIGESTED = ("position", "optimizer", "step", "plugins", "metrics", "validation")
"""Of state.json, what two runs that are the same agree in."""
PRODUCT = ["as it is"]
"""Which product is on the bench; what one has made is no reference for another."""


@dataclass(frozen=True)
class Workspace:
    """A folder with a config of its own, whose runs are the subject of a trial."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def run(self) -> Path:
        return self.path / "runs" / "test"

    @property
    def checkpoints(self) -> list[Path]:
        """Of the run, by step, damaged ones included."""
        return sorted(path for path in (self.run / "checkpoints").glob("step-*") if path.name[5:].isdecimal())

    @property
    def log(self) -> list[dict[str, object]]:
        """The lines of log.jsonl."""
        return [json.loads(line) for line in (self.run / "log.jsonl").read_text().splitlines()]

    def said(self, words: str) -> bool:
        """Whether a line of the log has these words."""
        return any(words in str(line["event"]) for line in self.log)


def with_overrides(text: str, overrides: Sequence[str]) -> str:
    """The TOML text with `table.key=value` written into its tables, whose keys stand one a line."""
    for override in overrides:
        key, _, value = override.partition("=")
        table, _, name = key.partition(".")
        head, found, rest = text.partition(f"[{table}]\n")
        if not found:
            text = f"[{table}]\n{name} = {value}\n" + text
            continue
        body, bracket, after = rest.partition("\n[")
        lines = [line for line in body.splitlines() if line.partition("=")[0].strip() != name]
        text = head + found + "\n".join([f"{name} = {value}", *lines]) + bracket + after
    return text


def digest(workspace: Workspace, parts: Sequence[str] | None = None) -> str:
    """Of all that the newest checkpoint holds but names and moments: weights, EMA, optimizer, position, sample order.

    `parts` are dotted keys of state.json; left out, those of DIGESTED.
    """
    return digest_of(workspace.checkpoints[-1], parts)


def digest_of(newest: Path, parts: Sequence[str] | None = None) -> str:
    """`digest`, of one checkpoint's folder."""
    import torch
    from safetensors.torch import load_file

    total = sha256(newest.name.encode())
    for path in sorted(newest.glob("*.safetensors")):
        for name, tensor in sorted(load_file(path).items()):
            total.update(f"{path.name} {name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    state = json.loads((newest / "state.json").read_text())
    for part in parts or DIGESTED:
        value = state
        for key in part.split("."):
            value = value[key]
        total.update(f"{part} {json.dumps(value, sort_keys=True)}".encode())
    return total.hexdigest()


def kept(*names: object) -> Path:
    """Where something is kept that is made once for the whole campaign."""
    return shared_folder() / sha256(repr((PRODUCT, names)).encode()).hexdigest()


@cache
def shared_folder() -> Path:
    """Of what every row reads and none changes; removed when the campaign ends."""
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="signalbox-faults-"))
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


@cache
def model_folder() -> Path:
    """The starter model with modules so small that a step takes milliseconds."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig

    folder = shared_folder() / "model"
    shutil.copytree(STARTER, folder)
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), mid_block_type=None,
        up_block_types=("UpBlock2D",), layers_per_block=1, cross_attention_dim=16, attention_head_dim=4,
        norm_num_groups=2,
    ).save_config(folder / "unet")  # fmt: skip
    settings = AutoencoderKL.load_config(folder / "vae")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKL.from_config({**settings, "block_out_channels": [4, 4, 8], "norm_num_groups": 2})
        vae.save_pretrained(folder / "vae")
    config = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_attention_heads = 16, 32, 1, 2
    config.save_pretrained(folder / "text_encoder")
    return folder


@cache
def picture_folder() -> Path:
    """Ten of the demo's pictures with their captions."""
    return copy_pictures(shared_folder() / "pictures")


def copy_pictures(folder: Path, names: Sequence[str] = NAMES) -> Path:
    """The same ten, or others of the demo, in a folder that a trial may change."""
    for name in names:
        for suffix in (".png", ".txt"):
            target = (folder / name).with_suffix(suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy((PICTURES / name).with_suffix(suffix), target)
    return folder
