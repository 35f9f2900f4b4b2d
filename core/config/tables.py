"""The config's schema: every key with its type, default and meaning. The descriptions are what users read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from events.plugin import Plugin, PluginTable

NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
"""Of a run, a plugin, a validation set: part of file names, so without separators, and no dot in front."""
OPTIONAL_NAME = rf"^$|{NAME}"
DOTTED_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
DottedPath = Annotated[str, Field(pattern=DOTTED_PATH)]
PLUGIN_PATH = rf"{DOTTED_PATH}|^[A-Za-z_][\w-]*$"
"""The path of a class, or without a dot the name that an installed package gives one."""
OnError = Literal["raise", "warn", "disable"]
ItemSetting = Literal[
    "multiply", "loss_scale", "cond_dropout", "flip_p", "shuffle_tags", "keep_tags", "max_caption_length", "batch_id",
    "rating", "no_upscale", "tag_weights",
]  # fmt: skip
"""What the files beside a picture may say about it; the fields of events.payloads.ItemSettings."""


Dtype = Literal["fp32", "fp16", "bf16"]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, int | float) else value


Numbers = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
OneOrMore = Annotated[Numbers, BeforeValidator(_as_list, json_schema_input_type=PositiveInt | Numbers)]

Factors = Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)]
Scales = Annotated[Factors, BeforeValidator(_as_list, json_schema_input_type=NonNegativeFloat | Factors)]


class Table(BaseModel):
    """A table of the config: unknown keys are refused, nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RunTable(Table):
    name: str = Field("demo", pattern=NAME, description="name of the run; its folder is <dir>/<name>")
    dir: Path = Field(Path("runs"), description="folder of all runs")
    seed: NonNegativeInt = Field(0, description="every random draw of the run follows from it")
    resume: Literal["auto", "never"] = Field(
        "auto", description="auto: go on with an unfinished run of this name; never: refuse to touch one"
    )


class ModelTable(Table):
    path: Path = Field(description="a diffusers folder, or a single .safetensors file in the original layout")
    family: str = Field("auto", description="model family; auto reads it from the model")
    train: tuple[str, ...] = Field(
        (), description="modules to train, such as unet, transformer, text_encoder; left out: the one that denoises"
    )
    from_scratch: tuple[str, ...] = Field((), description="modules to initialise anew from their config, by run.seed")
    base_config: Path | None = Field(
        None, description="diffusers folder with the configs of a single-file model, where the shipped ones do not fit"
    )
    prediction: Literal["auto", "epsilon", "v_prediction", "sample"] = Field(
        "auto", description="what the model predicts; auto: what its scheduler says"
    )
    dtype: Dtype = Field("fp32", description="of weights that are not trained; those that are stay float32")
    vae_dtype: Dtype = Field("fp32", description="likewise, of the encoder of pictures")


class DataTable(Table):
    root: Path | tuple[Path, ...] = Field(
        description="folder of pictures with captions beside them, or a .json, .jsonl or .csv list of them; or several"
    )
    follow_links: bool = Field(False, description="follow symbolic links out of the folders of data.root")
    layout: Literal["plain", "kohya"] = Field(
        "plain", description="kohya: folders named <repeats>_<caption> repeat their pictures and caption them"
    )
    captions: Literal["sidecar", "filename"] = Field(
        "sidecar", description="sidecar: from the files beside, else the file's name; filename: always the file's name"
    )
    caption_lines: Literal["first", "choose"] = Field(
        "first", description="of a caption with several lines: the first, or all, for ChooseLine to choose from"
    )
    ignore_settings: tuple[ItemSetting, ...] = Field(
        (), description="settings of the files beside pictures to leave out, such as cond_dropout"
    )
    max_tokens: NonNegativeInt = Field(
        0,
        description="tokens of a caption that are read; 0: as many as the model was made for; CLIP reads 75 at a time",
    )
    resolution: OneOrMore = Field(
        (512,), description="pictures are trained at about resolution x resolution pixels; several take turns"
    )
    max_aspect: float = Field(2.0, ge=1.0, description="longest bucket side over shortest; 1 trains squares only")
    no_upscale: bool = Field(False, description="never enlarge: a small picture gets a bucket of its own size")
    crop: Literal["centre", "random", "jitter"] = Field(
        "centre", description="which part of a picture its bucket shows; jitter is random, near the centre"
    )
    flip_p: float = Field(0.0, ge=0, le=1, description="probability that a picture is mirrored")
    variations: NonNegativeInt = Field(
        0, description="random crops and flips repeat after this many, which caches can hold; 0: they never do"
    )
    masks: Literal["none", "alpha", "sidecar"] = Field(
        "none", description="where the loss counts: everywhere, where a picture is opaque, or by name.mask.png"
    )
    transparent: str = Field("white", description="colour behind transparent pictures")
    decode: Literal["scaled", "full"] = Field(
        "scaled", description="scaled: large pictures are decoded at a fraction of their size; full: plugins see all"
    )
    short_batches: Literal["keep", "fill"] = Field(
        "keep", description="a bucket's last batch: keep it short, or fill it with copies that share their weight"
    )
    check: Literal["decode", "headers"] = Field(
        "decode", description="decode every new file once before training, or trust its header"
    )
    on_bad: Literal["skip", "stop"] = Field(
        "skip", description="a file that cannot be used: skip it, and let another stand in for it, or stop at the first"
    )
    max_bad_fraction: float = Field(0.1, ge=0, le=1, description="stop when more of the files than this are unreadable")
    workers: NonNegativeInt = Field(1, description="loader processes; 0 loads in the training process")
    prefetch: PositiveInt = Field(2, description="batches each worker keeps ready")
    start_method: Literal["forkserver", "spawn"] = Field("forkserver", description="how workers are started")
    timeout_seconds: NonNegativeInt = Field(120, description="a worker that takes longer for a batch is an error")

    @property
    def roots(self) -> tuple[Path, ...]:
        return self.root if isinstance(self.root, tuple) else (self.root,)

    @property
    def most_bad(self) -> float:
        """The share of files that may be bad."""
        return 0.0 if self.on_bad == "stop" else self.max_bad_fraction

    @property
    def bad_key(self) -> str:
        """The key that says so, with its value."""
        return "data.on_bad = 'stop'" if self.on_bad == "stop" else f"data.max_bad_fraction = {self.max_bad_fraction}"


class ValidationTable(Table):
    fraction: float = Field(0.0, ge=0, lt=1, description="share of the items to hold out from training")
    sets: dict[Annotated[str, Field(pattern=NAME)], Path] = Field(
        default_factory=dict, description="further sets by name, each a folder or list as data.root"
    )
    every_steps: NonNegativeInt = Field(250, description="measure the loss on them; 0: only at the end")
    at_start: bool = Field(True, description="measure before the first step too")
    repeats: PositiveInt = Field(1, description="noises and timesteps an item is measured with, always the same")


class CacheTable(Table):
    dir: Path = Field(Path("cache"), description="folder of caches, which runs share")
    latents: bool = Field(False, description="encode pictures once and train from their latents")
    text: bool = Field(False, description="encode captions once; needs text encoders that are not trained")
    offload: bool = Field(True, description="encoders leave the device while caches make them idle")


class ParameterRule(Table):
    """A `[[train.parameters]]` table."""

    match: str = Field(
        min_length=1, description="glob over names such as unet.down_blocks.0.*, with or without the module"
    )
    lr: PositiveFloat | None = Field(None, description="peak learning rate of these parameters")
    weight_decay: NonNegativeFloat | None = Field(None, description="of these parameters")
    freeze: bool | None = Field(None, description="true leaves them as they are; false trains them after all")


class TrainTable(Table):
    steps: PositiveInt = Field(1000, description="optimizer steps in all")
    batch_size: PositiveInt = Field(4, description="pictures a forward pass")
    accumulate: PositiveInt = Field(1, description="forward passes an optimizer step")
    optimizer: DottedPath = Field("torch.optim.AdamW", description="class of the optimizer")
    optimizer_options: dict[str, Any] = Field(
        default_factory=dict, description="further arguments of the optimizer, such as betas"
    )
    learning_rate: PositiveFloat = Field(1e-5, description="peak learning rate")
    text_encoder_learning_rate: PositiveFloat | None = Field(
        None, description="for trained text encoders; learning_rate when left out"
    )
    weight_decay: NonNegativeFloat = Field(0.01, description="decoupled weight decay")
    parameters: tuple[ParameterRule, ...] = Field(
        (), description="rates and freezing by name: [[train.parameters]] tables, of which the last that matches counts"
    )
    schedule: Literal["constant", "linear", "cosine", "polynomial"] = Field(
        "constant", description="how the rate falls after warm-up"
    )
    cycles: PositiveInt = Field(1, description="how often the cosine falls, each time from the peak")
    power: PositiveFloat = Field(1.0, description="of the polynomial")
    warmup_steps: NonNegativeInt = Field(0, description="steps over which the rate rises from 0")
    decay_from: float = Field(0.0, ge=0, lt=1, description="share of the steps before the rate begins to fall")
    final_factor: float = Field(0.0, ge=0, le=1, description="share of the peak rate at the last step")
    clip_norm: NonNegativeFloat = Field(1.0, description="largest norm of all gradients together; 0 does not clip")
    precision: Dtype = Field("fp32", description="of the forward pass; weights stay float32; fp16 scales gradients")
    tf32: bool = Field(True, description="on CUDA, matrix products of float32 with 10 bits of mantissa")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda where there is one")
    threads: NonNegativeInt = Field(0, description="CPU threads of the training process; 0 leaves torch's choice")
    compile: bool = Field(False, description="torch.compile the denoiser and the loss")
    channels_last: bool = Field(False, description="convolutions keep channels innermost, which suits tensor cores")
    fused_backward: bool = Field(
        False, description="update each weight as soon as its gradient is known, which is then given back"
    )
    gradient_checkpointing: bool = Field(False, description="less memory for about a quarter more time")
    on_nonfinite: Literal["skip", "stop", "rewind"] = Field(
        "skip", description="a NaN or infinite loss or gradient never touches weights; then go on, stop, or go back"
    )
    max_skipped: PositiveInt = Field(
        5, description="skipped steps in a row after which the run stops, or goes back to its last checkpoint"
    )


class CheckpointTable(Table):
    every_steps: NonNegativeInt = Field(500, description="save everything that resuming needs; 0: only at the end")
    keep: PositiveInt = Field(2, description="newest checkpoints to keep; older ones go after a new one is complete")
    keep_every_steps: NonNegativeInt = Field(0, description="those at a multiple of this stay for good; 0: none do")
    on_failure: Literal["retry", "pause", "stop"] = Field(
        "retry",
        description="when a disk is full or fails: train on and try again, wait until it can be saved, or stop",
    )


class PreviewTable(Table):
    every_steps: NonNegativeInt = Field(250, description="render the prompts; 0: never in between")
    at_start: bool = Field(True, description="render before the first step too")
    at_end: bool = Field(True, description="render after the last step too")
    prompts: Path | None = Field(
        None, description="file of prompts, .toml or .txt, read anew each time; else training captions"
    )
    count: PositiveInt = Field(8, description="how many training captions stand in when there is no prompts file")
    steps: PositiveInt = Field(25, description="denoising steps")
    guidance: Scales = Field(
        (7.0,), description="classifier-free guidance scale, 1 or less switches it off; several are shown side by side"
    )
    scheduler: str = Field(
        "", description="diffusers class that samples, such as EulerDiscreteScheduler; or the family's"
    )
    seed: NonNegativeInt = Field(0, description="of the first picture's noise; the next has the next")
    batch_size: PositiveInt = Field(4, description="pictures rendered at once")


class ExportTable(Table):
    at_end: bool = Field(True, description="write a diffusers folder when the run is complete")
    every_steps: NonNegativeInt = Field(0, description="write one in between too; 0: never")
    dtype: Dtype = Field("fp16", description="of the exported weights")
    model: bool = Field(True, description="the whole model; false leaves what plugins write, such as adapters")
    single_file: bool = Field(False, description="also write all weights as one file in the original layout")


class LogTable(Table):
    every_steps: PositiveInt = Field(10, description="steps a report of loss, gradient norm and rates covers")
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="of the terminal; log.jsonl has all"
    )
    time_plugins: bool = Field(True, description="sum each handler's time and name slow ones")
    slow_step_seconds: PositiveFloat = Field(0.5, description="a handler that takes longer within a step is named")
    slow_epoch_seconds: PositiveFloat = Field(5.0, description="likewise for epoch and checkpoint handlers")
    slow_run_seconds: PositiveFloat = Field(20.0, description="likewise for handlers of the whole run and previews")
    hang_seconds: NonNegativeFloat = Field(
        60.0, description="the stack of a handler that takes longer is logged; 0: never; needs time_plugins"
    )
    hang_limit_seconds: NonNegativeFloat = Field(
        1800.0, description="a handler that takes longer is broken off and has failed; 0: never; needs time_plugins"
    )
    guard_plugins: bool = Field(
        True, description="look at what some calls of each handler leave behind: global randomness, modes, memory"
    )

    @property
    def slow_seconds(self) -> dict[str, float]:
        """By a signal's pace."""
        return {"step": self.slow_step_seconds, "epoch": self.slow_epoch_seconds, "run": self.slow_run_seconds}


class PluginEntry(BaseModel):
    """A `[[plugins]]` table; keys beyond these are the plugin's own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: Annotated[str, Field(pattern=PLUGIN_PATH)] = Field(
        description="the plugin's class, package.module.Class, or the name that an installed package gives it"
    )
    name: Annotated[str, Field(pattern=OPTIONAL_NAME)] = Field(
        "", description="unique name in the run; the class's name when left out"
    )
    priority: int | dict[str, int] | None = Field(
        None, description="for all its handlers, or by signal; low runs first"
    )
    on_error: OnError | None = Field(None, description="what a failing look-on handler does to the run")
    variations: PositiveInt | None = Field(
        None, description="its random changes to samples repeat after this many, which caches can hold"
    )
    enabled: bool = Field(True, description="false leaves the plugin out")

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class DistributedTable(Table):
    strategy: Literal["ddp", "fsdp", "deepspeed"] = Field(
        "ddp",
        description="with several processes: ddp keeps the whole model in each; fsdp and deepspeed divide it among them",
    )
    timeout_seconds: PositiveFloat = Field(
        600.0, description="how long a process waits in a step for the others before the one that hangs is named"
    )
    wait_seconds: PositiveFloat = Field(
        7200.0, description="likewise for one that encodes for a cache, renders, saves or exports"
    )
    wrap: tuple[str, ...] = Field(
        (), description="fsdp: classes of the layers that are divided one by one; left out: those the model repeats"
    )
    reshard_after_forward: bool = Field(
        True, description="fsdp: give a layer's weights back after its forward pass, for less memory and more messages"
    )
    offload: bool = Field(False, description="fsdp, deepspeed: keep divided weights and optimizer state on the CPU")
    zero_stage: Literal[1, 2, 3] = Field(
        2, description="deepspeed: divide optimizer state (1), gradients too (2); 3 is not offered, use fsdp"
    )


class Config(Table):
    """A whole config.toml."""

    run: RunTable = Field(default_factory=RunTable, description="its name, place and seed")
    model: ModelTable = Field(description="what is trained")
    data: DataTable = Field(description="pictures and captions")
    validation: ValidationTable = Field(
        default_factory=ValidationTable, description="what the loss is measured on beside training"
    )
    cache: CacheTable = Field(default_factory=CacheTable, description="what is encoded once and kept")
    train: TrainTable = Field(default_factory=TrainTable, description="steps, optimizer and precision")
    checkpoint: CheckpointTable = Field(default_factory=CheckpointTable, description="what a run goes on from")
    preview: PreviewTable = Field(
        default_factory=PreviewTable, description="pictures that are rendered while it trains"
    )
    export: ExportTable = Field(default_factory=ExportTable, description="the trained model as others load it")
    distributed: DistributedTable = Field(
        default_factory=DistributedTable, description="several processes, started by --processes N or accelerate launch"
    )
    log: LogTable = Field(default_factory=LogTable, description="what is told, and watch over plugins")
    plugins: tuple[PluginEntry, ...] = Field(
        (), description="plugins in order: class paths, or tables with `use` and settings"
    )

    @field_validator("plugins", mode="before")
    @classmethod
    def _spell_out(cls, entries: Any) -> Any:
        """The short form, a class path alone, as a table."""
        if not isinstance(entries, list | tuple):
            return entries
        return [{"use": entry} if isinstance(entry, str) else entry for entry in entries]


BuildPlugins = Callable[[Sequence[PluginTable], Path], list[tuple[Plugin, PluginTable]]]


@dataclass(frozen=True, slots=True)
class PluginSource:
    """All that a process needs to build the run's plugins, here or in a loader worker."""

    build: BuildPlugins
    """A module-level function that the composition root hands in, since the core knows no plugins."""
    tables: tuple[PluginTable, ...]
    folder: Path
    """The config's, where plugin modules may lie."""
