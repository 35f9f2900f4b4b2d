"""`run.py check`: all that a start of training would refuse or fail on and that can be known before, told together.

Nothing is trained, and the model's weights are not read: its modules are made without values. Handlers of `run.configure`,
of the data and of the builds run as they would in training, on a few samples.
"""

from collections.abc import Iterator

from events.bus import Bus

from ..attached.checks import plugin_problems
from ..checkpoint.contents import Checkpoint
from ..config.tables import Config, PluginSource
from ..errors import ConfigError
from ..run_folder.folder import RunFolder, current_folder, find_run
from .data import look_at_data
from .findings import Findings
from .model import Built, look_at_model
from .places import look_at_disk, look_at_places
from .processes import look_at_processes
from .resuming import compare_data, compare_settings, compare_weights, try_states
from .settings import look_at_device, look_at_optimizer, look_at_previews, look_at_run


def check(config: Config, bus: Bus, plugins: PluginSource, *, processes: int = 1) -> Iterator[str]:
    """Yield a line for each thing that is in order; raises ConfigError with everything that is not.

    `config` is as `configure` of core/run/session.py returned it; so many `processes` would train.
    """
    found = Findings()
    found.problems += plugin_problems(bus)
    with found.looking():
        look_at_device(config)
    folder: RunFolder | None = None
    with found.looking():
        folder = find_run(config, fresh=False)
    try:
        with found.looking():
            _look(config, bus, plugins, folder, found, processes)
    finally:
        bus.close()
    if found.problems:
        raise ConfigError("check", list(dict.fromkeys(found.problems)))
    yield from found.lines


def problems_beside_plugins(config: Config, bus: Bus, plugins: PluginSource) -> list[str]:
    """What else is wrong with a config whose plugins cannot be made; `bus` and `plugins` have none.

    The model and what a run can go on from are not looked at, since plugins change them.
    """
    found = Findings()
    with found.looking():
        look_at_device(config)
    with found.looking(), look_at_data(config, config.model, bus, plugins, found):
        pass
    _look_at_settings(config, found)
    look_at_places(config, found)
    return found.problems


def _look(
    config: Config, bus: Bus, plugins: PluginSource, folder: RunFolder | None, found: Findings, processes: int
) -> None:
    """`folder` is None where its checkpoints cannot be used, which has been told."""
    goes_on = folder is not None and folder.status == "unfinished"
    checkpoint = folder.checkpoint if folder is not None and goes_on else None
    table = folder.model(config.model) if folder is not None and goes_on else config.model
    built: Built | None = None
    with found.looking():
        built = look_at_model(config, table, bus, found)
    with found.looking(), look_at_data(config, table, bus, plugins, found) as items:
        if checkpoint is not None:
            with found.looking():
                compare_data(checkpoint, items)
    _look_at_settings(config, found)
    with found.looking():
        look_at_processes(config, processes, built, found)
    look_at_places(config, found)
    if folder is not None:
        with found.looking():
            look_at_run(config, folder, found)
    if built is not None:
        look_at_disk(built.checkpoint_bytes, current_folder(config), found)
    if checkpoint is not None:
        _look_at_checkpoint(config, bus, checkpoint, built, found)


def _look_at_settings(config: Config, found: Findings) -> None:
    for look in (look_at_optimizer, look_at_previews):
        with found.looking():
            look(config, found)


def _look_at_checkpoint(config: Config, bus: Bus, checkpoint: Checkpoint, built: Built | None, found: Findings) -> None:
    """Whether a run can go on from it. A finished run does not, so it is not held against its checkpoint."""
    with found.looking():
        compare_settings(config, checkpoint, found)
    if built is not None:
        with found.looking():
            compare_weights(built.weights, checkpoint)
    with found.looking():
        try_states(bus, checkpoint, found)
