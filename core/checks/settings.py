"""Keys of the config that only a look at libraries, files or the run's folder can judge."""

from ..compute.device import require_device
from ..config.tables import Config
from ..errors import ConfigError
from ..families import load_data_side
from ..history.reading import is_locked
from ..preview.prompts import read_prompts, setting_problems
from ..run_folder.folder import RunFolder
from ..run_folder.lock import held_text
from ..step.fused_backward import fused_backward_problems
from ..step.optimizer import optimizer_problems
from .findings import Findings


def look_at_device(config: Config) -> None:
    require_device(config.train)


def look_at_optimizer(config: Config, found: Findings) -> None:
    problems = optimizer_problems(config.train) + fused_backward_problems(config.train)
    if problems:
        raise ConfigError("config", problems)
    found.say("optimizer", config.train.optimizer)


def look_at_previews(config: Config, found: Findings) -> None:
    settings, problems = config.preview, setting_problems(config.preview)
    line = f"of {settings.count} training captions"
    if settings.prompts is not None:
        try:
            multiple = load_data_side(config.model, config.data.max_tokens).pixel_multiple
        except ConfigError:  # what is wrong with the model is told beside
            multiple = 1
        try:
            prompts = read_prompts(settings.prompts, settings, max(config.data.resolution), multiple)
            line = f"of {len(prompts)} prompts in {settings.prompts}"
        except ConfigError as error:
            problems += [f"{settings.prompts}  {problem}" for problem in error.problems]
    if problems:
        raise ConfigError("previews", problems)
    found.say("previews", line)


def look_at_run(config: Config, folder: RunFolder, found: Findings) -> None:
    """Where the run stands, what was passed over, and whether another process has it."""
    at = f", at step {folder.checkpoint.step} of {config.train.steps}" if folder.checkpoint else ""
    found.say("run", f"{folder.path} is {folder.status}{at}")
    for damaged in folder.passed_over:
        found.say("", f"passed over, since it is damaged: {damaged}")
    if is_locked(folder.path):
        raise ConfigError("run", [held_text(folder.path)])
