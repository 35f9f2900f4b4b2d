"""Qwen-Image."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from core.families.qwen_image import TEMPLATE
from events.payloads import Conditioning
from tests.families.tiny.autoencoders import film_autoencoder
from tests.families.tiny.flux import pack, unpack
from tests.families.tiny.kind import Tiny, by_posterior
from tests.families.tiny.small_tokenizers import qwen_tokenizer
from tests.families.tiny.text_encoders import WIDTH, qwen25_vl
from tests.tiny_models import disturb

TOKENS = 16


def make() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, QwenImagePipeline, QwenImageTransformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = {
            "transformer": QwenImageTransformer2DModel(
                in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
                joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6),
            ),
            "vae": film_autoencoder(),
            "text_encoder": qwen25_vl(),
        }  # fmt: skip
        for module in modules.values():
            disturb(module.eval())
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return QwenImagePipeline(**modules, tokenizer=qwen_tokenizer(TEMPLATE, "user", "assistant"), scheduler=scheduler)


def encode(pipeline: Any, captions: list[str]) -> Conditioning:
    """The stock pipeline fills up to the longest caption, we to the same length for all."""
    embeddings, mask = pipeline.encode_prompt(captions, max_sequence_length=TOKENS)
    missing = TOKENS - mask.shape[1]
    return {"embeddings": pad(embeddings, (0, 0, 0, missing)), "mask": pad(mask, (0, missing)).bool()}


def reconstruct(vae: Any, pixels: Tensor, deviations: float) -> Tensor:
    picture: Tensor = by_posterior(vae, pixels[:, :, None], deviations)[:, :, 0]
    return picture


QWEN_IMAGE = Tiny(
    name="qwen-image",
    family="qwen_image",
    make=make,
    encode=encode,
    text_keys={"text_encoder": "model.layers.0.self_attn.q_proj.weight"},
    max_tokens=TOKENS,
    call={"max_sequence_length": TOKENS},
    guidance="true_cfg_scale",
    pack=pack,
    unpack=unpack,
    reconstruct=reconstruct,
)
MODELS = (QWEN_IMAGE,)
