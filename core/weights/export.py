"""Exports: the trained model as a folder that the stock pipeline loads, and as one file; complete or absent."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from events.bus import Bus
from events.catalogue import CHECKPOINT_METADATA, CHECKPOINT_TENSORS, EXPORT_END, EXPORT_START, EXPORT_WRITE
from events.payloads import ExportContext, ExportEnd, ExportStart, ExportWrite, RunInfo

from ..checkpoint.commit import TEMPORARY, disk_errors, flush
from ..config.tables import ExportTable
from ..errors import ResourceError
from ..families import Family, float_state
from ..log.redaction import BY_LOOKS, Redactor
from ..ranks.crew import ONE, Crew
from ..ranks.divided import Divided
from ..run_folder.folder import export_path

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """Writes `exports/<run>-step-N/`: the model, and what plugins add."""

    bus: Bus
    run: RunInfo
    family: Family
    modules: Mapping[str, nn.Module]
    """Without wrappers, by name."""
    settings: ExportTable
    redactor: Redactor = BY_LOOKS
    """Keeps secrets out of headers."""
    crew: Crew = ONE
    """The main rank writes; the others go through the same signals, and wait for it as long as it takes."""
    gather: Callable[[Mapping[str, nn.Module]], Mapping[str, nn.Module]] | None = None
    """Makes whole on the main rank what is divided among processes; a collective."""

    def export(self, step: int) -> Path:
        """One export; with `single_file` the same as a `.safetensors` file beside it. Waits for the device and the main rank.

        Raises OtherRankError where that one could not write it.
        """
        path: Path | None = None
        if self.bus[EXPORT_START].chain:
            self.bus[EXPORT_START].emit(ExportStart(run=self.run, step=step))
        try:
            exporter = self if self.gather is None else replace(self, modules=self.gather(self.modules), gather=None)
            written = Divided(self.crew, "the export").results(
                lambda: str(exporter._export(step)) if self.crew.is_main else ""
            )
            path = Path(written[0])
        finally:
            if self.bus[EXPORT_END].chain:
                self.bus[EXPORT_END].emit(ExportEnd(run=self.run, step=step, path=path))
        return path

    def tensors(self, step: int) -> dict[str, dict[str, Tensor]]:
        """By module, what an export of this step holds, after the plugins that change it; on the CPU."""
        tensors: dict[str, dict[str, Tensor]] = {}
        dtype = DTYPES[self.settings.dtype]
        for name, module in self.modules.items():
            context = ExportContext(run=self.run, step=step, module=name)
            state = self.bus[CHECKPOINT_TENSORS].apply(float_state(module, torch.float32), context)
            tensors[name] = {
                key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()
            }
        return tensors

    def _export(self, step: int) -> Path:
        target = export_path(self.run.folder, step)
        folder = target.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(f"{TEMPORARY}*"):  # by a process that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            with disk_errors():
                return self._write(Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder)), target, step)
        except OSError as error:
            raise ResourceError(
                f"no export was written to {folder}: {error.strerror or error}. The checkpoints stand; make room and run the"
                " same command, which exports what is missing"
            ) from error

    def _write(self, building: Path, target: Path, step: int) -> Path:
        try:
            headers = {name: self._header(name, step) for name in self.modules}
            if self.settings.model:
                self._write_model(building, target, step, headers)
            if self.bus[EXPORT_WRITE].chain:
                self._let_plugins_write(building, target.name, step, headers[self.family.denoiser])
            flush_all(building)
            if target.exists():
                shutil.rmtree(target)
            os.rename(building, target)
            flush(target.parent)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return target

    def _header(self, module: str, step: int) -> dict[str, str]:
        run = self.run
        header = {"signalbox.run": run.name, "signalbox.step": str(step), "signalbox.seed": str(run.seed)}
        header = self.bus[CHECKPOINT_METADATA].apply(header, ExportContext(run=run, step=step, module=module))
        return self.redactor.tree(header)

    def _write_model(self, building: Path, target: Path, step: int, headers: Mapping[str, dict[str, str]]) -> None:
        tensors = self.tensors(step)
        self.family.write(building, tensors, headers)
        if self.settings.single_file:
            header = {"format": "pt", "modelspec.title": target.name} | self._said() | headers[self.family.denoiser]
            write_whole(self.family.single_file(tensors), header, target.with_name(f"{target.name}.safetensors"))

    def _said(self) -> dict[str, str]:
        """What a single file has no other place for, as the model specification of Stability AI words it."""
        predicts = {"epsilon": "epsilon", "v_prediction": "v"}.get(self.family.schedule.prediction)
        return {"modelspec.prediction_type": predicts} if predicts else {}

    def _let_plugins_write(self, building: Path, name: str, step: int, header: Mapping[str, str]) -> None:
        self.bus[EXPORT_WRITE].emit(
            ExportWrite(
                run=self.run, step=step, folder=building, name=name, modules=MappingProxyType(dict(self.modules)),
                denoiser=self.family.denoiser, dtype=DTYPES[self.settings.dtype], header=header, names=self.family,
            )
        )  # fmt: skip


def write_whole(tensors: dict[str, Tensor], header: dict[str, str], path: Path) -> None:
    """A safetensors file that is there as a whole or not at all."""
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    os.close(descriptor)
    try:
        save_file(tensors, name, metadata=header)
        flush(Path(name))
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def flush_all(folder: Path) -> None:
    """Every file and folder below, and the folder itself."""
    for path in folder.rglob("*"):
        flush(path)
    flush(folder)
