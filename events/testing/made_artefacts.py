"""The payloads of what a run leaves behind, each in one call: previews, checkpoints and exports."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .. import payloads
from .made import NAMES, NOTHING, RUN
from .stand_ins import Absent

if TYPE_CHECKING:
    import torch
    from PIL import Image

PROMPT = payloads.Prompt(text="a red heart", width=32, height=32, steps=2, guidance=1.0)


def prompt(
    text: str = "a red heart", *, negative: str = "", seed: int = 0, width: int = 32, height: int = 32, steps: int = 2,
    guidance: float = 1.0, scheduler: str = "", note: str = "",
) -> payloads.Prompt:  # fmt: skip
    return payloads.Prompt(
        text=text, negative=negative, seed=seed, width=width, height=height, steps=steps, guidance=guidance,
        scheduler=scheduler, note=note,
    )  # fmt: skip


def preview_context(*, step: int = 10, reason: str = "every") -> payloads.PreviewContext:
    return payloads.PreviewContext(step=step, reason=reason)


def preview_start(*, run: payloads.RunInfo = RUN, step: int = 10, reason: str = "every") -> payloads.PreviewStart:
    return payloads.PreviewStart(run=run, step=step, reason=reason)


def preview_image(
    image: "Image.Image", *, run: payloads.RunInfo = RUN, step: int = 10, prompt: payloads.Prompt = PROMPT,
    path: Path | None = None,
) -> payloads.PreviewImage:  # fmt: skip
    path = path or run.folder / "previews" / f"step-{step:06d}" / "00-picture.png"
    return payloads.PreviewImage(run=run, step=step, prompt=prompt, path=path, image=image)


def preview_end(
    *, run: payloads.RunInfo = RUN, step: int = 10, reason: str = "every",
    prompts: tuple[payloads.Prompt, ...] = (PROMPT,), paths: tuple[Path, ...] = (),
    items: tuple[payloads.Item, ...] = (), sampler: payloads.Sampler | None = None,
) -> payloads.PreviewEnd:  # fmt: skip
    return payloads.PreviewEnd(
        run=run, step=step, reason=reason, folder=run.folder / "previews" / f"step-{step:06d}",
        prompts=prompts, paths=paths, items=items,
        sampler=sampler or cast(Any, Absent("sampler")),
    )  # fmt: skip


def checkpoint_start(*, run: payloads.RunInfo = RUN, step: int = 10, reason: str = "every") -> payloads.CheckpointStart:
    return payloads.CheckpointStart(run=run, step=step, reason=reason)


def checkpoint_saved(
    *, run: payloads.RunInfo = RUN, step: int = 10, reason: str = "every", path: Path | None = None,
    files: tuple[str, ...] = ("manifest.json", "weights.safetensors"),
) -> payloads.CheckpointSaved:  # fmt: skip
    return payloads.CheckpointSaved(run=run, step=step, reason=reason, path=path or _checkpoint(run, step), files=files)


def checkpoint_loaded(
    *, run: payloads.RunInfo = RUN, step: int = 10, path: Path | None = None
) -> payloads.CheckpointLoaded:
    return payloads.CheckpointLoaded(run=run, step=step, path=path or _checkpoint(run, step))


def retention_context(*, run: payloads.RunInfo = RUN, step: int = 10) -> payloads.RetentionContext:
    return payloads.RetentionContext(run=run, step=step)


def export_start(*, run: payloads.RunInfo = RUN, step: int = 100) -> payloads.ExportStart:
    return payloads.ExportStart(run=run, step=step)


def export_write(
    modules: "Mapping[str, torch.nn.Module]" = NOTHING, *, folder: Path | str = "exports/test", run: payloads.RunInfo = RUN, step: int = 100,
    name: str = "test-step-000100", denoiser: str = "unet", dtype: "torch.dtype | None" = None,
    header: Mapping[str, str] = NOTHING, names: payloads.AdapterNames = NAMES,
) -> payloads.ExportWrite:  # fmt: skip
    """Give pytest's `tmp_path` as folder."""
    dtype = dtype or cast(Any, Absent("dtype"))
    return payloads.ExportWrite(
        run=run,
        step=step,
        folder=Path(folder),
        name=name,
        modules=modules,
        denoiser=denoiser,
        dtype=dtype,
        header=header,
        names=names,
    )


def export_end(*, run: payloads.RunInfo = RUN, step: int = 100, path: Path | None = None) -> payloads.ExportEnd:
    return payloads.ExportEnd(run=run, step=step, path=path or run.folder / "exports" / f"test-step-{step:06d}")


def export_context(*, run: payloads.RunInfo = RUN, step: int = 100, module: str = "unet") -> payloads.ExportContext:
    return payloads.ExportContext(run=run, step=step, module=module)


def _checkpoint(run: payloads.RunInfo, step: int) -> Path:
    return run.folder / "checkpoints" / f"step-{step:08d}"
