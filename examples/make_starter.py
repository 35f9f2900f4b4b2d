"""Make the demo's starter model: a diffusers folder with a trained VAE, a tokenizer, and configs to start from.

    pip download --no-deps open_clip_torch && unzip open_clip_torch-*.whl open_clip/bpe_simple_vocab_16e6.txt.gz
    python examples/make_starter.py open_clip/bpe_simple_vocab_16e6.txt.gz --out examples/starter

The merges are OpenAI's CLIP (MIT), cut to the first 3,584, which keeps most short words whole. `train_vae.py` makes
the vae folder. The UNet and the text encoder have no weights here: the demo trains them from scratch.
"""

import argparse
import gzip
import json
from pathlib import Path

MERGES = 3584
LENGTH = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("merges", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_tokenizer_files(arguments.merges, arguments.out / "tokenizer")
    write_configs(arguments.out)


def write_tokenizer_files(merges_file: Path, folder: Path) -> None:
    lines = gzip.decompress(merges_file.read_bytes()).decode("utf-8").split("\n")[1 : MERGES + 1]
    alphabet = byte_alphabet()
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(line.split()) for line in lines]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n", encoding="utf-8")
    end = "<|endoftext|>"
    settings = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "bos_token": "<|startoftext|>",
        "eos_token": end, "pad_token": end, "unk_token": end, "do_lower_case": True, "errors": "replace",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def byte_alphabet() -> list[str]:
    """A printable letter for each byte, in CLIP's order: those printable in Latin-1 as they are, the rest from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(0x100 + place) for place in range(256 - len(printable))]


def write_configs(out: Path) -> None:
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig

    DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
        clip_sample=False, steps_offset=1,
    ).save_pretrained(out / "scheduler")  # fmt: skip
    CLIPTextConfig(
        vocab_size=512 + MERGES + 2, hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=LENGTH, bos_token_id=512 + MERGES, eos_token_id=513 + MERGES, pad_token_id=513 + MERGES,
        projection_dim=64, architectures=["CLIPTextModel"],
    ).save_pretrained(out / "text_encoder")  # fmt: skip
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(64, 128), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=1, cross_attention_dim=64,
        attention_head_dim=32, norm_num_groups=16,
    ).save_config(out / "unet")  # fmt: skip
    index = {
        "_class_name": "StableDiffusionPipeline",
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
