"""`run.py sample`: prompts rendered with an exported model, by the stock pipeline."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .errors import ConfigError
from .families import quiet_libraries
from .grid import labelled_grid


def sample_grid(
    prompts: Sequence[str],
    *,
    model: Path | None,
    run: Path | None,
    out: Path,
    count: int,
    steps: int,
    guidance: float,
    seed: int,
) -> None:
    """A row of `count` pictures for each prompt, seeds counted up from `seed`, as one page in `out`.

    Raises ConfigError when neither a model nor a run with an export is named.
    """
    import torch

    folder = find_export(model, run)
    quiet_libraries()
    from diffusers import DDIMScheduler, StableDiffusionPipeline  # what it says while it is imported is quiet now

    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False, steps_offset=1)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    cells: list[tuple[Image.Image | None, str, bool]] = []
    for prompt in prompts:
        generators = [torch.Generator().manual_seed(seed + number) for number in range(count)]
        pictures = pipeline(
            [prompt] * count, generator=generators, num_inference_steps=steps, guidance_scale=guidance
        ).images
        cells += [(picture, f"{prompt}, seed {seed + number}", False) for number, picture in enumerate(pictures)]
    labelled_grid(cells, count, title=str(folder)).save(out)


def find_export(model: Path | None, run: Path | None) -> Path:
    """The named model, or the newest export of a run."""
    if model is not None:
        if not (model / "model_index.json").is_file():
            raise ConfigError("sample", [f"--model {model} is no diffusers folder: it holds no model_index.json"])
        return model
    if run is None:
        raise ConfigError("sample", ["name an exported folder with --model, or a run's folder with --run"])
    exports = sorted((run / "exports").glob("*-step-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    if not exports:
        raise ConfigError("sample", [f"--run {run} has no export yet; it is written when the run is complete"])
    return exports[-1]
