"""Small tokenizers of the classes that the real models have, built in place."""

import json
from collections.abc import Sequence
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

GEMMA_WORDS = 512


def gemma_tokenizer(text: str) -> Any:
    """Pairs learned from the text and from our words; of what it does not know, the bytes."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import GemmaTokenizerFast

    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    bytes_of_text = [f"<0x{number:02X}>" for number in range(256)]
    vocabulary, merges = learned(learner, [text], ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *bytes_of_text])
    return GemmaTokenizerFast(vocab=vocabulary, merges=merges, add_bos_token=True)


QWEN_WORDS = 512
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)


def qwen_tokenizer(*texts: str) -> Any:
    """Of these texts each word is one token, as of the real one; for anything else there are the bytes."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import Qwen2TokenizerFast
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    vocabulary, merges = learned(learner, texts, [], pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|im_start|>", "<|im_end|>"]
    return Qwen2TokenizerFast(vocab=vocabulary, merges=merges, extra_special_tokens=specials, chat_template=CHAT)


def learned(
    tokenizer: Any, texts: Sequence[str], specials: Sequence[str], letters: Sequence[str] = LETTERS
) -> tuple[dict[str, int], list[Any]]:
    """Vocabulary and merges, with all of these letters and our words."""
    from tokenizers.trainers import BpeTrainer

    trainer = BpeTrainer(
        vocab_size=500, special_tokens=list(specials), initial_alphabet=list(letters), show_progress=False
    )
    tokenizer.train_from_iterator([*texts, " ".join(WORDS), " ".join("a" * 9)], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]
