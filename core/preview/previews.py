"""Previews: the same prompts with the same seeds, rendered now and then, each round a folder with a grid.

Several processes render a round together; the main one says of what, and keeps the pictures.
"""

import logging
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from events.bus import Bus
from events.catalogue import PREVIEW_END, PREVIEW_IMAGE, PREVIEW_PROMPTS, PREVIEW_START
from events.disk import OncePerMinute, is_disk_trouble
from events.errors import PluginError
from events.payloads import Item, PreviewContext, PreviewEnd, PreviewImage, PreviewStart, Prompt, RunInfo

from ..compute.idle import IdleModules
from ..config.tables import PreviewTable
from ..errors import ConfigError
from ..families import Family
from ..history.recording import write_round
from ..ranks.crew import ONE, Crew
from ..ranks.divided import Divided
from .grid import CELL_PIXELS, Block, labelled_page
from .prompts import PromptEntry, complete, read_prompts, setting_problems
from .rendering import Places, RenderingFailed, render_by_all

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
    lockstep: bool = False
    """As in `Previews`."""

    def render(self, prompts: tuple[Prompt, ...]) -> list[Image.Image]:
        """One picture a prompt, in their order, all by this process."""
        pictures = self.render_batches(prompts, self.batches_of(prompts))
        return [pictures[place] for place in range(len(prompts))]

    def batches_of(self, prompts: tuple[Prompt, ...]) -> list[Places]:
        """The places of prompts that are rendered at once: those of one size, length, guidance and scheduler."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, one in enumerate(prompts):
            alike = (one.width, one.height, one.steps, one.guidance, one.scheduler)
            groups.setdefault(alike, []).append(place)
        size = self.batch_size
        return [places[start : start + size] for places in groups.values() for start in range(0, len(places), size)]

    def render_batches(self, prompts: tuple[Prompt, ...], batches: Iterable[Places]) -> dict[int, Image.Image]:
        """The pictures of these batches, by the places of their prompts."""
        pictures: dict[int, Image.Image] = {}
        # no inference mode, whose tensors could stay behind in a module's own cache and break its backward pass
        evaluation = evaluating(self.family.modules.values())
        with self._awake(), evaluation, torch.no_grad(), torch.random.fork_rng(self._random_devices()):
            for batch in batches:
                torch.manual_seed(prompts[batch[0]].seed)  # for schedulers that draw from the global generator
                rendered = self.family.render(tuple(prompts[place] for place in batch))
                pictures |= zip(batch, rendered, strict=True)
        return pictures

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
        crew: Crew = ONE,
        lockstep: bool = False,
    ) -> None:
        """`side` is that of pictures whose prompt does not say, and sides are multiples of `multiple`, in pixels.

        `lockstep`: every forward is an exchange between ranks, as where weights are sharded.
        Raises ConfigError for settings and a prompts file that cannot be used.
        """
        self._bus = bus
        self._run = run
        self._settings = settings
        self._items = items
        self._sampler = sampler
        self._side = side
        self._multiple = multiple
        self._crew = crew
        self._lockstep = lockstep
        self._disk = OncePerMinute()
        if problems := setting_problems(settings):
            raise ConfigError("config", problems)
        self._file_prompts = () if settings.prompts is None else self._read(settings.prompts)

    def render(self, step: int, reason: str) -> Path | None:
        """One round; returns its grid, on the main rank. Waits for the device and the other ranks."""
        folder = self._run.folder / "previews" / f"step-{step:06d}"
        one = _Round(step=step, reason=reason, folder=folder, prompts=self._agreed_prompts(step, reason))
        try:
            pictures = self._rendered(one)
            keeping = Divided(self._crew, "pictures of the previews")
            one.paths[:] = map(Path, keeping.results(partial(self._keep_all, one, pictures))[0])
        finally:
            self._emit_end(one)
        return one.grid

    def _agreed_prompts(self, step: int, reason: str) -> tuple[Prompt, ...]:
        """What the main rank's file and plugins say, on every rank."""
        context, own = PreviewContext(step=step, reason=reason), list[Prompt]()

        def ask() -> list[dict[str, Any]]:
            own.extend(self._bus[PREVIEW_PROMPTS].apply(self._prompts(), context))
            return [asdict(prompt) for prompt in own]

        told = self._crew.from_main("prompts of the previews", ask)
        return tuple(own) if self._crew.is_main else tuple(Prompt(**table) for table in told)

    def _rendered(self, one: "_Round") -> list[Image.Image]:
        """The pictures, on the main rank; none where a rank could not render."""

        def begin() -> None:
            self._emit_start(one)
            if self._crew.is_main:
                one.folder.mkdir(parents=True, exist_ok=True)

        try:
            return render_by_all(self._crew, self._sampler, one.prompts, begin=begin, lockstep=self._lockstep)
        except RenderingFailed as failed:
            self._tell_failure(one.step, failed.own or failed)
            one.has_failed = True
        return []

    def _keep_all(self, one: "_Round", pictures: list[Image.Image]) -> list[str]:
        """Write the round's files, on the main rank; returns the paths of its pictures, fewer where that failed."""
        if one.has_failed or not self._crew.is_main:
            return []
        try:
            for name, prompt, picture in zip(_file_names(one.prompts), one.prompts, pictures, strict=True):
                one.paths.append(self._keep(one.folder / name, one.step, prompt, picture))
            if pictures:
                page = _grid(one.prompts, pictures, title=f"{self._run.name}, step {one.step}")
                page.save(one.folder / "grid.png")
                one.grid = one.folder / "grid.png"
            write_round(one.folder, step=one.step, reason=one.reason, prompts=one.prompts, paths=one.paths)
        except PluginError:
            raise
        except Exception as error:
            self._tell_failure(one.step, error)
        return list(map(str, one.paths))

    def _tell_failure(self, step: int, error: Exception) -> None:
        """A disk that is full or fails is told of once a minute, anything else each time; on the terminal by the main rank."""
        if not is_disk_trouble(error):
            told = None if isinstance(error, RenderingFailed) else error
            level = logging.ERROR if self._crew.is_main else logging.WARNING
            log.log(level, "the preview at step %d failed and training goes on: %s", step, error, exc_info=told)
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

    def _emit_start(self, one: "_Round") -> None:
        signal = self._bus[PREVIEW_START]
        if signal.chain:
            signal.emit(PreviewStart(run=self._run, step=one.step, reason=one.reason))

    def _emit_end(self, one: "_Round") -> None:
        signal = self._bus[PREVIEW_END]
        if signal.chain:
            signal.emit(
                PreviewEnd(
                    run=self._run, step=one.step, reason=one.reason, folder=one.folder, prompts=one.prompts,
                    paths=tuple(one.paths), items=self._items, sampler=self._sampler,
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


@dataclass(slots=True, kw_only=True)
class _Round:
    """One round of previews and what has become of it."""

    step: int
    reason: str
    folder: Path
    prompts: tuple[Prompt, ...]
    paths: list[Path] = field(default_factory=list)
    """Of the pictures that are kept."""
    grid: Path | None = None
    has_failed: bool = False


@contextmanager
def evaluating(modules: Iterable[nn.Module]) -> Generator[None, None, None]:
    """Evaluation mode within, every module's own mode after; what is divided among ranks is divided again."""
    modules = tuple(modules)
    before = [(part, part.training) for module in modules for part in module.modules()]
    for part, _ in before:
        part.training = False
    try:
        yield
    finally:
        for part, training in before:
            part.training = training
            divide_again: Any = getattr(part, "reshard", None)  # of FSDP: a forward pass alone leaves weights gathered
            if divide_again is not None:
                divide_again()


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
