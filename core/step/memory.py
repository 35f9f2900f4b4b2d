"""When memory runs out: how it is told, what can be given back at once, and what to change."""

import gc
from collections.abc import Sequence

import torch

from events.payloads import Batch

from ..config.tables import Config

WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What a RuntimeError says where torch has no type for it."""
SAID_CHARACTERS = 300


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the host or on the device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


def give_back(device: torch.device) -> None:
    """Free what nothing holds any more, also what torch keeps of the device for later."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def too_large(batches: Sequence[Batch], config: Config, step: int, error: BaseException) -> str:
    """What did not fit, and what to change."""
    sizes = ", ".join(dict.fromkeys(f"{len(batch.keys)} samples of {bucket_of(batch)}" for batch in batches))
    train, resolution = config.train, " or ".join(map(str, config.data.resolution))
    return (
        f"memory ran out twice in step {step}, which had {sizes} a forward pass (train.batch_size = {train.batch_size},"
        f" train.accumulate = {len(batches)}, data.resolution = {resolution}). No weight was touched by it."
        f" {'; or '.join(_remedies(config, len(batches)))}. What was said: {said_of(error)}"
    )


def bucket_of(batch: Batch) -> str:
    """Width x height of its pictures in pixels; waits for the device."""
    height, width = batch.geometry[0, 4:].tolist()
    return f"{width} x {height} pixels"


def said_of(error: BaseException) -> str:
    """The first line of an error that may be long."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:SAID_CHARACTERS]}".rstrip(": ")


def _remedies(config: Config, rounds: int) -> list[str]:
    train, found = config.train, []
    if train.batch_size > 1:
        half = train.batch_size // 2
        found.append(
            f"Set train.batch_size = {half} and train.accumulate = {-(-train.batch_size * rounds // half)}, which trains on"
            " as many pictures a step"
        )
    if not train.gradient_checkpointing:
        found.append("set train.gradient_checkpointing = true")
    return [*found, "lower data.resolution"]
