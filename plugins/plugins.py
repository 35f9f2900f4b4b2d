"""BasePlugin: plugins in the class style, which override a method for each hook they want and run as written.

    from plugins.plugins import BasePlugin

    class MyPlugin(BasePlugin):
        def on_epoch_end(self, **kwargs):
            print(f"hello world, this is a plugin at the end of epoch number: {kwargs['epoch']}")

A hook receives the keyword arguments that matter to it and no others; the TypedDicts below name them. Decorated
methods (`@on`, `@transform`, `@build`) work beside them.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from events import Plugin, PluginSettings
from events.attach import source_of
from events.errors import AttachError
from events.marks import Kind, Mark, marks_of
from events.payloads import (
    Batch,
    CheckpointSaved,
    EpochEnd,
    EpochStart,
    LiveState,
    ModelLoaded,
    RunEnd,
    RunInfo,
    RunStart,
    StepEnd,
    StepStart,
)  # fmt: skip
from events.plugin import Subscription
from events.ranks import On

if TYPE_CHECKING:
    from PIL import Image

SETTINGS_BY_OTHER_NAMES = {"grad_accum": "train.accumulate"}


class FolderArguments(TypedDict):
    project_name: str
    log_folder: str
    """The run's folder."""


class TrainingArguments(FolderArguments):
    global_step: int
    """Optimizer steps taken so far."""
    data_root: str
    """The first, where there are several."""


class TrainingEndArguments(TrainingArguments):
    reason: str
    """`complete`, or why the run was stopped."""


class HookArguments(FolderArguments):
    epoch: int
    """Counted from 0."""
    global_step: int
    """Optimizer steps taken; in the two step hooks the number of this step, from 1."""
    data_root: str
    arg_update_callback: Callable[[str, object], None]
    """Changes a setting of the running run: ``arg_update_callback("grad_accum", 4)``, or a dotted key of the config."""


class EpochArguments(HookArguments):
    epoch_length: int
    """Steps in the epoch."""


class StepArguments(EpochArguments):
    local_step: int
    """Within the epoch, counted from 0."""
    batch: Batch | None
    """The step's batch, the first of them when accumulating."""
    batches: tuple[Batch, ...]
    """One a round of accumulation."""
    live_state: LiveState
    """The modules and the optimizer; reading their values waits for the device."""


class LoadArguments(FolderArguments):
    """Beside these, every module and tokenizer that the model's family has, by name."""

    unet: Any
    text_encoder: Any
    vae: Any
    tokenizer: Any


class SaveArguments(FolderArguments):
    save_path: str
    global_step: int


class BasePlugin(Plugin):
    """Override any of these; what is not overridden is not subscribed and costs nothing."""

    runs_on: ClassVar[On | None] = None
    """Of several processes those that the methods which look on run on, `main` or `all`; None: as each signal has it, which
    is main for all but `on_model_load`."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        if settings is not None or not hasattr(self, "settings"):
            super().__init__(settings, name=name)

    def __init_subclass__(cls) -> None:
        """Let an author's ``__init__(self)`` be as short as that; its settings and name are there before it runs."""
        super().__init_subclass__()
        written = vars(cls).get("__init__")
        if written is None or len(inspect.signature(written).parameters) > 1:
            return

        @wraps(written)
        def initialise(self: BasePlugin, settings: PluginSettings | None = None, *, name: str = "") -> None:
            BasePlugin.__init__(self, settings, name=name)
            written(self)

        cls.__init__ = initialise  # type: ignore[method-assign]  # what this function is for

    def on_training_start(self, **kwargs: Any) -> None:
        """A run begins or resumes. TrainingArguments."""

    def on_training_end(self, **kwargs: Any) -> None:
        """The run is complete or was stopped, its checkpoint saved. TrainingEndArguments."""

    def on_epoch_start(self, **kwargs: Any) -> None:
        """EpochArguments."""

    def on_epoch_end(self, **kwargs: Any) -> None:
        """EpochArguments."""

    def on_step_start(self, **kwargs: Any) -> None:
        """The batches are on the device and the first forward is next. StepArguments."""

    def on_step_end(self, **kwargs: Any) -> None:
        """Weights have moved. StepArguments."""

    def on_model_load(self, **kwargs: Any) -> None:
        """The modules are as loaded, before adapters and freezing. LoadArguments."""

    def on_model_save(self, **kwargs: Any) -> Any:
        """A checkpoint is complete on disk; may be `async def`. SaveArguments."""

    def transform_caption(self, caption: str) -> str:
        """In a loader worker; a random draw is repeatable only with `@transform("sample.caption")` and its `rng`."""
        return caption

    def transform_pil_image(self, img: "Image.Image") -> "Image.Image":
        """In a loader worker: the picture, upright RGB, before crop and normalisation."""
        return img

    def subscriptions(self) -> Iterator[Subscription]:
        """The decorated methods, then the overridden hooks.

        Raises AttachError with file, line and remedy for each method that is no hook or cannot be called as one.
        """
        yield from super().subscriptions()
        written = [
            name for name in dir(type(self)) if name.startswith(("on_", "transform_")) and self._is_written(name)
        ]
        problems = [problem for name in written if (problem := self._problem_with(name)) is not None]
        if problems:
            raise AttachError(tuple(problems))
        for name in written:
            hook = HOOKS[name]
            ranks = self.runs_on if isinstance(hook, Look) else None
            yield Subscription(
                mark=Mark(kind=hook.kind, signal=hook.signal, ranks=ranks),
                method=hook.handler(self, getattr(self, name)),
                written=getattr(type(self), name),
                label=f"{type(self).__name__}.{name}",
            )

    def _is_written(self, name: str) -> bool:
        """Whether the author wrote this method without a decorator, which would count instead."""
        versions = [vars(kind)[name] for kind in type(self).__mro__ if name in vars(kind)]
        is_new = callable(getattr(type(self), name)) and versions[0] is not vars(BasePlugin).get(name)
        return is_new and not any(marks_of(version) for version in versions)

    def _problem_with(self, name: str) -> str | None:
        """Why a method is no hook, or cannot be called as one."""
        at = f"{source_of(getattr(type(self), name))}: {self.name}: {type(self).__name__}.{name}"
        if name not in HOOKS:
            near = get_close_matches(name, HOOKS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(HOOKS)}"
            return f"{at} is no hook, so it would never be called; {hint} (a helper's name begins with _)"
        positional, keywords = HOOKS[name].given
        try:
            inspect.signature(getattr(self, name)).bind(*positional, **dict.fromkeys(keywords))
        except TypeError as error:
            given = ", ".join((*positional, *(f"{keyword}=" for keyword in keywords)))
            hint = "; **kwargs takes what you leave out" if keywords else ""
            return f"{at} is called with ({given}): {error}{hint}"
        return None


@dataclass(frozen=True, slots=True)
class Look:
    """A hook that looks on, with keyword arguments made of the event."""

    signal: str
    arguments: Callable[[Any, Any], Mapping[str, Any]]
    """(plugin, event) -> keyword arguments."""
    named_by: Any
    """The TypedDict of the arguments."""
    kind: Kind = "notification"

    @property
    def given(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the positional and of the keyword arguments."""
        return (), tuple(self.named_by.__annotations__)

    def handler(self, plugin: BasePlugin, method: Callable[..., Any]) -> Callable[[Any], Any]:
        arguments = self.arguments
        return lambda event: method(**arguments(plugin, event))


@dataclass(frozen=True, slots=True)
class Change:
    """A hook that changes one value and is given nothing else."""

    signal: str
    value: str
    kind: Kind = "transform"

    @property
    def given(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (self.value,), ()

    def handler(self, plugin: BasePlugin, method: Callable[..., Any]) -> Callable[[Any, Any], Any]:
        return lambda value, context: method(value)


def _folders(run: RunInfo) -> FolderArguments:
    return {"project_name": run.name, "log_folder": str(run.folder)}


def _training_start(plugin: BasePlugin, event: RunStart) -> TrainingArguments:
    return {**_folders(event.run), "global_step": event.resumed_step, "data_root": event.run.data_roots[0]}


def _training_end(plugin: BasePlugin, event: RunEnd) -> TrainingEndArguments:
    return {
        **_folders(event.run),
        "global_step": event.step,
        "data_root": event.run.data_roots[0],
        "reason": event.reason,
    }


def _hook(plugin: BasePlugin, event: EpochStart | EpochEnd | StepStart | StepEnd) -> HookArguments:
    def arg_update_callback(name: str, value: object) -> None:
        event.control.set(SETTINGS_BY_OTHER_NAMES.get(name, name), value, asker=plugin.name)

    return {
        **_folders(event.run),
        "epoch": event.epoch,
        "global_step": event.step,
        "data_root": event.run.data_roots[0],
        "arg_update_callback": arg_update_callback,
    }


def _epoch(plugin: BasePlugin, event: EpochStart | EpochEnd | StepStart | StepEnd) -> EpochArguments:
    return {**_hook(plugin, event), "epoch_length": event.steps_in_epoch}


def _step(plugin: BasePlugin, event: StepStart | StepEnd) -> StepArguments:
    return {
        **_epoch(plugin, event),
        "local_step": event.step_in_epoch,
        "batch": next(iter(event.batches), None),
        "batches": event.batches,
        "live_state": event.live,
    }


def _model_load(plugin: BasePlugin, event: ModelLoaded) -> Mapping[str, Any]:
    tokenizers = {name.replace("text_encoder", "tokenizer"): one for name, one in event.tokenizers.items()}
    return {**event.modules, **tokenizers, **_folders(event.run)}


def _model_save(plugin: BasePlugin, event: CheckpointSaved) -> SaveArguments:
    return {**_folders(event.run), "save_path": str(event.path), "global_step": event.step}


HOOKS: Mapping[str, Look | Change] = {
    "on_training_start": Look("run.start", _training_start, TrainingArguments),
    "on_training_end": Look("run.end", _training_end, TrainingEndArguments),
    "on_epoch_start": Look("epoch.start", _epoch, EpochArguments),
    "on_epoch_end": Look("epoch.end", _epoch, EpochArguments),
    "on_step_start": Look("step.start", _step, StepArguments),
    "on_step_end": Look("step.end", _step, StepArguments),
    "on_model_load": Look("model.loaded", _model_load, LoadArguments),
    "on_model_save": Look("checkpoint.saved", _model_save, SaveArguments),
    "transform_caption": Change("sample.caption", "caption"),
    "transform_pil_image": Change("sample.image", "img"),
}
