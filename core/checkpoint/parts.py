"""The parts of a checkpoint that each process writes, where weights are divided among processes and none has them whole.

Each writes one file through `torch.distributed.checkpoint`, safetensors and no pickle, into the folder that the main one
builds; reads it back; and says what its digest is. The main process writes all else, commits, and is the only one to rename.
"""

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from ..errors import NonFiniteError
from .commit import number_problem
from .contents import SHAPES, Contents
from .manifest import facts_of


class Parts:
    """One process's parts of one checkpoint. Every process of the run calls `write` or `contribute`, in the same order."""

    def __init__(self, tensors: Mapping[str, DTensor], group: Any) -> None:
        """`tensors` lie on the host, by "file/name"; `group` is of gloo, and used by nothing else meanwhile."""
        self.tensors = tensors
        self.facts: dict[str, dict[str, Any]] = {}
        """Size and sha256 of the files of all processes, by name, once they are written."""
        self._group = group
        self._is_expected = True
        """Whether the others wait for the main process."""

    @property
    def is_main(self) -> bool:
        """Whether this process commits."""
        return dist.get_rank(self._group) == 0

    @property
    def bytes(self) -> int:
        """Of all processes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def write(self, folder: Path) -> None:
        """The main process: have everybody write into the folder. Waits for the slowest.

        Raises OSError and NonFiniteError for what any process met, and RuntimeError where one of them has ended.
        """
        self._is_expected = False
        self._write_together(str(folder))
        if missing := [name for name in self.facts if not (folder / name).is_file()]:
            raise OSError(
                errno.ENOENT,
                f"{missing[0]} was written by another process and is not in {folder}; processes on several machines need"
                " a run.dir that all of them share",
            )

    def call_off(self) -> None:
        """The main process: nothing is to be written, unless it has been. The others go on."""
        if self._is_expected:
            self._is_expected = False
            self._exchange({"folder": "", "problem": ""})

    def contribute(self) -> None:
        """Any other process: write when the main one says where. Raises as `write`."""
        self._write_together("")

    def _write_together(self, folder: str) -> None:
        said = self._exchange({"folder": folder, "problem": number_problem(self._own())})
        if not said[0]["folder"]:
            return
        for one in said:
            if one["problem"]:
                raise NonFiniteError(one["problem"])
        place = Path(said[0]["folder"])
        save(self.tensors, place, self._group)
        for rank, one in enumerate(self._exchange(self._look_at_own(place))):
            if one["problem"]:
                raise OSError(one["errno"], f"{one['problem']} (process {rank})")
            self.facts |= one["files"]

    def _look_at_own(self, folder: Path) -> dict[str, Any]:
        """What was written, read back: its digest, and where it is not what it should be."""
        try:
            files = sorted(folder.glob(f"shard-{dist.get_rank(self._group) + 1:05d}-*.safetensors"))
            problem = _difference(files, self._own())
            found = {"problem": problem, "errno": errno.EIO, "files": {path.name: facts_of(path) for path in files}}
        except OSError as error:
            found = {"problem": error.strerror or str(error), "errno": error.errno or errno.EIO, "files": {}}
        return found

    def _own(self) -> dict[str, Tensor]:
        """This process's rows."""
        return {name: tensor.to_local() for name, tensor in self.tensors.items()}

    def _exchange(self, own: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[Any] = [None] * dist.get_world_size(self._group)
        dist.all_gather_object(found, own, group=self._group)
        return found


def divide(contents: Contents, group: Any) -> Contents:
    """The contents with what is divided in them set apart, for all processes of the group to write."""
    tensors: dict[str, DTensor] = {}
    whole: dict[str, dict[str, Tensor]] = {}
    for file, group_of in contents.tensors.items():
        for name, tensor in group_of.items():
            if isinstance(tensor, DTensor):
                tensors[f"{file}/{name}"] = tensor
            else:
                whole.setdefault(file, {})[name] = tensor
    parts = Parts(tensors, group)
    shapes = {
        "processes": dist.get_world_size(group), "tensors": {name: list(one.shape) for name, one in tensors.items()}
    }  # fmt: skip
    return replace(contents, tensors=whole, jsons={**contents.jsons, SHAPES: shapes}, parts=parts)


def save(tensors: Mapping[str, DTensor], folder: Path, group: Any) -> None:
    """This process's rows of the tensors as one file, flushed. A collective; raises OSError for what any process met."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as save_together

    writer = HuggingFaceStorageWriter(path=str(folder), save_distributed=True)
    try:
        save_together(dict(tensors), storage_writer=writer, process_group=group)
    except CheckpointException as error:  # no Exception, and of all processes
        for rank, (one, _) in error.failures.items():
            if isinstance(one, OSError):
                raise OSError(one.errno or errno.EIO, f"{one.strerror or one} (process {rank})") from error
        raise RuntimeError(f"the parts of a checkpoint could not be written: {error}") from error


def _difference(files: list[Path], own: Mapping[str, Tensor]) -> str:
    """Where the files and this process's rows differ; empty where they do not."""
    from safetensors import SafetensorError, safe_open

    left = dict(own)
    for path in files:
        try:
            with safe_open(path, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118  # no mapping
                    if not torch.equal(_bytes(stored.get_tensor(name)), _bytes(left.pop(name))):
                        return f"{path.name} reads back otherwise in {name}"
        except (SafetensorError, KeyError) as error:
            return f"{path.name} reads back otherwise ({error!r:.200})"
    missing = [name for name, rows in left.items() if rows.numel()]
    return f"{os.path.basename(missing[0])} was not written" if missing else ""


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
