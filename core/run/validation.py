"""The loss on pictures that are not trained on: always the same noises and timesteps, without augmentation or dropout.

Several processes measure the batches in turn, and each of them adds up the losses of all pictures in the order of
one process, so that the mean is the same number.
"""

import logging
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter

from torch import Tensor, nn

from events.bus import Bus
from events.catalogue import VALIDATION_END, VALIDATION_START
from events.payloads import Batch, RunInfo, ValidationEnd, ValidationStart

from ..compute.device import Device
from ..config.tables import Config
from ..data.loader import Loader
from ..data.plan import Plan, PlanSettings, plan_epoch
from ..data.sets import DataSet
from ..families import Family
from ..preview.previews import evaluating
from ..ranks.crew import ONE, Crew
from ..ranks.divided import Divided
from ..ranks.share import Share, shares
from ..step.closed import Step

log = logging.getLogger("signalbox.validation")


@dataclass(slots=True, kw_only=True)
class Validation:
    """Measures every set when asked."""

    config: Config
    run: RunInfo
    bus: Bus
    family: Family
    device: Device
    step: Step
    sets: Mapping[str, DataSet]
    loaders: Mapping[str, Loader]
    crew: Crew = ONE
    lockstep: bool = False
    """Every forward is an exchange between ranks, as where weights are sharded: each rank then does as many."""
    history: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """By set, (step, loss) as measured so far."""

    def measure(self, step: int, epoch: int, reason: str) -> None:
        """Mean loss of each set, told by `validation.end`; waits for the device and the other ranks.

        Raises what goes wrong, and OtherRankError where it goes wrong on another rank.
        """
        if not self.sets:
            return
        begun, images = perf_counter(), {name: len(one.items) for name, one in self.sets.items()}
        losses: dict[str, float] = {}
        if self.bus[VALIDATION_START].chain:
            self.bus[VALIDATION_START].emit(ValidationStart(run=self.run, step=step, reason=reason, images=images))
        try:
            with evaluating(self.family.modules.values()):
                losses = {name: self._mean(name) for name in self.sets}
            for name, loss in losses.items():
                before = (measured for measured in self.history.get(name, ()) if measured[0] != step)
                self.history[name] = (*before, (step, loss))  # a run may go on from within a validation
        finally:
            seconds = perf_counter() - begun
            if self.bus[VALIDATION_END].chain:
                self.bus[VALIDATION_END].emit(
                    ValidationEnd(
                        run=self.run, step=step, epoch=epoch, losses=losses,
                        history=dict(self.history), seconds=seconds,
                    )
                )  # fmt: skip
        shown = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        log.info("validation at step %d: %s (%.1f s)", step, shown, seconds)

    def has_measured(self, step: int) -> bool:
        """Whether the sets, if there are any, have been measured at this step."""
        return all(any(at == step for at, _ in self.history.get(name, ())) for name in self.sets)

    def state(self) -> dict[str, list[list[float]]]:
        return {name: [list(measured) for measured in each] for name, each in self.history.items()}

    def load(self, state: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        self.history = {name: tuple((step, loss) for step, loss in each) for name, each in state.items()}

    def close(self) -> None:
        for loader in self.loaders.values():
            loader.close()

    def _mean(self, name: str) -> float:
        """Over images and repeats; sums are taken on the host in double precision, in the order of the plan."""
        plan, total, count = self._plan(name), 0.0, 0
        losses = self._measured(name, plan)
        for number, keys in enumerate(plan):
            for _ in range(self.config.validation.repeats):
                total += sum(islice(losses[number % self.crew.count], len(keys)))
                count += len(keys)
        return total / count

    def _measured(self, name: str, plan: Plan) -> list[Iterator[float]]:
        """The losses of each rank's batches, by rank. They are exchanged once all have measured, so none waits long then."""
        work, own = Divided(self.crew, f"validation on {name}", lockstep=self.lockstep), array("d")

        def measure() -> None:
            mine = list(self._share(plan))
            batches = self.device.ahead(self.loaders[name].batches(keys for share in mine for keys in share.keys))
            for share, batch in work.over(zip(mine, batches, strict=True)):
                for repeat in range(self.config.validation.repeats):
                    losses = self.step.measure(batch, repeat).tolist()
                    own.extend(() if share.is_stand_in(0) else losses)

        work.results(measure)
        return [iter(array("d", found)) for found in self.crew.gather_bytes(own.tobytes())]

    def _share(self, plan: Plan) -> Iterator[Share]:
        """This rank's batches of a plan; in lockstep as many as any has."""
        dealt = shares(plan, 0, self.crew.count, self.crew)
        return (share for share in dealt if self.lockstep or not share.is_stand_in(0))

    def _plan(self, name: str) -> Plan:
        """Every item once, whatever its settings say."""
        one = self.sets[name]
        settings = PlanSettings(seed=self.run.seed, batch_size=self.config.train.batch_size)
        return plan_epoch(one.items, one.geometry, settings, 0, once=True)


def measuring(step: Step, modules: Mapping[str, nn.Module]) -> Callable[[Batch, int], Tensor]:
    """What `LiveState.measure` is: the step's own measure, with every module in evaluation mode meanwhile."""

    def measure(batch: Batch, repeat: int) -> Tensor:
        with evaluating(modules.values()):
            return step.measure(batch, repeat)

    return measure
