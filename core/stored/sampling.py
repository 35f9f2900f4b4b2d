"""`run.py sample`: prompts rendered with an export or a checkpoint of a run, by the stock pipeline of its family."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from events.payloads import Prompt

from ..config.tables import ModelTable
from ..errors import ConfigError
from ..families import find_family, quiet_libraries
from ..families.parts.folder import ModelFolder, newest_export
from ..families.parts.pipeline import PipelineFamily
from ..families.parts.untrusted import INDEX
from ..preview.grid import labelled_grid
from .model import Assemble, exported
from .run import stored_run

AVERAGED = {True: ", with averaged weights", False: ", with the weights as trained", None: ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be rendered."""

    prompts: Sequence[str]
    count: int = 4
    """Pictures of each prompt."""
    steps: int = 30
    guidance: float = 3.0
    seed: int = 0
    """Of the first picture's noise; the next has the next."""
    width: int | None = None
    height: int | None = None
    """In pixels; None leaves them to the pipeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which weights."""

    model: Path | None = None
    """An exported folder."""
    run: Path | None = None
    checkpoint: str = ""
    """Of the run: a step, `newest` or `best`. Empty: the newest export, or with `averaged` the newest checkpoint."""
    averaged: bool | None = None
    """With the averages that the run keeps, without, or as its exports have it."""


def sample_grid(asked: Asked, source: Source, out: Path, assemble: Assemble) -> None:
    """A row of pictures for each prompt as one page in `out`; where that is a folder, each as a file of its own too.

    Raises ConfigError when neither a model nor a run with an export or such a checkpoint is named, for a model of no
    known family, and for sides that the model cannot have.
    """
    with _model_of(source, assemble) as (folder, title):
        pictures = render(folder, asked)
    seeds = [seed for _ in asked.prompts for seed in range(asked.seed, asked.seed + asked.count)]
    texts = [text for text in asked.prompts for _ in range(asked.count)]
    if out.is_dir():
        for number, (picture, seed) in enumerate(zip(pictures, seeds, strict=True)):
            picture.save(out / f"{number:02d}-seed-{seed}.png")
        out = out / "grid.png"
    cells: list[tuple[Image.Image | None, str, bool]] = [
        (picture, f"{text}, seed {seed}", False) for picture, text, seed in zip(pictures, texts, seeds, strict=True)
    ]
    labelled_grid(cells, asked.count, title=title).save(out)


def render(folder: Path, asked: Asked) -> list[Image.Image]:
    """The pictures of the first prompt, then those of the next, by an exported folder."""
    import torch

    family = _load(folder)
    pipeline, sides = family.pipeline(), _sides(asked, family)
    pictures: list[Image.Image] = []
    for text in asked.prompts:
        one = Prompt(text=text, width=0, height=0, steps=asked.steps, guidance=asked.guidance)
        pictures += pipeline(
            **family.conditions((one,) * asked.count),
            **sides,
            generator=[torch.Generator().manual_seed(asked.seed + number) for number in range(asked.count)],
            num_inference_steps=asked.steps,
        ).images
    return pictures


def find_export(model: Path | None, run: Path | None) -> Path:
    """The named model, or the newest export of a run."""
    if model is not None:
        if not (model / INDEX).is_file():
            raise ConfigError("sample", [f"--model {model} is no diffusers folder: it holds no model_index.json"])
        return model
    if run is None:
        raise ConfigError("sample", ["name an exported folder with --model, or a run with --run"])
    export = newest_export(run)
    if export is None:
        raise ConfigError(
            "sample",
            [
                f"--run {run} has no export yet; it is written when the run is complete; --checkpoint newest renders before"
            ],
        )
    return export


@contextmanager
def _model_of(source: Source, assemble: Assemble) -> Generator[tuple[Path, str], None, None]:
    """A folder that the stock pipeline loads, and what it is."""
    if not source.checkpoint and source.averaged is None:
        folder = find_export(source.model, source.run)
        yield folder, str(folder)
        return
    if source.run is None or source.model is not None:
        raise ConfigError(
            "sample", ["--checkpoint, --ema and --no-ema choose among the weights of a run; name it with --run"]
        )
    stored = stored_run(source.run, source.checkpoint or "newest")
    with exported(stored, assemble, averaged=source.averaged) as folder:
        yield folder, f"{stored.folder.name}, step {stored.checkpoint.step}{AVERAGED[source.averaged]}"


def _sides(asked: Asked, family: PipelineFamily) -> dict[str, int]:
    sides = {name: side for name, side in (("width", asked.width), ("height", asked.height)) if side is not None}
    multiple = family.pixel_multiple
    if wrong := [f"--{name} {side} is no multiple of {multiple}" for name, side in sides.items() if side % multiple]:
        raise ConfigError("sample", wrong)
    return sides


def _load(folder: Path) -> PipelineFamily:
    import torch

    quiet_libraries()
    table = ModelTable(path=folder)
    family = find_family(table)(ModelFolder.of(table))
    family.load(table, seed=0)
    for module in family.modules.values():
        module.to("cuda" if torch.cuda.is_available() else "cpu")
    return family
