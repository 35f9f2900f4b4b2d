"""Stable Diffusion 2.x: OpenCLIP's text encoder, linear projections, heads counted by level; epsilon and v."""

from functools import partial
from typing import Any

import torch

from tests.families.tiny.kind import Tiny
from tests.families.tiny.sd import encode
from tests.families.tiny.small_tokenizers import clip_tokenizer
from tests.families.tiny.text_encoders import clip_config
from tests.tiny_models import BETAS, disturb


def make(prediction: str = "v_prediction") -> Any:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    config = clip_config()
    config.hidden_act, config.pad_token_id = "gelu", 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        modules: dict[str, Any] = {
            "unet": UNet2DConditionModel(
                sample_size=8, block_out_channels=(8, 8, 16, 16), layers_per_block=2, cross_attention_dim=16,
                attention_head_dim=(1, 1, 2, 2), norm_num_groups=4, use_linear_projection=True, upcast_attention=True,
            ),
            "vae": AutoencoderKL(
                block_out_channels=(8, 8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, norm_num_groups=4, sample_size=64,
            ),
            "text_encoder": CLIPTextModel(config),
        }  # fmt: skip
        for module in modules.values():
            disturb(module.eval())
    return StableDiffusionPipeline(
        **modules, tokenizer=clip_tokenizer(pad_token="!"),
        scheduler=DDIMScheduler(
            **BETAS, prediction_type=prediction, clip_sample=False, set_alpha_to_one=False, steps_offset=1
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def tiny(name: str, prediction: str) -> Tiny:
    return Tiny(
        name=name,
        family="sd",
        make=partial(make, prediction),
        encode=encode,
        text_keys={"text_encoder": "text_model.encoder.layers.0.self_attn.q_proj.weight"},
        sampler="DDIMScheduler",
        train=("unet", "text_encoder"),
        is_further=prediction == "epsilon",
    )


MODELS = (tiny("sd2-v", "v_prediction"), tiny("sd2-base", "epsilon"))
