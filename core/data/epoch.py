"""An epoch's plan as it is trained: the plan of the data, and what plugins make of it."""

from events.bus import Bus
from events.catalogue import EPOCH_PLAN
from events.payloads import PlanContext
from events.randomness import Streams

from ..config.tables import Config
from ..errors import DataError
from .plan import Plan, PlanSettings, plan_epoch, plan_problems
from .sets import DataSet


def make_plan(config: Config, bus: Bus, data: DataSet, seed: int, epoch: int, accumulate: int) -> Plan:
    """An epoch's plan after the `epoch.plan` handlers. Raises DataError for what no batch can be."""
    settings = PlanSettings(seed=seed, batch_size=config.train.batch_size, fill=config.data.short_batches == "fill")
    plan, signal = plan_epoch(data.items, data.geometry, settings, epoch, accumulate), bus[EPOCH_PLAN]
    if not signal.chain:
        return plan
    rng = Streams(seed, "epoch.plan", epoch, "plugins")
    context = PlanContext(epoch=epoch, items=data.items, batch_size=settings.batch_size, rng=rng)
    plan = Plan.of(signal.apply(plan.batches(), context))
    for problem in plan_problems(plan, data.geometry):
        raise DataError(f"after the epoch.plan plugins {problem}")
    return plan
