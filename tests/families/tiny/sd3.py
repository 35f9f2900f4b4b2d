"""Stable Diffusion 3; and 3.5 of medium size (two kinds of attention in a layer, normalised queries) without T5."""

from functools import partial
from typing import Any

import torch

from events.payloads import Conditioning
from tests.families.tiny.autoencoders import without_quantization
from tests.families.tiny.kind import Tiny
from tests.families.tiny.small_tokenizers import clip_tokenizer, t5_tokenizer
from tests.families.tiny.text_encoders import WIDTH, clip_config, t5_encoder
from tests.tiny_models import disturb

TOKENS = 12


def make(*, t5: bool, **transformer: Any) -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )
    from transformers import CLIPTextModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules: dict[str, Any] = {
            "transformer": SD3Transformer2DModel(
                sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
                num_attention_heads=2, joint_attention_dim=40, caption_projection_dim=16, pos_embed_max_size=16,
                pooled_projection_dim=2 * WIDTH, **transformer,
            ),
            "vae": without_quantization(),
            "text_encoder": CLIPTextModelWithProjection(clip_config()),
            "text_encoder_2": CLIPTextModelWithProjection(clip_config(layers=3)),
        }  # fmt: skip
        if t5:
            modules["text_encoder_3"] = t5_encoder(width=40)
        for module in modules.values():
            disturb(module.eval())
    return StableDiffusion3Pipeline(
        **({"text_encoder_3": None} | modules),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer() if t5 else None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def encode(pipeline: Any, captions: list[str]) -> Conditioning:
    embeddings, _, pooled, _ = pipeline.encode_prompt(
        captions, None, None, do_classifier_free_guidance=False, max_sequence_length=TOKENS
    )
    return {"embeddings": embeddings, "pooled": pooled}


CLIP_KEYS = dict.fromkeys(("text_encoder", "text_encoder_2"), "text_model.encoder.layers.0.self_attn.q_proj.weight")
SD3 = Tiny(
    name="sd3",
    family="sd3",
    make=partial(make, t5=True),
    encode=encode,
    text_keys=CLIP_KEYS | {"text_encoder_3": "encoder.block.0.layer.0.SelfAttention.q.weight"},
    max_tokens=TOKENS,
    call={"max_sequence_length": TOKENS},
    train=("transformer", "text_encoder", "text_encoder_2"),
)
SD35 = Tiny(
    name="sd3.5-without-t5",
    family="sd3",
    make=partial(make, t5=False, dual_attention_layers=(0,), qk_norm="rms_norm"),
    encode=encode,
    text_keys=CLIP_KEYS,
    absent={"text_encoder_3": None, "tokenizer_3": None},
    max_tokens=TOKENS,
    call={"max_sequence_length": TOKENS},
)
MODELS = (SD3, SD35)
