"""Folders of models that benchmarks train, in the stock layout, with random weights that follow from a seed."""

import shutil
from pathlib import Path

import torch

STARTER = Path(__file__).parent.parent / "examples" / "starter"
"""The demo's model; its UNet and text encoder begin at random."""
PIXELS = 256


def write_medium(folder: Path) -> Path:
    """A latent diffusion model of 35 M parameters in the UNet, 16 M in the text encoder, 3 M in the VAE, for 256 px."""
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=PIXELS // 8, block_out_channels=(128, 192, 320), layers_per_block=2, cross_attention_dim=256,
            attention_head_dim=8, down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        )  # fmt: skip
        vae = AutoencoderKL(
            sample_size=PIXELS, block_out_channels=(32, 64, 96, 128), norm_num_groups=16,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        text = CLIPTextConfig(hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4)
        pipeline = StableDiffusionPipeline(
            vae=vae, unet=unet, text_encoder=CLIPTextModel(text),
            tokenizer=CLIPTokenizer.from_pretrained(STARTER / "tokenizer", model_max_length=text.max_position_embeddings),
            scheduler=DDPMScheduler.from_pretrained(STARTER / "scheduler"), safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def copy_starter(folder: Path) -> Path:
    """The demo's model."""
    shutil.copytree(STARTER, folder)
    return folder
