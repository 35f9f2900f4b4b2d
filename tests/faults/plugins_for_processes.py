"""A plugin that does to one of several processes what ends it, or what all of them suffer from, in one step of the run."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import DataError
from events import Plugin, PluginSettings, build, on, transform
from events.marks import Mark
from events.payloads import LossFunction, StepEnd, StepParts, StepStart
from events.plugin import Subscription
from events.spec import Kind

if TYPE_CHECKING:
    from torch import Tensor

LONG_SECONDS = 600


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def orphan() -> None:
    """End the launcher, whose child a rank is."""
    os.kill(os.getppid(), signal.SIGKILL)


def stop() -> None:
    """As a debugger or a full cgroup freezer does: the process is there and does nothing, whatever it is sent."""
    os.kill(os.getpid(), signal.SIGSTOP)


def sleep() -> None:
    time.sleep(LONG_SECONDS)


def hold_the_interpreter() -> None:
    """In C, with the interpreter's lock: no thread of the process runs, and no handler of a signal."""
    ctypes.PyDLL(None).sleep(LONG_SECONDS)


def wait_in_c() -> None:
    """In C without the lock, as a library waits for a device or a server; each signal only begins it anew."""
    until = time.monotonic() + LONG_SECONDS
    while time.monotonic() < until:
        ctypes.CDLL(None).sleep(LONG_SECONDS)


def fail() -> None:
    raise ValueError("broken on purpose")


def refuse() -> None:
    raise DataError("owl.png cannot be used on purpose")


def err() -> None:
    """As a bug of the trainer does."""
    raise TypeError("not the type that it was taken for")


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


DEEDS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None, "kill": kill, "orphan": orphan, "stop": stop, "sleep": sleep, "hold": hold_the_interpreter, "wait": wait_in_c,
    "raise": fail, "refuse": refuse, "err": err, "SIGTERM": ask_to_stop,
}  # fmt: skip


class Harm(Plugin):
    """In one step, on one rank, does one thing; once in the life of a run, since what has been done is noted in a file."""

    class Settings(PluginSettings):
        note: Path
        rank: int = 1
        does: str = "nothing"
        signal: str = "step.start"
        at: int = 4
        """The step, from 1."""

    def subscriptions(self) -> Iterator[Subscription]:
        yield from super().subscriptions()
        kind: Kind = "transform" if self.settings.signal == "batch.device" else "notification"
        name = "change" if kind == "transform" else "look_on"
        yield Subscription(
            mark=Mark(kind=kind, signal=self.settings.signal, ranks="all"), method=getattr(self, name),
            written=getattr(type(self), name), label=f"{type(self).__name__}.{name}",
        )  # fmt: skip

    def look_on(self, event: Any) -> None:
        self._act(getattr(event, "step", self.settings.at))

    def change(self, value: Any, context: Any) -> Any:
        self._act(context.step + 1)
        return value

    def _act(self, step: int) -> None:
        if step == self.settings.at and self.ranks.rank == self.settings.rank and note_once(self.settings.note):
            DEEDS[self.settings.does]()


class JournalOfAll(Plugin):
    """Keeps a digest of which samples were trained on in which step, by whichever rank."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._digest = ""

    @on("step.end", ranks="all", collective=True)
    def note(self, event: StepEnd) -> None:
        own = [[*map(str, key)] for batch in event.batches for key in zip(batch.sample_ids, batch.keys, strict=True)]
        used = [sample for rank in self.ranks.gather(own) for sample in rank]
        self._digest = sha256(f"{self._digest}{event.step}{used}".encode()).hexdigest()

    def state_dict(self) -> Mapping[str, Any]:
        return {"digest": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._digest = state["digest"]


class SpoilsConfig(Plugin):
    """Makes the config one that cannot be used, on every rank alike."""

    @transform("run.configure")
    def spoil(self, config: Any, context: Any) -> Any:
        return config.model_copy(update={"train": config.train.model_copy(update={"steps": -1})})


class Spoilt(Plugin):
    """Losses of one rank are not finite, from a step on."""

    class Settings(PluginSettings):
        rank: int = 1
        since: int = 4

    _step = 0

    @on("step.start", ranks="all")
    def remember(self, event: StepStart) -> None:
        self._step = event.step

    @build("loss")
    def spoil(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def spoilt(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Any) -> "Tensor":
            value = loss(prediction, target, t, batch)
            is_now = self.ranks.rank == self.settings.rank and self._step >= self.settings.since
            return value * float("nan") if is_now else value

        return spoilt


def note_once(note: Path) -> bool:
    """Write the time and the process into the file; False where it is there already."""
    try:
        descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    os.write(descriptor, f"{time.time()} {os.getpid()}".encode())
    os.close(descriptor)
    return True
