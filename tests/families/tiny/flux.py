"""Flux.1, distilled to take a guidance scale (dev) and not (schnell)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from events.payloads import Conditioning
from tests.families.tiny.autoencoders import without_quantization
from tests.families.tiny.kind import SIDES, Tiny
from tests.families.tiny.small_tokenizers import clip_tokenizer, t5_tokenizer
from tests.families.tiny.text_encoders import WIDTH, clip_config, t5_encoder
from tests.tiny_models import disturb

TOKENS = 12


def make(*, guidance_embeds: bool) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = {
            "transformer": FluxTransformer2DModel(
                in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
                joint_attention_dim=32, pooled_projection_dim=WIDTH, guidance_embeds=guidance_embeds,
                axes_dims_rope=(4, 6, 6),
            ),
            "vae": without_quantization(),
            "text_encoder": CLIPTextModel(clip_config()),
            "text_encoder_2": t5_encoder(width=32),
        }  # fmt: skip
        for module in modules.values():
            disturb(module.eval())
    return FluxPipeline(
        **modules,
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=guidance_embeds),
    )


def encode(pipeline: Any, captions: list[str]) -> Conditioning:
    embeddings, pooled, _ = pipeline.encode_prompt(captions, max_sequence_length=TOKENS)
    return {"embeddings": embeddings, "pooled": pooled}


def pack(latents: Tensor) -> Tensor:
    from diffusers import FluxPipeline

    packed: Tensor = FluxPipeline._pack_latents(latents, *latents.shape)
    return packed


def unpack(tokens: Tensor) -> Tensor:
    from diffusers import FluxPipeline

    unpacked: Tensor = FluxPipeline._unpack_latents(tokens, *SIDES, 8)
    return unpacked


MODELS = tuple(
    Tiny(
        name=name,
        family="flux",
        make=partial(make, guidance_embeds=guidance_embeds),
        encode=encode,
        text_keys={
            "text_encoder": "text_model.encoder.layers.0.self_attn.q_proj.weight",
            "text_encoder_2": "encoder.block.0.layer.0.SelfAttention.q.weight",
        },
        max_tokens=TOKENS,
        call={"max_sequence_length": TOKENS},
        takes_negative=False,
        pack=pack,
        unpack=unpack,
        train=("transformer", "text_encoder"),
        is_further=not guidance_embeds,
    )
    for name, guidance_embeds in (("flux-dev", True), ("flux-schnell", False))
)
