"""Previews: the same prompts with the same seeds, rendered now and then, each round a folder with a grid."""

import logging
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import tomli
import torch
from PIL import Image
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError
from torch import Tensor, nn

from events.bus import Bus
from events.catalogue import PREVIEW_END, PREVIEW_IMAGE, PREVIEW_PROMPTS, PREVIEW_START
from events.errors import PluginError
from events.payloads import Item, PreviewContext, PreviewEnd, PreviewImage, PreviewStart, Prompt, RunInfo

from .config import PreviewTable, Table
from .errors import ConfigError
from .families import Family
from .grid import labelled_grid

log = logging.getLogger("signalbox.preview")
GRID_COLUMNS = 8


class PromptEntry(Table):
    """A `[[prompts]]` table of the prompts file; what is left out comes from [preview]."""

    text: str
    negative: str = ""
    seed: NonNegativeInt | None = None
    width: PositiveInt | None = None
    height: PositiveInt | None = None
    steps: PositiveInt | None = None
    guidance: NonNegativeFloat | None = None
    note: str = Field("", description="shown beside the prompt, such as: held out")


@dataclass(slots=True)
class LiveSampler:
    """Renders with the modules as they are now, in evaluation mode and without touching global randomness."""

    family: Family
    device: torch.device
    batch_size: int

    def render(self, prompts: tuple[Prompt, ...]) -> list[Image.Image]:
        pictures: list[Image.Image] = []
        with evaluating(self.family.modules.values()), torch.inference_mode(), torch.random.fork_rng():
            for _, alike in groupby(prompts, key=lambda one: (one.width, one.height, one.steps, one.guidance)):
                group = tuple(alike)
                for start in range(0, len(group), self.batch_size):
                    pictures += self.family.render(group[start : start + self.batch_size])
        return pictures

    def encode(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.family.encode_images(pixels.to(self.device))[0].cpu()


class Previews:
    """Renders a round of previews when asked; a failing one never ends the run."""

    def __init__(
        self,
        *,
        bus: Bus,
        run: RunInfo,
        settings: PreviewTable,
        items: Sequence[Item],
        sampler: LiveSampler,
        side: int,
    ) -> None:
        self._bus = bus
        self._run = run
        self._settings = settings
        self._items = items
        self._sampler = sampler
        self._side = side
        self._file_prompts = () if settings.prompts is None else read_prompts(settings.prompts, settings, side)

    def render(self, step: int, reason: str) -> Path | None:
        """One round; returns its grid. Waits for the device."""
        folder = self._run.folder / "previews" / f"step-{step:06d}"
        prompts = self._bus[PREVIEW_PROMPTS].apply(self._prompts(), PreviewContext(step=step, reason=reason))
        paths: list[Path] = []
        grid: Path | None = None
        try:
            self._emit_start(step, reason)
            folder.mkdir(parents=True, exist_ok=True)
            pictures = self._sampler.render(prompts)
            for number, (prompt, picture) in enumerate(zip(prompts, pictures, strict=True)):
                paths.append(self._keep(folder, number, step, prompt, picture))
            grid = folder / "grid.png"
            cells = [
                (picture, _label(prompt), bool(prompt.note)) for prompt, picture in zip(prompts, pictures, strict=True)
            ]
            labelled_grid(cells, min(GRID_COLUMNS, len(cells)), title=f"{self._run.name}, step {step}").save(grid)
        except PluginError:
            raise
        except Exception as error:
            log.exception("the preview at step %d failed and training goes on: %s", step, error)
        finally:
            self._emit_end(step, reason, folder, prompts, paths)
        return grid

    def _keep(self, folder: Path, number: int, step: int, prompt: Prompt, picture: Image.Image) -> Path:
        name = "".join(letter if letter.isalnum() else "-" for letter in prompt.text.lower())[:40].strip("-")
        path = folder / f"{number:02d}-{name or 'empty'}.png"
        picture.save(path)
        signal = self._bus[PREVIEW_IMAGE]
        if signal.chain:
            signal.emit(PreviewImage(run=self._run, step=step, prompt=prompt, path=path, image=picture))
        return path

    def _emit_start(self, step: int, reason: str) -> None:
        signal = self._bus[PREVIEW_START]
        if signal.chain:
            signal.emit(PreviewStart(run=self._run, step=step, reason=reason))

    def _emit_end(
        self, step: int, reason: str, folder: Path, prompts: tuple[Prompt, ...], paths: Sequence[Path]
    ) -> None:
        signal = self._bus[PREVIEW_END]
        if signal.chain:
            signal.emit(
                PreviewEnd(
                    run=self._run, step=step, reason=reason, folder=folder, prompts=prompts, paths=tuple(paths),
                    items=self._items, sampler=self._sampler,
                )
            )  # fmt: skip

    def _prompts(self) -> tuple[Prompt, ...]:
        """The prompts file read anew, or the last good reading of it, or captions of the training set."""
        if self._settings.prompts is not None:
            try:
                self._file_prompts = read_prompts(self._settings.prompts, self._settings, self._side)
            except ConfigError as error:
                log.warning("%s; the prompts of the last round stay", error)
            return self._file_prompts
        spread = max(1, len(self._items) // self._settings.count)
        chosen = self._items[::spread][: self._settings.count]
        return tuple(
            _complete(PromptEntry(text=item.caption), self._settings, self._side, number)
            for number, item in enumerate(chosen)
        )


def read_prompts(path: Path, settings: PreviewTable, side: int) -> tuple[Prompt, ...]:
    """The `[[prompts]]` of a TOML file. Raises ConfigError naming the file, with every problem."""
    try:
        tree = tomli.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read as TOML: {error}"]) from None
    try:
        entries = TypeAdapter(tuple[PromptEntry, ...]).validate_python(tree.get("prompts", ()))
    except ValidationError as error:
        found = (f"prompts{list(problem['loc'])}: {problem['msg']}" for problem in error.errors())
        raise ConfigError(str(path), list(found)) from None
    if not entries:
        raise ConfigError(str(path), ["holds no [[prompts]] table"])
    return tuple(_complete(entry, settings, side, number) for number, entry in enumerate(entries))


@contextmanager
def evaluating(modules: Iterable[nn.Module]) -> Generator[None, None, None]:
    """Evaluation mode within, every module's own mode after."""
    before = [(part, part.training) for module in modules for part in module.modules()]
    for part, _ in before:
        part.training = False
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _complete(entry: PromptEntry, settings: PreviewTable, side: int, number: int) -> Prompt:
    return Prompt(
        text=entry.text,
        negative=entry.negative,
        seed=settings.seed + number if entry.seed is None else entry.seed,
        width=entry.width or side,
        height=entry.height or side,
        steps=entry.steps or settings.steps,
        guidance=settings.guidance if entry.guidance is None else entry.guidance,
        note=entry.note,
    )


def _label(prompt: Prompt) -> str:
    return f"{prompt.text} ({prompt.note})" if prompt.note else prompt.text
