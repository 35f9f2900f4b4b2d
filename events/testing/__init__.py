"""A harness for plugin authors: a bus with your plugins but no trainer, and every payload in one call.

>>> from events import Plugin, transform
>>> class Shout(Plugin):
...     @transform("sample.caption")
...     def shout(self, caption, sample):
...         return caption.upper()
>>> Harness(Shout()).apply("sample.caption", "a, b", sample_context())
'A, B'

Payloads are made without torch, so what holds tensors, modules or pictures is given by you, as in
``step_end(batch(pixels))``. `docs/test-a-plugin.md` shows what else the harness can do.
"""

from .given_ranks import GivenRanks
from .harness import Harness
from .made import (
    ITEM,
    batch,
    batch_context,
    cache_end,
    cache_start,
    configure_context,
    control,
    control_applied,
    data_context,
    data_ready,
    device_context,
    epoch_end,
    epoch_start,
    item,
    live_state,
    metrics_context,
    metrics_ready,
    model_context,
    model_loaded,
    model_ready,
    plan_context,
    progress,
    run_close,
    run_end,
    run_error,
    run_info,
    run_start,
    sample_context,
    step_end,
    step_parts,
    step_start,
    validation_end,
    validation_start,
)
from .made_artefacts import (
    PROMPT,
    checkpoint_loaded,
    checkpoint_saved,
    checkpoint_start,
    export_context,
    export_end,
    export_start,
    export_write,
    preview_context,
    preview_end,
    preview_image,
    preview_start,
    prompt,
    retention_context,
)
from .recorder import Fired, NotedControl, Recorder
from .stand_ins import CosineSchedule
from .worker import Both

__all__ = [
    "ITEM",
    "PROMPT",
    "Both",
    "CosineSchedule",
    "Fired",
    "GivenRanks",
    "Harness",
    "NotedControl",
    "Recorder",
    "batch",
    "batch_context",
    "cache_end",
    "cache_start",
    "checkpoint_loaded",
    "checkpoint_saved",
    "checkpoint_start",
    "configure_context",
    "control",
    "control_applied",
    "data_context",
    "data_ready",
    "device_context",
    "epoch_end",
    "epoch_start",
    "export_context",
    "export_end",
    "export_start",
    "export_write",
    "item",
    "live_state",
    "metrics_context",
    "metrics_ready",
    "model_context",
    "model_loaded",
    "model_ready",
    "plan_context",
    "preview_context",
    "preview_end",
    "preview_image",
    "preview_start",
    "progress",
    "prompt",
    "retention_context",
    "run_close",
    "run_end",
    "run_error",
    "run_info",
    "run_start",
    "sample_context",
    "step_end",
    "step_parts",
    "step_start",
    "validation_end",
    "validation_start",
]
