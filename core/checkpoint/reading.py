"""A checkpoint's tensors, read whole or as one process's rows, in however many parts they were written.

A file `weights.safetensors` holds tensors whole. Where processes had them divided, each of these has written a file of its
own with its rows of all of them, whose header says where in the whole they stand.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import CheckpointError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Like = Callable[[str, tuple[int, ...]], "DTensor | None"]
"""(name, shape) of a stored tensor -> the divided one of which this process wants its own rows; None: it wants all."""
OFFSETS, PLACE = "DCP_SHARDING_INFO", "saved_offsets"
"""Where torch.distributed.checkpoint writes the places of parts into a header."""


def read_whole(name: str, shape: tuple[int, ...]) -> "DTensor | None":
    """As a `Like`: every tensor whole."""
    return None


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a tensor in a file."""

    file: Any
    """Open, of safetensors."""
    key: str
    first: int
    """Its first row's number in the whole."""
    rows: int


class StoredTensors:
    """The tensors that go by one name of a checkpoint, such as `weights`; open within `with`.

    Opening raises CheckpointError for a file that is there and cannot be read, or is divided in another way.
    """

    def __init__(self, folder: Path, name: str, shapes: Mapping[str, Any]) -> None:
        """`shapes` are those of tensors in parts, by "file/name"."""
        self._folder = folder
        self._name = name
        self._shapes = {
            key.removeprefix(f"{name}/"): tuple(shape) for key, shape in shapes.items() if key.startswith(f"{name}/")
        }
        self._stack = ExitStack()
        self._pieces: dict[str, list[Piece]] = {}
        self._is_one: dict[str, Any] = {}
        """By name of a tensor that is whole, its file."""

    def __enter__(self) -> "StoredTensors":
        path = self._folder / f"{self._name}.safetensors"
        try:
            if path.exists():
                file = self._open(path)
                self._is_one = dict.fromkeys(file.keys(), file)
            for path in sorted(self._folder.glob("shard-*.safetensors")) if self._shapes else ():
                self._note_pieces(self._open(path))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor as a whole."""
        whole = {name: tuple(file.get_slice(name).get_shape()) for name, file in self._is_one.items()}
        return whole | self._shapes

    def read(self, like: Like) -> dict[str, Tensor]:
        """Every tensor, or of those that are divided now the rows of this process, divided likewise.

        Raises CheckpointError for rows that no part holds.
        """
        return {name: self._read(name, shape, like) for name, shape in self.shapes().items()}

    def _read(self, name: str, shape: tuple[int, ...], like: Like) -> Tensor:
        divided = like(name, shape)
        if divided is None:
            if name in self._is_one:
                found: Tensor = self._is_one[name].get_tensor(name)
                return found
            return self._rows(name, shape, range(shape[0]))
        from ..ranks.sharding import like_rows, local, own_rows

        rows = own_rows(divided)
        return like_rows(self._rows(name, shape, rows).to(local(divided).device), divided)

    def _rows(self, name: str, shape: tuple[int, ...], wanted: range) -> Tensor:
        if name in self._is_one:
            found: Tensor = self._is_one[name].get_slice(name)[wanted.start : wanted.stop]
            return found
        parts, at = [], wanted.start
        for piece in sorted(self._pieces.get(name, ()), key=lambda one: one.first):
            end = min(piece.first + piece.rows, wanted.stop)
            if piece.first <= at < end:
                parts.append(piece.file.get_slice(piece.key)[at - piece.first : end - piece.first])
                at = end
        if at != wanted.stop:
            raise CheckpointError(
                f"{self._folder}: no file holds row {at} of {name} in {self._name}; use --fresh to start anew"
            )
        if not parts:
            piece = self._pieces[name][0]
            none: Tensor = piece.file.get_slice(piece.key)[:0].reshape(0, *shape[1:])
            return none
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _note_pieces(self, file: Any) -> None:
        places = json.loads((file.metadata() or {}).get(OFFSETS, "{}"))
        for key in file.keys():  # noqa: SIM118  # no mapping
            name = key.removeprefix(f"{self._name}/")
            if name == key or name not in self._shapes:
                continue
            shape, offsets = file.get_slice(key).get_shape(), places[key][PLACE]
            if list(shape[1:]) != list(self._shapes[name][1:]) or any(offsets[1:]):
                raise CheckpointError(
                    f"{self._folder}: {name} is divided otherwise than by rows, which this version does not read"
                )
            self._pieces.setdefault(name, []).append(Piece(file, key, offsets[0], shape[0]))

    def _open(self, path: Path) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            return self._stack.enter_context(safe_open(path, framework="pt"))
        except SafetensorError as error:
            raise CheckpointError(
                f"{path} is no whole .safetensors file ({error}); use --fresh to start anew"
            ) from None
