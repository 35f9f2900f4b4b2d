"""A look into the caches of a config without training: what it needs, what is there, what can go."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from events.bus import Bus
from events.control import Control
from events.payloads import RunInfo

from ..cache.prune import Orphans, find_orphans
from ..config.tables import Config, PluginSource
from ..run_folder.folder import RunFolder
from ..timing.spent import TimeSpent
from .assembly import Assembly


@contextmanager
def orphans_of(config: Config, bus: Bus, plugins: PluginSource) -> Generator[tuple[Orphans, ...], None, None]:
    """What each of the config's caches holds and the config does not need; loads the model to know its encoders."""
    with TemporaryDirectory() as folder:
        run = RunInfo(
            name=config.run.name, folder=Path(folder), seed=config.run.seed, steps=config.train.steps,
            data_roots=tuple(str(root) for root in config.data.roots),
        )  # fmt: skip
        assembly = Assembly(
            config=config, run=run, bus=bus, control=Control(), plugins=plugins, trace=None,
            folder=RunFolder(path=run.folder, status="new", checkpoint=None), spent=TimeSpent(bus),
        )  # fmt: skip
        try:
            yield tuple(find_orphans(assembly.open_caches(assembly.find_data())))
        finally:
            assembly.close()


def orphan_lines(orphans: Orphans) -> Iterator[str]:
    """A cache in words."""
    count = len(orphans.keys)
    yield f"{orphans.path}: {orphans.reused} needed and there, {orphans.missing} to encode, {count} orphaned"
    for reason, number in sorted(orphans.by_reason.items(), key=lambda entry: -entry[1]):
        yield f"  {number:6d}  {reason}"
    if count:
        yield f"  {orphans.held_bytes / 1e6:.1f} MB can be given back; another config that uses this folder may need them"
