"""A step that is taken with care: once more when memory ran out in it, and with a name on what a plugin did wrong."""

import logging
import traceback
from dataclasses import dataclass

import torch

from events.bus import Bus
from events.errors import PluginError

from ..compute.device import Device
from ..config.tables import Config
from ..errors import OutOfMemoryError, TrainerError
from .blame import plugin_error
from .closed import Rounds, Step
from .memory import give_back, is_out_of_memory, said_of, too_large

log = logging.getLogger("signalbox.train")


@dataclass(slots=True, kw_only=True)
class CarefulStep:
    """Around the closed step of one run."""

    config: Config
    bus: Bus
    device: Device
    step: Step

    def take(self, rounds: Rounds, steps_taken: int) -> dict[str, float]:
        """The step's learning rates by group.

        A step in which memory ran out before any weight moved is taken once more: its draws follow from its place, so it
        is the same. With several processes it is not, since the others have had its gradients in part. Raises OutOfMemoryError when that does not help, PluginError for what a plugin's function raised.
        """
        try:
            return self._take(rounds, steps_taken)
        except (Exception, SystemExit) as error:
            if not is_out_of_memory(error):
                raise
            if self.device.ranks.are_several:
                raise OutOfMemoryError(too_large(rounds.batches, self.config, steps_taken + 1, error)) from error
            said = said_of(error)
            self._let_go(error)
        log.warning(
            "memory ran out in step %d (%s); its gradients were dropped and it is taken once more",
            steps_taken + 1,
            said,
        )
        try:
            return self._take(rounds, steps_taken)
        except (Exception, SystemExit) as error:
            if not is_out_of_memory(error):
                raise
            self._let_go(error)
            raise OutOfMemoryError(too_large(rounds.batches, self.config, steps_taken + 1, error)) from error

    def _take(self, rounds: Rounds, steps_taken: int) -> dict[str, float]:
        torch.set_grad_enabled(True)  # a handler may have left it off
        try:
            with self.bus.closed():
                return self.step.take(rounds, steps_taken)
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error):
                if self.step.is_torn:
                    raise OutOfMemoryError(torn_text(steps_taken + 1, error)) from error
                raise
            if isinstance(error, PluginError | TrainerError):
                raise
            blamed = plugin_error(error, self.bus, steps_taken + 1)
            if blamed is None:
                raise
            raise blamed from error

    def _let_go(self, error: BaseException) -> None:
        """Of all that the step has made; the frames of the error hold most of it."""
        traceback.clear_frames(error.__traceback__)
        self.step.drop_gradients()
        give_back(self.device.device)


def torn_text(step: int, error: BaseException) -> str:
    return (
        f"memory ran out in step {step} after the first weight had been written, so it can be neither repeated nor saved;"
        " the last checkpoint stands. Lower train.batch_size or data.resolution, or leave out what takes memory as weights"
        f" are updated. What was said: {said_of(error)}"
    )
