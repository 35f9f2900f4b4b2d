"""Small text encoders of the classes that the real models have."""

from typing import Any

from tests.families.tiny.small_tokenizers import GEMMA_WORDS, QWEN_WORDS, T5_WORDS
from tests.tiny_models import LENGTH

WIDTH = 16


def clip_config(layers: int = 2) -> Any:
    """For the demo's tokenizer."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=4098, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2,
        max_position_embeddings=LENGTH, bos_token_id=4096, eos_token_id=4097, pad_token_id=4097, projection_dim=WIDTH,
    )  # fmt: skip


def t5_encoder(width: int = 32) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=T5_WORDS, d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )  # fmt: skip
    return T5EncoderModel(config)


def gemma2() -> Any:
    from transformers import Gemma2Config, Gemma2Model

    config = Gemma2Config(
        vocab_size=GEMMA_WORDS, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, query_pre_attn_scalar=8, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    return Gemma2Model(config)


def qwen3() -> Any:
    """As many layers as it takes for those that are read; the words that it reads are those that it writes."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=QWEN_WORDS, hidden_size=8, intermediate_size=8, num_hidden_layers=28, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, tie_word_embeddings=True,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def qwen25_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {
        "vocab_size": QWEN_WORDS, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": None,
        "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    places = dict.fromkeys(("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"), 0)
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **places))
