"""Flux.2 klein, before it is distilled."""

from typing import Any

import torch
from torch import Tensor

from events.payloads import Conditioning
from tests.families.tiny.autoencoders import normalising_autoencoder
from tests.families.tiny.kind import Tiny
from tests.families.tiny.small_tokenizers import qwen_tokenizer
from tests.families.tiny.text_encoders import qwen3
from tests.tiny_models import disturb

TOKENS = 24


def make() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = {
            "transformer": Flux2Transformer2DModel(
                in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
                joint_attention_dim=24, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
                guidance_embeds=False,
            ),
            "vae": normalising_autoencoder(),
            "text_encoder": qwen3(),
        }  # fmt: skip
        for module in modules.values():
            disturb(module.eval())
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    tokenizer = qwen_tokenizer("user", "assistant", "think")
    return Flux2KleinPipeline(**modules, tokenizer=tokenizer, scheduler=scheduler, is_distilled=False)


def encode(pipeline: Any, captions: list[str]) -> Conditioning:
    return {"embeddings": pipeline.encode_prompt(captions, max_sequence_length=TOKENS)[0]}


def pack(latents: Tensor) -> Tensor:
    return latents.flatten(2).transpose(1, 2)


def unpack(tokens: Tensor) -> Tensor:
    unpacked: Tensor = tokens.transpose(1, 2).unflatten(2, (4, 8))
    return unpacked


KLEIN = Tiny(
    name="flux2-klein",
    family="flux2_klein",
    make=make,
    encode=encode,
    text_keys={"text_encoder": "model.layers.0.self_attn.q_proj.weight"},
    max_tokens=TOKENS,
    call={"max_sequence_length": TOKENS},
    takes_negative=False,
    pack=pack,
    unpack=unpack,
)
MODELS = (KLEIN,)
