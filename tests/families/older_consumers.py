"""Does an export reach tools that pin an older transformers whole? Run by hand, since it takes a second environment.

    python -m venv old && old/bin/pip install torch "transformers==4.54.*" "diffusers==0.35.*" safetensors numpy
    python -m tests.families.older_consumers make /tmp/check
    old/bin/python tests/families/older_consumers.py check /tmp/check/export /tmp/check/expected.safetensors

`make` exports a small model with the current releases and keeps what it should be; `check` needs none of our code, and
any other export with its text encoder's weights (and, where wanted, the ids of CAPTIONS) may be given to it.
"""

import argparse
from pathlib import Path

CAPTIONS = ["a red heart", "", "Ünïcode, 3 owls' nest!", "very " * 100, "an emoji of <|endoftext|> a FOX"]
IDS = "token_ids"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("folder", type=Path)
    checking = commands.add_parser("check")
    checking.add_argument("export", type=Path)
    checking.add_argument("expected", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.folder)
    else:
        check(arguments.export, arguments.expected)


def make(folder: Path) -> None:
    """`export/`, `expected.safetensors`, and in `stock/` the folder that today's save_pretrained writes."""
    import torch
    from safetensors.torch import save_file

    from core.config import ModelTable
    from core.families import float_state, load_family
    from tests.tiny_models import tiny_pipeline, write_folder, write_single_file

    pipeline = tiny_pipeline()
    family = load_family(ModelTable(path=write_folder(pipeline, folder / "stock")), seed=0)
    tensors = {name: float_state(module, torch.float32) for name, module in family.modules.items()}
    family.write(folder / "export", tensors, {name: {} for name in tensors})
    write_single_file(pipeline, folder / "model.safetensors")
    ids = family.tokenize(CAPTIONS)["text_encoder"]
    save_file(tensors["text_encoder"] | {IDS: ids}, folder / "expected.safetensors")


def check(export: Path, expected_file: Path) -> None:
    """Raises AssertionError, or whatever the older library raises, where the export does not reach it."""
    import diffusers
    import torch
    import transformers
    from safetensors.torch import load_file

    expected = load_file(expected_file)
    ids = expected.pop(IDS, None)
    text_encoder = transformers.CLIPTextModel.from_pretrained(export / "text_encoder")
    state = text_encoder.state_dict()
    assert len(state) == len(expected), f"{len(state)} tensors for {len(expected)} expected"
    bare = {name.removeprefix("text_model."): tensor for name, tensor in expected.items()}
    for name, tensor in state.items():
        assert torch.equal(tensor, bare[name.removeprefix("text_model.")]), f"{name} is not what was trained"
    print(f"text encoder: {len(state)} tensors equal to those trained")

    for kind in (transformers.CLIPTokenizer, transformers.CLIPTokenizerFast):
        tokenizer = kind.from_pretrained(export / "tokenizer")
        found = tokenizer(CAPTIONS, padding="max_length", truncation=True, return_tensors="pt").input_ids
        assert ids is None or torch.equal(found, ids), f"{kind.__name__} gives other ids"
        print(f"{kind.__name__}: {len(tokenizer)} tokens, ids {'not compared' if ids is None else 'equal'}")

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(export, local_files_only=True, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a red heart", num_inference_steps=2, width=64, height=64).images[0]
    print(f"pipeline: {type(pipeline.scheduler).__name__} rendered {picture.size}")
    print(f"whole, by transformers {transformers.__version__} and diffusers {diffusers.__version__}")


if __name__ == "__main__":
    main()
