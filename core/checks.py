"""What `run.py check` looks at beyond the schema, without loading a model or training."""

from collections.abc import Iterator
from functools import partial

from events.bus import Bus

from .config import Config
from .data.scan import scan
from .data.sets import header_cache, require_readers
from .errors import ConfigError, TrainerError
from .families import find_family
from .optimisation import optimizer_problems
from .preview import read_prompts
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
    family, _ = find_family(config.model)
    return f"model     {config.model.path} (family {family}), training {', '.join(config.model.train)}"


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
    problems = optimizer_problems(config.train)
    if problems:
        raise ConfigError("config", problems)
    return f"optimizer {config.train.optimizer}"


def _prompts(config: Config) -> str:
    path = config.preview.prompts
    if path is None:
        return f"previews  of {config.preview.count} training captions"
    prompts = read_prompts(path, config.preview, max(config.data.resolution))
    return f"previews  of {len(prompts)} prompts in {path}"


def _run(config: Config) -> str:
    folder = find_run(config, fresh=False)
    at = f", at step {folder.checkpoint.step} of {config.train.steps}" if folder.checkpoint else ""
    return f"run       {folder.path} is {folder.status}{at}"
