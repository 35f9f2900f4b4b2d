"""Stable Diffusion XL: text encoders of two widths, sizes of pictures, several transformer layers a level."""

from typing import Any

import torch

from events.payloads import Conditioning
from tests.families.tiny.kind import Tiny
from tests.families.tiny.small_tokenizers import clip_tokenizer
from tests.families.tiny.text_encoders import WIDTH, clip_config
from tests.tiny_models import BETAS, disturb

WIDTH_2, POOLED, SIZES = 24, 12, 8
"""Of the second text encoder's states and of its vector; of the embedding of each size."""


def make() -> Any:
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    second = clip_config(layers=3)
    second.hidden_act, second.hidden_size, second.projection_dim, second.pad_token_id = "gelu", WIDTH_2, POOLED, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        modules: dict[str, Any] = {
            "unet": UNet2DConditionModel(
                sample_size=8, block_out_channels=(8, 16, 16), layers_per_block=2, cross_attention_dim=WIDTH + WIDTH_2,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=4,
                attention_head_dim=(1, 2, 2), transformer_layers_per_block=(1, 1, 2), use_linear_projection=True,
                addition_embed_type="text_time", addition_time_embed_dim=SIZES,
                projection_class_embeddings_input_dim=POOLED + 6 * SIZES,
            ),
            "vae": AutoencoderKL(
                block_out_channels=(8, 8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, norm_num_groups=4, sample_size=64,
                scaling_factor=0.13025, force_upcast=True,
            ),
            "text_encoder": CLIPTextModel(clip_config()),
            "text_encoder_2": CLIPTextModelWithProjection(second),
        }  # fmt: skip
        for module in modules.values():
            disturb(module.eval())
    return StableDiffusionXLPipeline(
        **modules, tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(pad_token="!"), add_watermarker=False,
        scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading"),
    )  # fmt: skip


def encode(pipeline: Any, captions: list[str]) -> Conditioning:
    embeddings, _, pooled, _ = pipeline.encode_prompt(captions, do_classifier_free_guidance=False)
    return {"embeddings": embeddings, "pooled": pooled}


KEY = "text_model.encoder.layers.0.self_attn.q_proj.weight"
SDXL = Tiny(
    name="sdxl",
    family="sdxl",
    make=make,
    encode=encode,
    text_keys={"text_encoder": KEY, "text_encoder_2": KEY},
    sampler="DDIMScheduler",
    train=("unet", "text_encoder", "text_encoder_2"),
)
MODELS = (SDXL,)
