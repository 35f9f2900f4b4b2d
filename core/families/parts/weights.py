"""Modules from disk, whole or refused: a weight that no file holds is an error here and never left to chance."""

import json
import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import ConfigError
from ...weights.files import folder_problems

log = logging.getLogger("signalbox.model")
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"
"""What the libraries call a part's file of weights."""


@contextmanager
def reading(source: Path, advice: str = "") -> Generator[None, None, None]:
    """What goes wrong within becomes a ConfigError that names the source, the library's own first sentence and advice.

    Within are calls of libraries alone: for a config that somebody made up they raise nearly anything.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise ConfigError("model", [f"{source}: is no whole .safetensors file ({error})"]) from error
    except (ConfigError, MemoryError):
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0].partition(". ")[0]
        said = said if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: {said}"
        raise ConfigError("model", [f"{source}: {said}{advice and f'; {advice}'}"]) from error


def from_config(kind: Any, folder: Path) -> nn.Module:
    """A diffusers module with fresh weights from the folder's config."""
    with reading(folder):
        module: nn.Module = kind.from_config(kind.load_config(folder, local_files_only=True))
    return module


def require_safetensors(folder: Path) -> None:
    """Raises ConfigError for a part's folder whose weights are pickled, damaged, or said to lie elsewhere."""
    if folder.is_dir() and (problems := list(folder_problems(folder))):
        raise ConfigError("model", problems)


def require_files(folder: Path, *, diffusers: bool) -> None:
    """Raises ConfigError for a part's folder that lacks its weights, as headers and lengths of the files tell."""
    from safetensors import safe_open

    require_safetensors(folder)
    name = f"{DIFFUSERS if diffusers else TRANSFORMERS}.safetensors"
    index = folder / f"{name}.index.json"
    if not (folder / name).is_file() and not index.is_file():
        raise ConfigError("model", [f"{folder} holds no {name}; {_advice(folder)}"])
    with reading(folder):
        named = (
            [name]
            if (folder / name).is_file()
            else json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        )
    if missing := sorted({one for one in named if not (folder / one).is_file()}):
        raise ConfigError("model", [f"{folder} lacks {', '.join(missing)}, which {index.name} names"])
    for one in sorted(set(named)):
        with reading(folder / one), safe_open(folder / one, framework="pt"):
            pass


def from_folder(kind: Any, folder: Path) -> nn.Module:
    """A diffusers module in float32 from its folder."""
    require_safetensors(folder)
    with reading(folder, _advice(folder)):
        module, report = kind.from_pretrained(
            folder, torch_dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    source = weight_file(folder, f"{DIFFUSERS}.safetensors")
    require_whole(source, report["missing_keys"])
    tell_unused(source, report["unexpected_keys"])
    loaded: nn.Module = module
    return loaded


def transformer_from_folder(kind: Any, folder: Path) -> nn.Module:
    """A module of transformers in float32 from its folder, in the layout of any release.

    Raises ConfigError when the file has no value for some weight, or one of another shape.
    """
    require_safetensors(folder)
    with reading(folder, _advice(folder)):
        model, report = kind.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    mismatched = [f"{name}, {tuple(held)} against {tuple(asked)}" for name, held, asked in report["mismatched_keys"]]
    missing = set(report["missing_keys"]) - {name for name, _, _ in report["mismatched_keys"]}
    source = weight_file(folder, f"{TRANSFORMERS}.safetensors")
    require_whole(source, (name for name in missing if not name.endswith("position_ids")), mismatched)
    tell_unused(source, report["unexpected_keys"])
    loaded: nn.Module = model
    return loaded


def new_transformer(kind: Any, folder: Path) -> nn.Module:
    """A module of transformers with fresh weights from the folder's config."""
    with reading(folder):
        module: nn.Module = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    return module


def library_of(name: str) -> Any:
    """The class of that name in diffusers or transformers."""
    import diffusers
    import transformers

    return getattr(diffusers, name, None) or getattr(transformers, name)


def require_whole(source: Path, missing: Iterable[str], mismatched: Iterable[str] = (), advice: str = "") -> None:
    """Raises ConfigError that names the first weight without a value and the first of another shape, and counts the rest.

    Advice is given for those of another shape.
    """
    found = (
        ("holds no value of", sorted(missing), ""),
        ("and the config differ in the shape of", sorted(mismatched), advice and f"; {advice}"),
    )
    problems = [
        f"{source} {what} {names[0]}" + (f" and {len(names) - 1} more weights" if len(names) > 1 else "") + more
        for what, names, more in found
        if names
    ]
    if problems:
        raise ConfigError("model", problems)


def _advice(folder: Path) -> str:
    return f"add {folder.name!r} to model.from_scratch to start from its config alone"


def weight_file(folder: Path, name: str) -> Path:
    """The file to name in messages: `name`, or the folder where the weights are cut into several files."""
    return folder / name if (folder / name).is_file() else folder


def tell_unused(source: Path, names: Iterable[str]) -> None:
    unused = sorted(name for name in names if not name.endswith("position_ids"))
    if unused:
        log.warning(
            "%s: %d tensors are not part of the model and are left out, such as %s", source, len(unused), unused[0]
        )
