"""A model's own scheduler: loaded as the stock pipeline would, and the noise schedule that it is trained on."""

from collections.abc import Sequence
from typing import Any

from ...compute.noise_schedule import DiscreteSchedule, FlowSchedule
from ...errors import ConfigError
from .folder import ModelFolder
from .weights import reading

FOLDER = "scheduler"


def load_scheduler(folder: ModelFolder, predictions: Sequence[str], prediction: str = "auto") -> Any:
    """The scheduler of the class that the index names; `prediction` other than auto stands over its own.

    Raises ConfigError for one that diffusers does not know, and for one that predicts none of `predictions`.
    """
    import diffusers

    name = folder.index().get(FOLDER, [None, None])[1]
    kind: Any = getattr(diffusers, str(name), None)
    is_scheduler = isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)
    if not is_scheduler:
        raise ConfigError(
            "model", [f"{folder.key}  {folder.path}/model_index.json names the scheduler {name}, unknown to diffusers"]
        )
    changed = {} if prediction == "auto" else {"prediction_type": prediction}
    with reading(folder.path / FOLDER):
        scheduler = kind.from_pretrained(folder.path / FOLDER, local_files_only=True, **changed)
    found = prediction_of(scheduler)
    if found not in predictions:
        said = f"{name} predicting {found}" if found else name
        raise ConfigError(
            "model", [f"{folder.key}  {folder.path}/{FOLDER} is a {said}; trained are {', '.join(predictions)}"]
        )
    if changed and found != prediction:
        raise ConfigError("model", [f"model.prediction  {prediction!r}, but {folder.path} is a flow; leave it auto"])
    return scheduler


def prediction_of(scheduler: Any) -> str:
    """What a model with this scheduler predicts; empty where no schedule here can be made of it."""
    if is_flow(scheduler):
        return "flow"
    return str(scheduler.config.get("prediction_type", "")) if hasattr(scheduler, "alphas_cumprod") else ""


def is_flow(scheduler: Any) -> bool:
    """Whether it mixes signal and noise along a straight line."""
    config = scheduler.config
    return (
        type(scheduler).__name__.startswith("FlowMatch")
        or config.get("prediction_type") == "flow_prediction"
        or bool(config.get("use_flow_sigmas"))
    )


def schedule_of(scheduler: Any) -> DiscreteSchedule | FlowSchedule:
    """What is trained on: of a scheduler's config, by the class that knows every setting of it, the zero-terminal rescale too."""
    from diffusers import DDPMScheduler

    if is_flow(scheduler):
        return FlowSchedule(timesteps=scheduler.config.num_train_timesteps)
    training = DDPMScheduler.from_config(scheduler.config)
    return DiscreteSchedule(training.alphas_cumprod.float(), training.config.prediction_type)


def sampler_of(scheduler: Any, name: str, **settings: Any) -> Any:
    """A fresh scheduler over the same noise schedule, of the diffusers class `name` or of the model's own."""
    import diffusers

    kind = getattr(diffusers, name) if name else type(scheduler)
    return kind.from_config(scheduler.config, **settings)
