"""Chroma."""

from typing import Any

import torch

from events.payloads import Conditioning
from tests.families.tiny.autoencoders import without_quantization
from tests.families.tiny.flux import pack, unpack
from tests.families.tiny.kind import Tiny
from tests.families.tiny.small_tokenizers import t5_tokenizer
from tests.families.tiny.text_encoders import t5_encoder
from tests.tiny_models import disturb

TOKENS = 12


def make() -> Any:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = {
            "transformer": ChromaTransformer2DModel(
                in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
                joint_attention_dim=32, axes_dims_rope=(4, 6, 6), approximator_num_channels=8,
                approximator_hidden_dim=16, approximator_layers=1,
            ),
            "vae": without_quantization(),
            "text_encoder": t5_encoder(width=32),
        }  # fmt: skip
        for module in modules.values():
            disturb(module.eval())
    return ChromaPipeline(**modules, tokenizer=t5_tokenizer(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0))


def encode(pipeline: Any, captions: list[str]) -> Conditioning:
    embeddings, _, mask, _, _, _ = pipeline.encode_prompt(
        captions, do_classifier_free_guidance=False, max_sequence_length=TOKENS
    )
    return {"embeddings": embeddings, "mask": mask}


CHROMA = Tiny(
    name="chroma",
    family="chroma",
    make=make,
    encode=encode,
    text_keys={"text_encoder": "encoder.block.0.layer.0.SelfAttention.q.weight"},
    max_tokens=TOKENS,
    call={"max_sequence_length": TOKENS},
    pack=pack,
    unpack=unpack,
)
MODELS = (CHROMA,)
