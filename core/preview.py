"""Previews: the same prompts with the same seeds, rendered now and then, each round a folder with a grid."""

import logging
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from events.bus import Bus
from events.catalogue import PREVIEW_END, PREVIEW_IMAGE, PREVIEW_PROMPTS, PREVIEW_START
from events.disk import OncePerMinute, is_disk_trouble
from events.errors import PluginError
from events.payloads import Item, PreviewContext, PreviewEnd, PreviewImage, PreviewStart, Prompt, RunInfo

from .config import PreviewTable
from .errors import ConfigError
from .families import Family
from .grid import CELL_PIXELS, Block, labelled_page
from .history.recording import write_round
from .idle import IdleModules
from .prompts import PromptEntry, complete, read_prompts, setting_problems

log = logging.getLogger("signalbox.preview")
GRID_COLUMNS = 8
LARGEST_CELL_PIXELS = 256


@dataclass(slots=True)
class LiveSampler:
    """Renders with the modules as they are now, in evaluation mode and without touching global randomness."""

    family: Family
    device: torch.device
    batch_size: int
    idle: IdleModules | None = None
    """Encoders to bring to the device meanwhile."""

    def render(self, prompts: tuple[Prompt, ...]) -> list[Image.Image]:
        """One picture a prompt, in their order; those of one size, length, guidance and scheduler at once."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, one in enumerate(prompts):
            alike = (one.width, one.height, one.steps, one.guidance, one.scheduler)
            groups.setdefault(alike, []).append(place)
        pictures: dict[int, Image.Image] = {}
        # no inference mode, whose tensors could stay behind in a module's own cache and break its backward pass
        evaluation = evaluating(self.family.modules.values())
        with self._awake(), evaluation, torch.no_grad(), torch.random.fork_rng(self._random_devices()):
            for places in groups.values():
                for start in range(0, len(places), self.batch_size):
                    batch = places[start : start + self.batch_size]
                    torch.manual_seed(prompts[batch[0]].seed)  # for schedulers that draw from the global generator
                    rendered = self.family.render(tuple(prompts[place] for place in batch))
                    pictures |= zip(batch, rendered, strict=True)
        return [pictures[place] for place in range(len(prompts))]

    def encode(self, pixels: Tensor) -> Tensor:
        with self._awake(), torch.inference_mode():
            return self.family.encode_images(pixels.to(self.device))[0].cpu()

    def _awake(self) -> AbstractContextManager[None]:
        return nullcontext() if self.idle is None else self.idle.awake()

    def _random_devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []


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
        multiple: int = 8,
    ) -> None:
        """`side` is that of pictures whose prompt does not say, and sides are multiples of `multiple`, in pixels.

        Raises ConfigError for settings and a prompts file that cannot be used.
        """
        self._bus = bus
        self._run = run
        self._settings = settings
        self._items = items
        self._sampler = sampler
        self._side = side
        self._multiple = multiple
        self._disk = OncePerMinute()
        if problems := setting_problems(settings):
            raise ConfigError("config", problems)
        self._file_prompts = () if settings.prompts is None else self._read(settings.prompts)

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
            names = _file_names(prompts)
            for name, prompt, picture in zip(names, prompts, pictures, strict=True):
                paths.append(self._keep(folder / name, step, prompt, picture))
            if pictures:
                page = _grid(prompts, pictures, title=f"{self._run.name}, step {step}")
                page.save(folder / "grid.png")
                grid = folder / "grid.png"
            write_round(folder, step=step, reason=reason, prompts=prompts, paths=paths)
        except PluginError:
            raise
        except Exception as error:
            self._tell_failure(step, error)
        finally:
            self._emit_end(step, reason, folder, prompts, paths)
        return grid

    def _tell_failure(self, step: int, error: Exception) -> None:
        """A disk that is full or fails is told of once a minute, anything else each time."""
        if not is_disk_trouble(error):
            log.exception("the preview at step %d failed and training goes on: %s", step, error)
        elif self._disk.is_due():
            log.warning(
                "previews cannot be written at step %d: %s; training goes on%s", step, error, self._disk.times()
            )

    def _keep(self, path: Path, step: int, prompt: Prompt, picture: Image.Image) -> Path:
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
                self._file_prompts = self._read(self._settings.prompts)
            except ConfigError as error:
                log.warning("%s; the prompts of the last round stay", error)
            return self._file_prompts
        spread = max(1, len(self._items) // self._settings.count)
        chosen = self._items[::spread][: self._settings.count]
        entries = (PromptEntry(text=item.caption) for item in chosen)
        return tuple(
            prompt
            for number, entry in enumerate(entries)
            for prompt in complete(entry, self._settings, self._side, number)
        )

    def _read(self, path: Path) -> tuple[Prompt, ...]:
        return read_prompts(path, self._settings, self._side, self._multiple)


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


def rows_of(prompts: Sequence[Prompt]) -> list[tuple[Prompt, ...]]:
    """Prompts that follow each other and differ in guidance alone, together."""
    return [tuple(row) for _, row in groupby(prompts, key=lambda one: replace(one, guidance=0.0))]


def _file_names(prompts: Sequence[Prompt]) -> list[str]:
    """As `03-red-heart.png`, where the prompt has several scales with that of the picture: `03-red-heart-cfg-7.5.png`."""
    names: list[str] = []
    for row in rows_of(prompts):
        for prompt in row:
            words = "".join(letter if letter.isalnum() else "-" for letter in prompt.text.lower())[:40].strip("-")
            scale = f"-{_scale(prompt).replace(' ', '-')}" if len(row) > 1 else ""
            names.append(f"{len(names):02d}-{words or 'empty'}{scale}.png")
    return names


def _grid(prompts: Sequence[Prompt], pictures: Sequence[Image.Image], *, title: str) -> Image.Image:
    """A page with the guidance scales of a prompt side by side over its text; scales are named where a prompt has several."""
    rows, waiting, blocks = rows_of(prompts), iter(pictures), []
    for row in rows:
        shown = tuple(next(waiting) for _ in row)
        words = tuple(_scale(one) for one in row) if len(rows) < len(prompts) else ()
        blocks.append(Block(pictures=shown, words=words, label=_label(row[0]), marked=bool(row[0].note)))
    largest = max(max(picture.size) for picture in pictures)
    cell_pixels = min(max(largest, CELL_PIXELS), LARGEST_CELL_PIXELS)
    return labelled_page(blocks, GRID_COLUMNS, title=title, cell_pixels=cell_pixels)


def _scale(prompt: Prompt) -> str:
    return f"cfg {prompt.guidance:g}"


def _label(prompt: Prompt) -> str:
    return f"{prompt.text} ({prompt.note})" if prompt.note else prompt.text
