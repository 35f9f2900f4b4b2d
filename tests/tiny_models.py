"""A real Stable Diffusion 1.x model, shaped as SD 1.5 but so narrow that a forward pass takes milliseconds."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.config.tables import ModelTable
from core.families import load_data_side

STARTER = Path(__file__).parent.parent / "examples" / "starter"
LENGTH = 24
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def tiny_pipeline(*, seed: int = 0, unet_channels: int = 4, scheduler: Any = None) -> Any:
    """A StableDiffusionPipeline with four levels, two layers a block and no weight that is zero or one by default."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=unet_channels, block_out_channels=(8, 8, 16, 16), layers_per_block=2,
            cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, norm_num_groups=4, sample_size=64,
        )  # fmt: skip
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=4098, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                max_position_embeddings=LENGTH, bos_token_id=4096, eos_token_id=4097, pad_token_id=4097,
                projection_dim=16,
            )
        )  # fmt: skip
        for module in (unet, vae, text_encoder):
            disturb(module)
    return StableDiffusionPipeline(
        unet=unet, vae=vae, text_encoder=text_encoder.eval(),
        tokenizer=CLIPTokenizer.from_pretrained(STARTER / "tokenizer", local_files_only=True),
        scheduler=scheduler or PNDMScheduler(**BETAS, steps_offset=1, skip_prk_steps=True),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def disturb(module: nn.Module) -> None:
    """Move every weight a little, so that two that are exchanged cannot go unnoticed."""
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.02 * torch.randn_like(weight)


def write_folder(pipeline: Any, folder: Path) -> Path:
    """As a diffusers folder, by the stock `save_pretrained`."""
    pipeline.save_pretrained(folder)
    return folder


def write_single_file(pipeline: Any, path: Path) -> Path:
    """As one file in the original layout of its family, written as an export is."""
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as folder:
        pipeline.save_pretrained(folder)
        family: Any = load_data_side(ModelTable(path=Path(folder)), 0)
    states = {name: getattr(pipeline, name).state_dict() for name in family.present}
    save_file(family.single_file(states), path)
    return path
