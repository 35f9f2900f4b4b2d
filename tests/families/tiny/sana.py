"""Sana."""

from inspect import signature
from typing import Any

import torch
from torch import Tensor

from events.payloads import Conditioning
from tests.families.tiny.autoencoders import deep_compression_autoencoder
from tests.families.tiny.kind import Tiny
from tests.families.tiny.small_tokenizers import gemma_tokenizer
from tests.families.tiny.text_encoders import WIDTH, gemma2
from tests.tiny_models import disturb

TOKENS = 12


def make() -> Any:
    from diffusers import DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = {
            "transformer": SanaTransformer2DModel(
                in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=2,
                num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16,
                caption_channels=WIDTH, sample_size=8, timestep_scale=0.5,
            ),
            "vae": deep_compression_autoencoder(),
            "text_encoder": gemma2(),
        }  # fmt: skip
        for module in modules.values():
            disturb(module.eval())
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=2
    )
    return SanaPipeline(**modules, tokenizer=gemma_tokenizer("\n".join(instruction())), scheduler=scheduler)


def instruction() -> list[str]:
    from diffusers import SanaPipeline

    lines: list[str] = signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    return lines


def encode(pipeline: Any, captions: list[str]) -> Conditioning:
    """With the instruction, but for the empty caption, which is read as what the pipeline guides away from."""
    rows = []
    for caption in captions:
        embeddings, mask, _, _ = pipeline.encode_prompt(
            caption, do_classifier_free_guidance=False, max_sequence_length=TOKENS,
            complex_human_instruction=instruction() if caption else None,
        )  # fmt: skip
        rows.append((embeddings, mask))
    return {name: torch.cat([row[place] for row in rows]) for place, name in enumerate(("embeddings", "mask"))}


def reconstruct(vae: Any, pixels: Tensor, deviations: float) -> Tensor:
    picture: Tensor = vae.decode(vae.encode(pixels).latent).sample
    return picture


SANA = Tiny(
    name="sana",
    family="sana",
    make=make,
    encode=encode,
    text_keys={"text_encoder": "layers.0.self_attn.q_proj.weight"},
    max_tokens=TOKENS,
    call={"max_sequence_length": TOKENS, "use_resolution_binning": False},
    reconstruct=reconstruct,
)
MODELS = (SANA,)
