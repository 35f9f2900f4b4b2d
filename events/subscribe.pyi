"""The decorators as type checkers see them. Generated from the catalogue: python -m tests.events.make_subscribe_stub"""

from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeAlias, TypeVar, overload

import torch
from PIL import Image

from .payloads import (
    Batch,
    BatchContext,
    CacheEnd,
    CacheStart,
    CheckpointLoaded,
    CheckpointSaved,
    CheckpointStart,
    ConditioningFunction,
    ConfigureContext,
    ControlApplied,
    Crop,
    DataContext,
    DataReady,
    DeviceContext,
    EpochEnd,
    EpochStart,
    ExportContext,
    ExportEnd,
    ExportStart,
    ExportWrite,
    Item,
    LearningRateFunction,
    LossFunction,
    MetricsContext,
    MetricsReady,
    ModelContext,
    ModelLoaded,
    ModelReady,
    NoiseFunction,
    ParameterGroup,
    PlanContext,
    PreviewContext,
    PreviewEnd,
    PreviewImage,
    PreviewStart,
    Progress,
    Prompt,
    RetentionContext,
    RunClose,
    RunEnd,
    RunError,
    RunStart,
    SampleContext,
    SampleKey,
    SampleSettings,
    StepEnd,
    StepParts,
    StepStart,
    TimestepFunction,
    ValidationEnd,
    ValidationStart,
    WeightFunction,
)
from .ranks import On

E = TypeVar("E")
V = TypeVar("V")
C = TypeVar("C")
Handler = TypeVar("Handler", bound=Callable[..., Any])

# What handlers look like: methods, and static methods, which have no self.
Looks: TypeAlias = Callable[[Any, E], None] | Callable[[E], None]
Waits: TypeAlias = Callable[[Any, E], Coroutine[Any, Any, None]] | Callable[[E], Coroutine[Any, Any, None]]
Changes: TypeAlias = Callable[[Any, V, C], V] | Callable[[V, C], V]

# For signals of another kind: no method takes nothing, and the name that is told says which decorator does.
UseOn = TypeVar("UseOn", bound=Callable[[], None])
UseTransform = TypeVar("UseTransform", bound=Callable[[], None])
UseBuild = TypeVar("UseBuild", bound=Callable[[], None])
SignalsOfOn: TypeAlias = Literal[
    "run.start",
    "data.ready",
    "model.loaded",
    "model.ready",
    "cache.start",
    "cache.end",
    "checkpoint.loaded",
    "epoch.start",
    "step.start",
    "step.end",
    "metrics.ready",
    "progress",
    "control.applied",
    "validation.start",
    "validation.end",
    "preview.start",
    "preview.image",
    "preview.end",
    "checkpoint.start",
    "checkpoint.saved",
    "epoch.end",
    "export.start",
    "export.write",
    "export.end",
    "run.error",
    "run.end",
    "run.close",
]
SignalsOfTransform: TypeAlias = Literal[
    "run.configure",
    "data.items",
    "epoch.plan",
    "sample.image",
    "sample.crop",
    "sample.caption",
    "sample.pixels",
    "sample.settings",
    "batch.host",
    "batch.device",
    "metrics.record",
    "preview.prompts",
    "checkpoint.retention",
    "checkpoint.metadata",
    "checkpoint.tensors",
]
SignalsOfBuild: TypeAlias = Literal[
    "build.scheduler",
    "build.model",
    "build.parameters",
    "build.optimizer",
    "build.schedule",
    "build.noise",
    "build.input_noise",
    "build.timesteps",
    "build.conditioning",
    "build.loss",
    "build.weight",
]
ChangesRunConfigure = TypeVar("ChangesRunConfigure", bound=Changes[Any, ConfigureContext])
TakesRunStart = TypeVar("TakesRunStart", bound=Looks[RunStart])
ChangesDataItems = TypeVar("ChangesDataItems", bound=Changes[tuple[Item, ...], DataContext])
TakesDataReady = TypeVar("TakesDataReady", bound=Looks[DataReady] | Waits[DataReady])
TakesModelLoaded = TypeVar("TakesModelLoaded", bound=Looks[ModelLoaded])
BuildsScheduler = TypeVar("BuildsScheduler", bound=Changes[Any, ModelContext])
BuildsModel = TypeVar("BuildsModel", bound=Changes[dict[str, torch.nn.Module], ModelContext])
BuildsParameters = TypeVar("BuildsParameters", bound=Changes[tuple[ParameterGroup, ...], ModelContext])
BuildsOptimizer = TypeVar("BuildsOptimizer", bound=Changes[torch.optim.Optimizer, ModelContext])
BuildsSchedule = TypeVar("BuildsSchedule", bound=Changes[LearningRateFunction, ModelContext])
BuildsNoise = TypeVar("BuildsNoise", bound=Changes[NoiseFunction, StepParts])
BuildsInputNoise = TypeVar("BuildsInputNoise", bound=Changes[NoiseFunction, StepParts])
BuildsTimesteps = TypeVar("BuildsTimesteps", bound=Changes[TimestepFunction, StepParts])
BuildsConditioning = TypeVar("BuildsConditioning", bound=Changes[ConditioningFunction, StepParts])
BuildsLoss = TypeVar("BuildsLoss", bound=Changes[LossFunction, StepParts])
BuildsWeight = TypeVar("BuildsWeight", bound=Changes[WeightFunction, StepParts])
TakesModelReady = TypeVar("TakesModelReady", bound=Looks[ModelReady])
TakesCacheStart = TypeVar("TakesCacheStart", bound=Looks[CacheStart])
TakesCacheEnd = TypeVar("TakesCacheEnd", bound=Looks[CacheEnd] | Waits[CacheEnd])
TakesCheckpointLoaded = TypeVar("TakesCheckpointLoaded", bound=Looks[CheckpointLoaded])
ChangesEpochPlan = TypeVar("ChangesEpochPlan", bound=Changes[tuple[tuple[SampleKey, ...], ...], PlanContext])
TakesEpochStart = TypeVar("TakesEpochStart", bound=Looks[EpochStart])
ChangesSampleImage = TypeVar("ChangesSampleImage", bound=Changes[Image.Image, SampleContext])
ChangesSampleCrop = TypeVar("ChangesSampleCrop", bound=Changes[Crop, SampleContext])
ChangesSampleCaption = TypeVar("ChangesSampleCaption", bound=Changes[str, SampleContext])
ChangesSamplePixels = TypeVar("ChangesSamplePixels", bound=Changes[torch.Tensor, SampleContext])
ChangesSampleSettings = TypeVar("ChangesSampleSettings", bound=Changes[SampleSettings, SampleContext])
ChangesBatchHost = TypeVar("ChangesBatchHost", bound=Changes[Batch, BatchContext])
ChangesBatchDevice = TypeVar("ChangesBatchDevice", bound=Changes[Batch, DeviceContext])
TakesStepStart = TypeVar("TakesStepStart", bound=Looks[StepStart])
TakesStepEnd = TypeVar("TakesStepEnd", bound=Looks[StepEnd])
ChangesMetricsRecord = TypeVar("ChangesMetricsRecord", bound=Changes[dict[str, float], MetricsContext])
TakesMetricsReady = TypeVar("TakesMetricsReady", bound=Looks[MetricsReady] | Waits[MetricsReady])
TakesProgress = TypeVar("TakesProgress", bound=Looks[Progress] | Waits[Progress])
TakesControlApplied = TypeVar("TakesControlApplied", bound=Looks[ControlApplied] | Waits[ControlApplied])
TakesValidationStart = TypeVar("TakesValidationStart", bound=Looks[ValidationStart])
TakesValidationEnd = TypeVar("TakesValidationEnd", bound=Looks[ValidationEnd] | Waits[ValidationEnd])
ChangesPreviewPrompts = TypeVar("ChangesPreviewPrompts", bound=Changes[tuple[Prompt, ...], PreviewContext])
TakesPreviewStart = TypeVar("TakesPreviewStart", bound=Looks[PreviewStart])
TakesPreviewImage = TypeVar("TakesPreviewImage", bound=Looks[PreviewImage] | Waits[PreviewImage])
TakesPreviewEnd = TypeVar("TakesPreviewEnd", bound=Looks[PreviewEnd])
TakesCheckpointStart = TypeVar("TakesCheckpointStart", bound=Looks[CheckpointStart])
ChangesCheckpointRetention = TypeVar("ChangesCheckpointRetention", bound=Changes[tuple[int, ...], RetentionContext])
TakesCheckpointSaved = TypeVar("TakesCheckpointSaved", bound=Looks[CheckpointSaved] | Waits[CheckpointSaved])
TakesEpochEnd = TypeVar("TakesEpochEnd", bound=Looks[EpochEnd])
TakesExportStart = TypeVar("TakesExportStart", bound=Looks[ExportStart])
ChangesCheckpointMetadata = TypeVar("ChangesCheckpointMetadata", bound=Changes[dict[str, str], ExportContext])
ChangesCheckpointTensors = TypeVar("ChangesCheckpointTensors", bound=Changes[dict[str, torch.Tensor], ExportContext])
TakesExportWrite = TypeVar("TakesExportWrite", bound=Looks[ExportWrite])
TakesExportEnd = TypeVar("TakesExportEnd", bound=Looks[ExportEnd] | Waits[ExportEnd])
TakesRunError = TypeVar("TakesRunError", bound=Looks[RunError])
TakesRunEnd = TypeVar("TakesRunEnd", bound=Looks[RunEnd])
TakesRunClose = TypeVar("TakesRunClose", bound=Looks[RunClose])

@overload
def on(
    signal: Literal["run.start"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesRunStart], TakesRunStart]: ...
@overload
def on(
    signal: Literal["data.ready"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesDataReady], TakesDataReady]: ...
@overload
def on(
    signal: Literal["model.loaded"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesModelLoaded], TakesModelLoaded]: ...
@overload
def on(
    signal: Literal["model.ready"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesModelReady], TakesModelReady]: ...
@overload
def on(
    signal: Literal["cache.start"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesCacheStart], TakesCacheStart]: ...
@overload
def on(
    signal: Literal["cache.end"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesCacheEnd], TakesCacheEnd]: ...
@overload
def on(
    signal: Literal["checkpoint.loaded"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesCheckpointLoaded], TakesCheckpointLoaded]: ...
@overload
def on(
    signal: Literal["epoch.start"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesEpochStart], TakesEpochStart]: ...
@overload
def on(
    signal: Literal["step.start"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesStepStart], TakesStepStart]: ...
@overload
def on(
    signal: Literal["step.end"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesStepEnd], TakesStepEnd]: ...
@overload
def on(
    signal: Literal["metrics.ready"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesMetricsReady], TakesMetricsReady]: ...
@overload
def on(
    signal: Literal["progress"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesProgress], TakesProgress]: ...
@overload
def on(
    signal: Literal["control.applied"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesControlApplied], TakesControlApplied]: ...
@overload
def on(
    signal: Literal["validation.start"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesValidationStart], TakesValidationStart]: ...
@overload
def on(
    signal: Literal["validation.end"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesValidationEnd], TakesValidationEnd]: ...
@overload
def on(
    signal: Literal["preview.start"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesPreviewStart], TakesPreviewStart]: ...
@overload
def on(
    signal: Literal["preview.image"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesPreviewImage], TakesPreviewImage]: ...
@overload
def on(
    signal: Literal["preview.end"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesPreviewEnd], TakesPreviewEnd]: ...
@overload
def on(
    signal: Literal["checkpoint.start"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesCheckpointStart], TakesCheckpointStart]: ...
@overload
def on(
    signal: Literal["checkpoint.saved"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesCheckpointSaved], TakesCheckpointSaved]: ...
@overload
def on(
    signal: Literal["epoch.end"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesEpochEnd], TakesEpochEnd]: ...
@overload
def on(
    signal: Literal["export.start"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesExportStart], TakesExportStart]: ...
@overload
def on(
    signal: Literal["export.write"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesExportWrite], TakesExportWrite]: ...
@overload
def on(
    signal: Literal["export.end"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesExportEnd], TakesExportEnd]: ...
@overload
def on(
    signal: Literal["run.error"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesRunError], TakesRunError]: ...
@overload
def on(
    signal: Literal["run.end"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesRunEnd], TakesRunEnd]: ...
@overload
def on(
    signal: Literal["run.close"], *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[TakesRunClose], TakesRunClose]: ...
@overload
def on(
    signal: SignalsOfTransform, *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[UseTransform], UseTransform]: ...
@overload
def on(
    signal: SignalsOfBuild, *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[UseBuild], UseBuild]: ...
@overload
def on(
    signal: str, *, priority: int = ..., ranks: On | None = ..., collective: bool = ...
) -> Callable[[Handler], Handler]: ...
@overload
def transform(
    signal: Literal["run.configure"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesRunConfigure], ChangesRunConfigure]: ...
@overload
def transform(
    signal: Literal["data.items"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesDataItems], ChangesDataItems]: ...
@overload
def transform(
    signal: Literal["epoch.plan"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesEpochPlan], ChangesEpochPlan]: ...
@overload
def transform(
    signal: Literal["sample.image"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesSampleImage], ChangesSampleImage]: ...
@overload
def transform(
    signal: Literal["sample.crop"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesSampleCrop], ChangesSampleCrop]: ...
@overload
def transform(
    signal: Literal["sample.caption"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesSampleCaption], ChangesSampleCaption]: ...
@overload
def transform(
    signal: Literal["sample.pixels"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesSamplePixels], ChangesSamplePixels]: ...
@overload
def transform(
    signal: Literal["sample.settings"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesSampleSettings], ChangesSampleSettings]: ...
@overload
def transform(
    signal: Literal["batch.host"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesBatchHost], ChangesBatchHost]: ...
@overload
def transform(
    signal: Literal["batch.device"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesBatchDevice], ChangesBatchDevice]: ...
@overload
def transform(
    signal: Literal["metrics.record"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesMetricsRecord], ChangesMetricsRecord]: ...
@overload
def transform(
    signal: Literal["preview.prompts"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesPreviewPrompts], ChangesPreviewPrompts]: ...
@overload
def transform(
    signal: Literal["checkpoint.retention"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesCheckpointRetention], ChangesCheckpointRetention]: ...
@overload
def transform(
    signal: Literal["checkpoint.metadata"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesCheckpointMetadata], ChangesCheckpointMetadata]: ...
@overload
def transform(
    signal: Literal["checkpoint.tensors"], *, priority: int = ..., training_only: bool = ...
) -> Callable[[ChangesCheckpointTensors], ChangesCheckpointTensors]: ...
@overload
def transform(signal: SignalsOfOn, *, priority: int = ..., training_only: bool = ...) -> Callable[[UseOn], UseOn]: ...
@overload
def transform(
    signal: SignalsOfBuild, *, priority: int = ..., training_only: bool = ...
) -> Callable[[UseBuild], UseBuild]: ...
@overload
def transform(signal: str, *, priority: int = ..., training_only: bool = ...) -> Callable[[Handler], Handler]: ...
@overload
def build(
    part: Literal["scheduler", "build.scheduler"], *, priority: int = ...
) -> Callable[[BuildsScheduler], BuildsScheduler]: ...
@overload
def build(part: Literal["model", "build.model"], *, priority: int = ...) -> Callable[[BuildsModel], BuildsModel]: ...
@overload
def build(
    part: Literal["parameters", "build.parameters"], *, priority: int = ...
) -> Callable[[BuildsParameters], BuildsParameters]: ...
@overload
def build(
    part: Literal["optimizer", "build.optimizer"], *, priority: int = ...
) -> Callable[[BuildsOptimizer], BuildsOptimizer]: ...
@overload
def build(
    part: Literal["schedule", "build.schedule"], *, priority: int = ...
) -> Callable[[BuildsSchedule], BuildsSchedule]: ...
@overload
def build(part: Literal["noise", "build.noise"], *, priority: int = ...) -> Callable[[BuildsNoise], BuildsNoise]: ...
@overload
def build(
    part: Literal["input_noise", "build.input_noise"], *, priority: int = ...
) -> Callable[[BuildsInputNoise], BuildsInputNoise]: ...
@overload
def build(
    part: Literal["timesteps", "build.timesteps"], *, priority: int = ...
) -> Callable[[BuildsTimesteps], BuildsTimesteps]: ...
@overload
def build(
    part: Literal["conditioning", "build.conditioning"], *, priority: int = ...
) -> Callable[[BuildsConditioning], BuildsConditioning]: ...
@overload
def build(part: Literal["loss", "build.loss"], *, priority: int = ...) -> Callable[[BuildsLoss], BuildsLoss]: ...
@overload
def build(
    part: Literal["weight", "build.weight"], *, priority: int = ...
) -> Callable[[BuildsWeight], BuildsWeight]: ...
@overload
def build(part: str, *, priority: int = ...) -> Callable[[Handler], Handler]: ...
