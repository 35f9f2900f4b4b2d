"""The map of a run, and every signal with its payload in firing order.

In the map a name fires once, `name?` at most once, `name*` any number of times and `name+` at least once; a line that
ends in a colon says how its block repeats. A test runs the trainer and holds the map against what fired.

Map:
    run.configure
    run.start
    data.items+
    data.ready
    model.loaded
    build.scheduler
    build.model
    build.parameters
    build.optimizer
    build.schedule
    build.noise
    build.input_noise
    build.timesteps
    build.conditioning
    build.loss
    build.weight
    model.ready
    for each cache that is switched on:
        cache.start
        cache.end
    checkpoint.loaded?
    control.applied*
    when validation is measured before the first step:
        validation.start
        validation.end
    when previews are rendered before the first step:
        preview.prompts
        preview.start
        preview.image*
        preview.end
    when a run goes on from a stop that went before a validation:
        validation.start
        validation.end
        control.applied*
        when a preview is due:
            preview.prompts
            preview.start
            preview.image*
            preview.end
        when a checkpoint is due:
            checkpoint.start
            checkpoint.retention?
        when an export is due:
            export.start
            checkpoint.metadata+
            checkpoint.tensors*
            export.write
            export.end
    for each epoch:
        epoch.plan
        epoch.start?
        for each step:
            batch.device+
            step.start
            step.end?
            checkpoint.saved?
            for each report that has reached the host:
                metrics.record
                metrics.ready
            progress?
            control.applied*
            when validation is due:
                validation.start
                validation.end
                control.applied*
            when a preview is due:
                preview.prompts
                preview.start
                preview.image*
                preview.end
            when a checkpoint is due:
                checkpoint.saved?
                checkpoint.start
                checkpoint.retention?
            when an export is due:
                export.start
                checkpoint.metadata+
                checkpoint.tensors*
                export.write
                export.end
        epoch.end?
        control.applied*
    when validation is measured after the last step:
        validation.start
        validation.end
    when previews are rendered after the last step:
        preview.prompts
        preview.start
        preview.image*
        preview.end
    checkpoint.saved?
    checkpoint.start?
    checkpoint.retention?
    checkpoint.saved?
    for each report that has reached the host:
        metrics.record
        metrics.ready
    when the model is exported:
        export.start
        checkpoint.metadata+
        checkpoint.tensors*
        export.write
        export.end
    run.error?
    run.end?
    run.close

Meanwhile, in the loader, for each sample: sample.image, sample.crop, sample.caption, sample.pixels, sample.settings;
for each batch: batch.host. `step.start` without `step.end` is a step that a handler asked to skip.
`checkpoint.saved` follows its `checkpoint.start` once the checkpoint, which is written beside training, is whole on disk.
`epoch.start` is missing once after a resume in the middle of an epoch, and `epoch.end` when the run ends within one.
A run that goes back where numbers are not finite saves before its first step, and `checkpoint.loaded` and what follows
it may then come again, after any step or at the end.
"""

from typing import TYPE_CHECKING, Any

from .checks import (
    batches_of,
    finite_field,
    finite_tensor,
    float_values,
    host_tensors,
    is_callable,
    like_image,
    like_tensor,
    modules,
    of_type,
    same_fields,
    same_type,
    string_values,
    tuple_of,
    with_methods,
    within_the_picture,
)  # fmt: skip
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
)  # fmt: skip
from .spec import Build, Notification, SignalSpec, Transform

if TYPE_CHECKING:
    import torch
    from PIL import Image


def own_generator(part: Any, plugin: str) -> Any:
    """Let a function of (value, generator) draw from its plugin's own stream, whoever else draws (P12)."""

    def keyed(value: Any, generator: Any) -> Any:
        return part(value, generator.of(plugin))

    return keyed


def own_context(context: Any, plugin: str, signal: str) -> Any:
    """Give a handler the context with its own random streams."""
    return context.for_handler(plugin, signal)


RUN_CONFIGURE: Transform[Any, ConfigureContext] = Transform(
    name="run.configure", meaning="The validated config, before anything is built.", pace="run",
    value="Config", context=ConfigureContext, check=same_type,
)  # fmt: skip
RUN_START = Notification(
    name="run.start", meaning="A run begins or resumes.", pace="run", payload=RunStart,
)  # fmt: skip
DATA_ITEMS: "Transform[tuple[Item, ...], DataContext]" = Transform(
    name="data.items", meaning="What the scan found: drop, add, re-weigh.", pace="run",
    value="tuple of Item", context=DataContext, check=tuple_of(Item),
)  # fmt: skip
DATA_READY = Notification(
    name="data.ready", meaning="What the run will train on: counts, buckets, problems.", pace="run",
    payload=DataReady, asynchronous=True,
)  # fmt: skip
MODEL_LOADED = Notification(
    name="model.loaded", meaning="The modules as loaded, before adapters and freezing.", pace="run",
    payload=ModelLoaded, on_failure="raise", ranks="all",
)  # fmt: skip
BUILD_SCHEDULER: Build[Any, ModelContext] = Build(
    name="build.scheduler", meaning="The model's own scheduler, whose noise schedule is trained on and exported.",
    pace="run", part="diffusers scheduler", context=ModelContext, check=with_methods("add_noise", "set_timesteps"),
)  # fmt: skip
BUILD_MODEL: "Build[dict[str, torch.nn.Module], ModelContext]" = Build(
    name="build.model", meaning="The modules: adapters, freezing, quantisation.", pace="run",
    part="dict of name to module", context=ModelContext, check=modules,
)  # fmt: skip
BUILD_PARAMETERS: "Build[tuple[ParameterGroup, ...], ModelContext]" = Build(
    name="build.parameters", meaning="Parameter groups with their learning rates.", pace="run",
    part="tuple of ParameterGroup", context=ModelContext, check=tuple_of(ParameterGroup),
)  # fmt: skip
BUILD_OPTIMIZER: "Build[torch.optim.Optimizer, ModelContext]" = Build(
    name="build.optimizer", meaning="The optimizer.", pace="run", part="torch optimizer", context=ModelContext,
    check=with_methods("step", "zero_grad", "state_dict", "load_state_dict"),
)  # fmt: skip
BUILD_SCHEDULE: Build[LearningRateFunction, ModelContext] = Build(
    name="build.schedule", meaning="The learning rate's factor as a function of the step.", pace="run",
    part="step -> factor", context=ModelContext, check=is_callable,
)  # fmt: skip
BUILD_NOISE: Build[NoiseFunction, StepParts] = Build(
    name="build.noise", meaning="The noise that is added to the latents.", pace="run",
    part="(latents (1, C, h, w), generator) -> noise", context=StepParts, check=is_callable, bind=own_generator,
)  # fmt: skip
BUILD_INPUT_NOISE: Build[NoiseFunction, StepParts] = Build(
    name="build.input_noise", meaning="The noise as it is mixed in; what is predicted keeps the noise as drawn.",
    pace="run", part="(noise (1, C, h, w), generator) -> noise", context=StepParts, check=is_callable,
    bind=own_generator,
)  # fmt: skip
BUILD_TIMESTEPS: Build[TimestepFunction, StepParts] = Build(
    name="build.timesteps", meaning="The timesteps that are trained.", pace="run",
    part="(latents (1, C, h, w), generator) -> t (1,)", context=StepParts, check=is_callable, bind=own_generator,
)  # fmt: skip
BUILD_CONDITIONING: Build[ConditioningFunction, StepParts] = Build(
    name="build.conditioning", meaning="What the text encoders say, on its way to the denoiser.", pace="run",
    part="(conditioning of one sample, generator) -> conditioning", context=StepParts, check=is_callable, bind=own_generator,
)  # fmt: skip
BUILD_LOSS: Build[LossFunction, StepParts] = Build(
    name="build.loss", meaning="The loss of each sample.", pace="run",
    part="(prediction, target, t, batch) -> loss (B,)", context=StepParts, check=is_callable,
)  # fmt: skip
BUILD_WEIGHT: Build[WeightFunction, StepParts] = Build(
    name="build.weight", meaning="The weight of each sample's loss.", pace="run",
    part="(t, batch) -> weight (B,)", context=StepParts, check=is_callable,
)  # fmt: skip
MODEL_READY = Notification(
    name="model.ready", meaning="Composed, prepared, on the device; torch hooks may be registered.", pace="run",
    payload=ModelReady, on_failure="raise", ranks="all",
)  # fmt: skip
CACHE_START = Notification(
    name="cache.start", meaning="What a cache holds and what is encoded now.", pace="run", payload=CacheStart,
)  # fmt: skip
CACHE_END = Notification(
    name="cache.end", meaning="A cache is filled.", pace="run", payload=CacheEnd, asynchronous=True,
)  # fmt: skip
CHECKPOINT_LOADED = Notification(
    name="checkpoint.loaded", meaning="A checkpoint has been taken back, plugins included.", pace="run",
    payload=CheckpointLoaded,
)  # fmt: skip
EPOCH_PLAN: "Transform[tuple[tuple[SampleKey, ...], ...], PlanContext]" = Transform(
    name="epoch.plan", meaning="The epoch's batches of sample keys.", pace="epoch",
    value="tuple of tuples of SampleKey", context=PlanContext, check=batches_of(SampleKey), bind=own_context,
)  # fmt: skip
EPOCH_START = Notification(
    name="epoch.start", meaning="An epoch begins.", pace="epoch", payload=EpochStart,
)  # fmt: skip
SAMPLE_IMAGE: "Transform[Image.Image, SampleContext]" = Transform(
    name="sample.image", meaning="The picture, upright, before crop and normalisation.", where="worker",
    value="PIL image, RGB", context=SampleContext, check=like_image, bind=own_context,
)  # fmt: skip
SAMPLE_CROP: Transform[Crop, SampleContext] = Transform(
    name="sample.crop", meaning="Which part of the picture is shown, of its mask too.", where="worker",
    value="Crop", context=SampleContext, check=within_the_picture, bind=own_context,
)  # fmt: skip
SAMPLE_CAPTION: Transform[str, SampleContext] = Transform(
    name="sample.caption", meaning="The caption, before it is tokenised.", where="worker",
    value="str", context=SampleContext, check=of_type(str), bind=own_context,
)  # fmt: skip
SAMPLE_PIXELS: "Transform[torch.Tensor, SampleContext]" = Transform(
    name="sample.pixels", meaning="The pixels after resize, crop and normalisation.", where="worker",
    value="float32 (3, H, W) in [-1, 1]", context=SampleContext, check=finite_tensor, bind=own_context,
)  # fmt: skip
SAMPLE_SETTINGS: Transform[SampleSettings, SampleContext] = Transform(
    name="sample.settings", meaning="Loss scale and extras of the sample.", where="worker",
    value="SampleSettings", context=SampleContext, check=finite_field("loss_scale"), bind=own_context,
)  # fmt: skip
BATCH_HOST: Transform[Batch, BatchContext] = Transform(
    name="batch.host", meaning="The collated batch on the CPU.", where="worker",
    value="Batch", context=BatchContext, check=same_fields(finite_tensor), bind=own_context,
)  # fmt: skip
BATCH_DEVICE: Transform[Batch, DeviceContext] = Transform(
    name="batch.device", meaning="The batch on the device; enqueue only.",
    value="Batch", context=DeviceContext, check=same_fields(like_tensor), bind=own_context,
)  # fmt: skip
STEP_START = Notification(
    name="step.start", meaning="The batches are ready and the first forward is next.", payload=StepStart,
)  # fmt: skip
STEP_END = Notification(
    name="step.end", meaning="Weights have moved.", payload=StepEnd,
)  # fmt: skip
METRICS_RECORD: Transform[dict[str, float], MetricsContext] = Transform(
    name="metrics.record", meaning="Numbers on their way to whoever records them.",
    value="dict of str to float", context=MetricsContext, check=float_values,
)  # fmt: skip
METRICS_READY = Notification(
    name="metrics.ready", meaning="Numbers of an earlier step have reached the host.", payload=MetricsReady,
    asynchronous=True,
)  # fmt: skip
PROGRESS = Notification(
    name="progress", meaning="How far the run is, at most a few times a second.", payload=Progress, asynchronous=True,
    coalesced=True, main_only=True,
)  # fmt: skip
CONTROL_APPLIED = Notification(
    name="control.applied", meaning="A request of a handler has been taken up.", payload=ControlApplied,
    asynchronous=True,
)  # fmt: skip
VALIDATION_START = Notification(
    name="validation.start", meaning="The loss on the validation sets is about to be measured.", pace="run",
    payload=ValidationStart,
)  # fmt: skip
VALIDATION_END = Notification(
    name="validation.end", meaning="The loss on the validation sets is known.", pace="run", payload=ValidationEnd,
    asynchronous=True,
)  # fmt: skip
PREVIEW_PROMPTS: "Transform[tuple[Prompt, ...], PreviewContext]" = Transform(
    name="preview.prompts", meaning="The prompts of a preview round.", pace="run",
    value="tuple of Prompt", context=PreviewContext, check=tuple_of(Prompt), main_only=True,
)  # fmt: skip
PREVIEW_START = Notification(
    name="preview.start", meaning="Pictures are about to be rendered.", pace="run", payload=PreviewStart,
)  # fmt: skip
PREVIEW_IMAGE = Notification(
    name="preview.image", meaning="A picture has been rendered.", pace="epoch", payload=PreviewImage,
    asynchronous=True, main_only=True,
)  # fmt: skip
PREVIEW_END = Notification(
    name="preview.end", meaning="A preview round is over, also when it failed.", pace="run", payload=PreviewEnd,
)  # fmt: skip
CHECKPOINT_START = Notification(
    name="checkpoint.start", meaning="A checkpoint is about to be taken; async handlers have finished.", pace="epoch",
    payload=CheckpointStart, on_failure="raise",
)  # fmt: skip
CHECKPOINT_RETENTION: "Transform[tuple[int, ...], RetentionContext]" = Transform(
    name="checkpoint.retention", meaning="Steps whose checkpoints are about to be removed; leave out what shall stay.",
    pace="epoch", value="tuple of int", context=RetentionContext, check=tuple_of(int), main_only=True,
)  # fmt: skip
CHECKPOINT_SAVED = Notification(
    name="checkpoint.saved", meaning="A checkpoint is complete on disk; told at the first boundary after.", pace="epoch", payload=CheckpointSaved,
    asynchronous=True,
)  # fmt: skip
EPOCH_END = Notification(
    name="epoch.end", meaning="Every batch of the epoch has been used.", pace="epoch", payload=EpochEnd,
)  # fmt: skip
EXPORT_START = Notification(
    name="export.start", meaning="The model is about to be exported.", pace="run", payload=ExportStart,
)  # fmt: skip
CHECKPOINT_METADATA: Transform[dict[str, str], ExportContext] = Transform(
    name="checkpoint.metadata", meaning="The header of an exported file.", pace="run",
    value="dict of str to str", context=ExportContext, check=string_values, main_only=True,
)  # fmt: skip
CHECKPOINT_TENSORS: "Transform[dict[str, torch.Tensor], ExportContext]" = Transform(
    name="checkpoint.tensors", meaning="A module's tensors on their way to an exported file.", pace="run",
    value="dict of name to CPU tensor", context=ExportContext, check=host_tensors, main_only=True,
)  # fmt: skip
EXPORT_WRITE = Notification(
    name="export.write", meaning="An export is being put together: files of a plugin's own.", pace="run",
    payload=ExportWrite, on_failure="raise", main_only=True,
)  # fmt: skip
EXPORT_END = Notification(
    name="export.end", meaning="An export is whole, or failed.", pace="run", payload=ExportEnd, asynchronous=True,
)  # fmt: skip
RUN_ERROR = Notification(
    name="run.error", meaning="The run is about to end with an error.", pace="run", payload=RunError,
    on_failure="continue",
)  # fmt: skip
RUN_END = Notification(
    name="run.end", meaning="The run is complete or was stopped, its checkpoint saved.", pace="run", payload=RunEnd,
)  # fmt: skip
RUN_CLOSE = Notification(
    name="run.close", meaning="Always the last signal.", pace="run", payload=RunClose, on_failure="continue",
)  # fmt: skip

CATALOGUE: tuple[SignalSpec, ...] = tuple(spec for spec in globals().values() if isinstance(spec, SignalSpec))
