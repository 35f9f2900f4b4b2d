"""Exports: the trained model as a folder that the stock pipeline loads, and as one file; complete or absent."""

import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from events.bus import Bus
from events.catalogue import CHECKPOINT_METADATA, CHECKPOINT_TENSORS
from events.payloads import ExportContext, RunInfo

from .config import ExportTable
from .families import Family, float_state

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def export(
    *, bus: Bus, run: RunInfo, family: Family, bare_modules: dict[str, nn.Module], settings: ExportTable, step: int
) -> Path:
    """Write `exports/<run>-step-N/`, and with `single_file` the same as a `.safetensors` file beside it.

    Plugins see each module's header and tensors on the way. Waits for the device.
    """
    folder = run.folder / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{run.name}-step-{step:06d}"
    building = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder))
    try:
        tensors: dict[str, dict[str, Tensor]] = {}
        headers: dict[str, dict[str, str]] = {}
        for name, module in bare_modules.items():
            context = ExportContext(run=run, step=step, module=name)
            header = {"signalbox.run": run.name, "signalbox.step": str(step), "signalbox.seed": str(run.seed)}
            headers[name] = bus[CHECKPOINT_METADATA].apply(header, context)
            state = bus[CHECKPOINT_TENSORS].apply(float_state(module, torch.float32), context)
            dtype = DTYPES[settings.dtype]
            tensors[name] = {
                key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()
            }
        family.write(building, tensors, headers)
        building.chmod(0o755)
        if settings.single_file:
            header = {"format": "pt", "modelspec.title": target.name} | headers[family.denoiser]
            write_whole(family.single_file(tensors), header, target.with_name(f"{target.name}.safetensors"))
        if target.exists():
            shutil.rmtree(target)
        os.rename(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def write_whole(tensors: dict[str, Tensor], header: dict[str, str], path: Path) -> None:
    """A safetensors file that is there as a whole or not at all."""
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    os.close(descriptor)
    try:
        save_file(tensors, name, metadata=header)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
