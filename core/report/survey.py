"""The data of a run, found and planned as training does it, without the model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from events.bus import Bus
from events.payloads import RunInfo

from ..config.tables import Config, PluginSource
from ..data.epoch import make_plan
from ..data.maker import MakerSettings, SampleMaker
from ..data.plan import Plan
from ..data.sets import DataSets, find_sets, prepare_sets
from ..errors import DataError
from ..families import DataSide, load_data_side


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the run would train on."""

    config: Config
    bus: Bus
    """The training process's."""
    side: DataSide
    sets: DataSets
    maker: SampleMaker
    """Makes the samples that training shows, with a bus of its own as in a worker."""
    epoch: int
    plan: Plan
    """Of this epoch, after the `epoch.plan` plugins."""

    @property
    def steps_in_epoch(self) -> int:
        return -(-len(self.plan) // self.config.train.accumulate)

    def plan_of(self, epoch: int) -> Plan:
        """The plan of any epoch, as training makes it. Raises DataError when it has no batch."""
        return self.plan if epoch == self.epoch else _plan(self.config, self.bus, self.sets, epoch)


@contextmanager
def surveyed(config: Config, bus: Bus, plugins: PluginSource, epoch: int) -> Iterator[Survey]:
    """Find the data in a temporary folder, which also stands for the run's; its own folder is not touched.

    Raises DataError and ConfigError as training would.
    """
    with TemporaryDirectory(prefix="signalbox-", ignore_cleanup_errors=True) as name:
        folder, seed = Path(name), config.run.seed
        run = run_info(config, folder)
        found = find_sets(bus, run, config)
        side = load_data_side(config.model, config.data.max_tokens)
        sets = prepare_sets(found, side, config, bus, run, folder / "items")
        settings = MakerSettings(seed=seed, data=config.data, latent_scale=side.latent_scale)
        maker = SampleMaker(sets.training.items, sets.training.geometry, settings, plugins)
        try:
            plan = _plan(config, bus, sets, epoch)
            yield Survey(config=config, bus=bus, side=side, sets=sets, maker=maker, epoch=epoch, plan=plan)
        finally:
            maker.close()


def run_info(config: Config, folder: Path) -> RunInfo:
    """Of a run that is looked at and not trained."""
    roots = tuple(str(root) for root in config.data.roots)
    return RunInfo(
        name=config.run.name, folder=folder, seed=config.run.seed, steps=config.train.steps, data_roots=roots
    )


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, at even distances.

    >>> spread(3, 5), spread(10, 4)
    ([0, 1, 2], [0, 2, 5, 7])
    """
    if count <= most:
        return list(range(count))
    return [place * count // most for place in range(most)]


def _plan(config: Config, bus: Bus, sets: DataSets, epoch: int) -> Plan:
    plan = make_plan(config, bus, sets.training, config.run.seed, epoch, config.train.accumulate)
    if not plan:
        raise DataError(f"epoch {epoch} has no batch; every item has weight 0 or was dropped by a plugin")
    return plan
