"""PixArt-Sigma, and PixArt-alpha, which is told the size of the picture."""

from functools import partial
from typing import Any

import torch

from events.payloads import Conditioning
from tests.families.tiny.autoencoders import kl_autoencoder
from tests.families.tiny.kind import Tiny
from tests.families.tiny.small_tokenizers import t5_tokenizer
from tests.families.tiny.text_encoders import t5_encoder
from tests.tiny_models import disturb

TOKENS = 12


def make(pipeline: str, sample_size: int) -> Any:
    import diffusers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = {
            "transformer": diffusers.PixArtTransformer2DModel(
                num_attention_heads=3, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2,
                cross_attention_dim=24, attention_bias=True, patch_size=2, caption_channels=32, sample_size=sample_size,
            ),
            "vae": kl_autoencoder(),
            "text_encoder": t5_encoder(width=32),
        }  # fmt: skip
        for module in modules.values():
            disturb(module.eval())
    scheduler = diffusers.DPMSolverMultistepScheduler(solver_order=2)
    return getattr(diffusers, pipeline)(**modules, tokenizer=t5_tokenizer(), scheduler=scheduler)


def encode(pipeline: Any, captions: list[str]) -> Conditioning:
    embeddings, mask, _, _ = pipeline.encode_prompt(
        captions, do_classifier_free_guidance=False, max_sequence_length=TOKENS
    )
    return {"embeddings": embeddings, "mask": mask}


MODELS = tuple(
    Tiny(
        name=name,
        family=family,
        make=partial(make, pipeline, sample_size),
        encode=encode,
        text_keys={"text_encoder": "encoder.block.0.layer.0.SelfAttention.q.weight"},
        max_tokens=TOKENS,
        call={"max_sequence_length": TOKENS, "use_resolution_binning": False, "clean_caption": False},
    )
    for name, family, pipeline, sample_size in (
        ("pixart-sigma", "pixart", "PixArtSigmaPipeline", 32),
        ("pixart-alpha-1024", "pixart_alpha", "PixArtAlphaPipeline", 128),
    )
)
