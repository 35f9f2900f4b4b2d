"""What `run.py check` looks at beyond the schema, without loading a model or training."""

from collections.abc import Iterator
from functools import partial

from events.bus import Bus

from .config import Config
from .data.scan import scan
from .data.sets import header_cache, require_readers
from .errors import ConfigError, TrainerError
from .families import find_family, load_data_side, name_of, require_exportable, trained_modules
from .fused_backward import fused_backward_problems
from .optimisation import optimizer_problems
from .prompts import read_prompts, setting_problems
from .run_folder import find_run


def check(config: Config, bus: Bus) -> Iterator[str]:
    """Yield a line for each thing that is in order; raises ConfigError with everything that is not."""
    problems: list[str] = []
    lines: list[str] = []
    for look in (_model, partial(_data, bus=bus), _optimizer, _prompts, _run):
        try:
            lines.append(look(config))
        except ConfigError as error:
            problems += error.problems
        except (TrainerError, ValueError, OSError) as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("check", problems)
    yield from lines


def _model(config: Config) -> str:
    family = name_of(find_family(config.model))
    require_exportable(config.model, config.export)
    return f"model     {config.model.path} (family {family}), training {', '.join(trained_modules(config.model))}"


def _data(config: Config, bus: Bus) -> str:
    cache = header_cache(config)
    try:
        found = scan(config.data, cache)
    finally:
        cache.close()
    require_readers(found, bus)
    empty = sum(not item.caption for item in found.items)
    aside = "".join(f"\n          set aside: {problem}" for problem in found.problems)
    return f"data      {len(found.items)} pictures, {empty} without a caption, {len(found.problems)} set aside{aside}"


def _optimizer(config: Config) -> str:
    problems = optimizer_problems(config.train) + fused_backward_problems(config.train)
    if problems:
        raise ConfigError("config", problems)
    return f"optimizer {config.train.optimizer}"


def _prompts(config: Config) -> str:
    settings, problems = config.preview, setting_problems(config.preview)
    line = f"previews  of {settings.count} training captions"
    if settings.prompts is not None:
        try:
            multiple = load_data_side(config.model, config.data.max_tokens).pixel_multiple
        except ConfigError:  # `_model` tells what is wrong with it
            multiple = 1
        try:
            prompts = read_prompts(settings.prompts, settings, max(config.data.resolution), multiple)
            line = f"previews  of {len(prompts)} prompts in {settings.prompts}"
        except ConfigError as error:
            problems += [f"{settings.prompts}  {problem}" for problem in error.problems]
    if problems:
        raise ConfigError("previews", problems)
    return line


def _run(config: Config) -> str:
    folder = find_run(config, fresh=False)
    at = f", at step {folder.checkpoint.step} of {config.train.steps}" if folder.checkpoint else ""
    return f"run       {folder.path} is {folder.status}{at}"
