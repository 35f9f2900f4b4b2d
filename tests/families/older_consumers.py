"""Does an export reach tools that pin an older transformers whole? Run by hand, since it takes a second environment.

    python -m venv old && old/bin/pip install torch "transformers==4.54.*" "diffusers==0.35.*" safetensors numpy
    python -m tests.families.older_consumers make /tmp/check
    old/bin/python tests/families/older_consumers.py check /tmp/check/*

`make` exports a small model of each family of Stable Diffusion with the current releases, as a folder and as a single
file, and keeps what it should be; `check` needs none of our code. Any other export may be given to `check` as a folder
that holds it as `export/`, with the weights of its modules as `expected.safetensors`, named `module.weight`, and where
wanted `model.safetensors`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

CAPTIONS = ["a red heart", "", "Ünïcode, 3 owls' nest!", "very " * 100, "an emoji of <|endoftext|> a FOX"]
IDS = "token_ids"
TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("folder", type=Path)
    commands.add_parser("check").add_argument("folders", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.folder)
        return
    for folder in arguments.folders:
        print(f"{folder}:")
        check(folder)


def make(folder: Path) -> None:
    """By model `export/`, `model.safetensors`, `expected.safetensors`, and as `stock/` what today's save_pretrained writes."""
    import torch
    from safetensors.torch import save_file

    from core.config.tables import ModelTable
    from core.families import float_state, load_family
    from tests.families.tiny import sd2, sdxl
    from tests.tiny_models import tiny_pipeline, write_folder

    for name, pipeline in (("sd1", tiny_pipeline()), ("sd2", sd2.make()), ("sdxl", sdxl.make())):
        place = folder / name
        family = load_family(ModelTable(path=write_folder(pipeline, place / "stock")), seed=0)
        tensors = {part: float_state(module, torch.float32) for part, module in family.modules.items()}
        family.write(place / "export", tensors, {part: {} for part in tensors})
        save_file(family.single_file(tensors), place / "model.safetensors")
        expected = {f"{part}.{key}": tensor for part, state in tensors.items() for key, tensor in state.items()}
        ids = {f"{IDS}.{part}": found for part, found in family.tokenize(CAPTIONS).items()}
        save_file(expected | ids, place / "expected.safetensors")


def check(folder: Path) -> None:
    """Raises AssertionError, or whatever the older library raises, where the export does not reach it."""
    import diffusers
    import transformers
    from safetensors.torch import load_file

    export, expected = folder / "export", load_file(folder / "expected.safetensors")
    index = json.loads((export / "model_index.json").read_text())
    for part, place in TOKENIZERS.items():
        if part in index:
            compare(getattr(transformers, index[part][1]).from_pretrained(export / part), part, expected)
            compare_ids(export / place, expected.get(f"{IDS}.{part}"))

    kind = getattr(diffusers, index["_class_name"])
    pipeline = kind.from_pretrained(export, local_files_only=True)
    for part in ("unet", "vae"):
        compare(getattr(pipeline, part), part, expected)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a red heart", num_inference_steps=2, width=64, height=64).images[0]
    print(f"  {kind.__name__}: {type(pipeline.scheduler).__name__} rendered {picture.size}")

    if (folder / "model.safetensors").is_file():
        single = kind.from_single_file(str(folder / "model.safetensors"), config=str(export), local_files_only=True)
        for part in ("unet", "vae", *(part for part in TOKENIZERS if part in index)):
            compare(getattr(single, part), part, expected, "of the single file")
    print(f"  whole, by transformers {transformers.__version__} and diffusers {diffusers.__version__}")


def compare(module: Any, part: str, expected: dict[str, Any], where: str = "") -> None:
    """`text_model.` stands before the names of some releases only."""
    import torch

    known = {bare(name[len(part) + 1 :]): tensor for name, tensor in expected.items() if name.startswith(f"{part}.")}
    state = {bare(name): tensor for name, tensor in module.state_dict().items()}
    assert len(state) == len(known), f"{part}: {len(state)} tensors for {len(known)} expected"
    for name, tensor in state.items():
        assert torch.equal(tensor, known[name]), f"{part}.{name} is not what was trained"
    print(f"  {part}: {len(state)} tensors equal to those trained {where}")


def compare_ids(folder: Path, ids: Any) -> None:
    import torch
    import transformers

    for kind in (transformers.CLIPTokenizer, transformers.CLIPTokenizerFast):
        tokenizer = kind.from_pretrained(folder)
        found = tokenizer(CAPTIONS, padding="max_length", truncation=True, return_tensors="pt").input_ids
        assert ids is None or torch.equal(found, ids), f"{kind.__name__} gives other ids"
        print(f"  {kind.__name__}: {len(tokenizer)} tokens, ids {'not compared' if ids is None else 'equal'}")


def bare(name: str) -> str:
    return name.removeprefix("text_model.")


if __name__ == "__main__":
    main()
