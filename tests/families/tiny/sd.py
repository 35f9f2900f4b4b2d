"""Stable Diffusion 1.x."""

from typing import Any

from events.payloads import Conditioning
from tests.families.tiny.kind import Tiny
from tests.tiny_models import tiny_pipeline


def encode(pipeline: Any, captions: list[str]) -> Conditioning:
    return {"embeddings": pipeline.encode_prompt(captions, "cpu", 1, do_classifier_free_guidance=False)[0]}


SD1 = Tiny(
    name="sd1",
    family="sd",
    make=tiny_pipeline,
    encode=encode,
    text_keys={"text_encoder": "text_model.encoder.layers.0.self_attn.q_proj.weight"},
    sampler="DDIMScheduler",
    train=("unet", "text_encoder"),
)
MODELS = (SD1,)
