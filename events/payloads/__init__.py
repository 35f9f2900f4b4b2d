"""The typed values that signals carry: frozen, slotted, keyword-only, with documented fields (P6)."""

from .artefacts import (
    CheckpointLoaded,
    CheckpointSaved,
    CheckpointStart,
    ExportContext,
    PreviewContext,
    PreviewEnd,
    PreviewImage,
    PreviewStart,
    Prompt,
    Sampler,
)  # fmt: skip
from .build import (
    ConditioningFunction,
    LearningRateFunction,
    LossFunction,
    ModelContext,
    ModelLoaded,
    ModelReady,
    NoiseFunction,
    NoiseSchedule,
    ParameterGroup,
    StepParts,
    TimestepFunction,
    WeightFunction,
)  # fmt: skip
from .data import (
    Batch,
    BatchContext,
    DataContext,
    DataReady,
    DeviceContext,
    EpochEnd,
    EpochStart,
    Item,
    PlanContext,
    SampleContext,
    SampleKey,
    SampleSettings,
)  # fmt: skip
from .run import (
    ConfigureContext,
    ControlApplied,
    MetricsContext,
    MetricsReady,
    Progress,
    RunClose,
    RunEnd,
    RunError,
    RunInfo,
    RunStart,
)  # fmt: skip
from .step import LiveState, StepEnd, StepStart

__all__ = [
    "Batch", "BatchContext", "CheckpointLoaded", "CheckpointSaved", "CheckpointStart", "ConditioningFunction",
    "ConfigureContext", "ControlApplied", "DataContext", "DataReady", "DeviceContext", "EpochEnd", "EpochStart",
    "ExportContext", "Item", "LearningRateFunction", "LiveState", "LossFunction", "MetricsContext", "MetricsReady",
    "ModelContext", "ModelLoaded", "ModelReady", "NoiseFunction", "NoiseSchedule", "ParameterGroup", "PlanContext",
    "PreviewContext", "PreviewEnd", "PreviewImage", "PreviewStart", "Progress", "Prompt", "RunClose", "RunEnd",
    "RunError", "RunInfo", "RunStart", "SampleContext", "SampleKey", "SampleSettings", "Sampler", "StepEnd",
    "StepParts", "StepStart", "TimestepFunction", "WeightFunction",
]  # fmt: skip
