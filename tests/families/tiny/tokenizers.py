"""Small tokenizers of the classes that the real models have, built in place."""

from typing import Any

from tests.tiny_models import STARTER

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"<>|/-_ \n"
WORDS = ("red", "blue", "heart", "owl", "very", "a", "an", "the", "square", "circle")


def clip_tokenizer(**tokens: str) -> Any:
    """The demo's, of 4098 words, that reads 24 at a time; with special tokens of its own, such as `pad_token`."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(STARTER / "tokenizer", local_files_only=True, **tokens)


def t5_tokenizer() -> Any:
    """Unigrams of letters and a few words; what it does not know is one piece."""
    from transformers import T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -2.0)]
    pieces += [(letter, -5.0) for letter in LETTERS if not letter.isspace()]
    pieces += [(f"▁{word}", -3.0) for word in WORDS]
    return T5TokenizerFast(vocab=pieces, extra_ids=2, model_max_length=512)


T5_WORDS = 128
"""As many rows as a T5 of this tokenizer has, more than there are pieces."""
