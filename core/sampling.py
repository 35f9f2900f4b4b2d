"""`run.py sample`: prompts rendered with an exported model, by the stock pipeline of its family."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from events.payloads import Prompt

from .config import ModelTable
from .errors import ConfigError
from .families import find_family, quiet_libraries
from .families.parts.folder import ModelFolder, newest_export
from .families.parts.pipeline import PipelineFamily
from .families.parts.untrusted import INDEX
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

    Pictures have the size that the pipeline gives them unasked. Raises ConfigError when neither a model nor a run with
    an export is named, and for a model of no known family.
    """
    import torch

    folder = find_export(model, run)
    family = _load(folder)
    pipeline = family.pipeline()
    cells: list[tuple[Image.Image | None, str, bool]] = []
    for text in prompts:
        seeds = range(seed, seed + count)
        asked = Prompt(text=text, width=0, height=0, steps=steps, guidance=guidance)
        pictures = pipeline(
            **family.conditions((asked,) * count),
            generator=[torch.Generator().manual_seed(one) for one in seeds],
            num_inference_steps=steps,
        ).images
        cells += [(picture, f"{text}, seed {one}", False) for picture, one in zip(pictures, seeds, strict=True)]
    labelled_grid(cells, count, title=str(folder)).save(out)


def find_export(model: Path | None, run: Path | None) -> Path:
    """The named model, or the newest export of a run."""
    if model is not None:
        if not (model / INDEX).is_file():
            raise ConfigError("sample", [f"--model {model} is no diffusers folder: it holds no model_index.json"])
        return model
    if run is None:
        raise ConfigError("sample", ["name an exported folder with --model, or a run's folder with --run"])
    export = newest_export(run)
    if export is None:
        raise ConfigError("sample", [f"--run {run} has no export yet; it is written when the run is complete"])
    return export


def _load(folder: Path) -> PipelineFamily:
    import torch

    quiet_libraries()
    table = ModelTable(path=folder)
    family = find_family(table)(ModelFolder.of(table))
    family.load(table, seed=0)
    for module in family.modules.values():
        module.to("cuda" if torch.cuda.is_available() else "cpu")
    return family
