"""`run.py convert`: pickled weights become a safetensors file, once and on request.

Nothing else here opens a pickle. This does with torch's restricted unpickler alone, which builds tensors, numbers and
containers and refuses whatever else a file asks for; where it refuses, so does this.
"""

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from .files import problem_with_weights

WITHIN = ("state_dict", "model", "params_ema", "params", "string_to_param")
"""Where files of other programs keep the tensors, beside what they know of a training."""


def convert(source: Path, target: Path, *, force: bool = False) -> Iterator[str]:
    """Write the tensors of `source` to `target`, and yield what was done.

    Raises ConfigError for a file that is no pickle of tensors, or asks for anything but tensors, and for a `target`
    that is there, unless `force` is set.
    """
    if target.suffix != ".safetensors":
        raise ConfigError("convert", [f"{target} is to end in .safetensors"])
    if target.exists() and not force:
        raise ConfigError("convert", [f"{target} is there already; --force replaces it"])
    tensors, left_out = tensors_of(read(source))
    if not tensors:
        raise ConfigError("convert", [f"{source} holds no tensors"])
    write(tensors, target)
    yield f"wrote {len(tensors)} tensors to {target}"
    if left_out:
        yield f"left out {len(left_out)} values that are no tensors, such as {left_out[0]}"


def read(source: Path) -> Any:
    """What is in the pickle. Raises ConfigError for whatever is not tensors, numbers and containers."""
    import torch

    try:
        if not problem_with_weights(source):
            raise ConfigError("convert", [f"{source} is a .safetensors file already"])
        refuse_bomb(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles; what cannot be read is an error all the same
            return torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError("convert", [f"{source} does not exist"]) from None
    except ConfigError:
        raise
    except Exception as error:  # torch raises nearly anything for a file that is damaged or made up
        said = f"{source} cannot be read as tensors alone, and nothing else is tried: {_reason(error)}"
        raise ConfigError("convert", [said]) from error


def refuse_bomb(source: Path) -> None:
    """Raises ConfigError for an archive whose parts are compressed, or larger than the archive itself; torch's never are."""
    if not zipfile.is_zipfile(source):
        return
    size = source.stat().st_size
    with zipfile.ZipFile(source) as archive:
        for part in archive.infolist():
            if part.compress_type != zipfile.ZIP_STORED or part.file_size > size:
                raise ConfigError(
                    "convert",
                    [
                        f"{source}: its part {part.filename} would be {part.file_size} bytes of {size}; torch writes no such file"
                    ],
                )


def tensors_of(held: Any) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by name, each with memory of its own, and the names of what is left out.

    Raises ConfigError for what is no table.
    """
    if not isinstance(held, Mapping):
        raise ConfigError("convert", [f"a {type(held).__name__} is no table of tensors"])
    within = next((held[name] for name in WITHIN if isinstance(held.get(name), Mapping)), held)
    found = {str(name): value for name, value in within.items()}
    tensors = {name: value.detach().clone().contiguous() for name, value in found.items() if isinstance(value, Tensor)}
    return tensors, sorted(set(found) - set(tensors))


def write(tensors: dict[str, Tensor], target: Path) -> None:
    from .export import write_whole

    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(tensors, {"format": "pt"}, target)


def _reason(error: Exception) -> str:
    """What torch says in several sentences, in one."""
    if asked := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it asks for {asked[1]}"
    if failed := re.search(r"WeightsUnpickler error:\s*(.+)", str(error)):
        return failed[1].strip()
    return str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
