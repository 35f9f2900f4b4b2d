"""What the processes of a run say to each other, counted between steps: a plugin for each of them, and what it has found.

It wraps torch's exchanges and store in its own process. On Linux it also asks the system how many bytes each connection has
sent, so that nothing passes uncounted: neither what torch sends without Python, nor what another library does.
"""

import json
import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from events import Plugin, PluginSettings, on
from events.payloads import ModelReady, RunStart, StepEnd

COLLECTIVES = (
    "all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "all_to_all", "all_to_all_single",
    "barrier", "batch_isend_irecv", "broadcast", "broadcast_object_list", "gather", "gather_object", "irecv", "isend",
    "monitored_barrier", "recv", "reduce", "reduce_scatter", "reduce_scatter_tensor", "scatter", "scatter_object_list",
    "send", "_broadcast_coalesced",
)  # fmt: skip
"""Of torch.distributed; the last is how DDP sends buffers."""
STORE = ("set", "get", "add", "check", "compare_set", "delete_key", "wait", "append", "multi_get", "multi_set")
OURS, THEIRS, KEYS = "ours", "accelerate", "store"
"""Ways: the trainer's own group, the group that accelerate has made, and the store of the launcher."""
OVERRIDES = (
    "train.steps=26", "train.batch_size=2", "log.every_steps=5", "checkpoint.every_steps=8", "validation.every_steps=13",
    "validation.fraction=0.2", "validation.at_start=false", "preview.every_steps=18",
)  # fmt: skip
"""For a run of ten pictures that are shown REPEATS times, in which no step is of two kinds."""
REPEATS, ASK_AT = 9, 21
NOTHING = "a step that neither logs nor saves"
KINDS = {
    NOTHING: (3,), "a step that logs": (5,), "a step that logs while a checkpoint is written": (10,),
    "a checkpoint": (8,), "a validation": (13,), "a preview": (18,), "the end of an epoch": (14,),
    "a request between these, and the meeting that it leads to": (ASK_AT, ASK_AT + 1),
}  # fmt: skip
"""Of boundaries, and the steps behind which one lies."""
DUE = {step for kind, steps in KINDS.items() if kind != NOTHING for step in steps} | {
    *range(0, 26, 5),
    *range(0, 26, 8),
}
QUIET_STEPS = tuple(step for step in range(1, 26) if step not in DUE)
"""All behind which nothing is due."""
SENT_AT, SENT = 200, struct.Struct("<QQ")
"""Where tcpi_bytes_sent lies in the answer to TCP_INFO, tcp(7), and behind it what was sent once more, tcpi_bytes_retrans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """From the end of a step to the end of the next: the boundary behind it, and the next step's forward and backward."""

    step: int
    calls: Mapping[str, int]
    """By way and name, such as `ours all_gather`."""
    sent: Mapping[str, int]
    """Bytes by way; empty where the system does not tell."""

    def calls_of(self, *ways: str) -> int:
        return sum(count for name, count in self.calls.items() if name.partition(" ")[0] in ways)

    def sent_by(self, *ways: str) -> int:
        return sum(self.sent.get(way, 0) for way in ways)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """By one rank of a run."""

    gradient_bytes: int
    intervals: tuple[Interval, ...]
    connections: Mapping[str, int]
    """By way, at the end of the last step; empty where the system does not tell."""

    @classmethod
    def read(cls, path: Path) -> Self:
        tables = json.loads(path.read_text(encoding="utf-8"))
        intervals = tuple(Interval(**one) for one in tables["intervals"])
        return cls(
            gradient_bytes=tables["gradient_bytes"], intervals=intervals, connections=tables["connections"]
        )  # fmt: skip

    def after(self, step: int) -> Interval:
        """What was said between the end of this step and the end of the next."""
        return next(one for one in self.intervals if one.step == step)

    def at(self, kind: str) -> Interval:
        """What was said at a kind of boundary, over all the steps that it may take."""
        found = [self.after(step) for step in KINDS[kind]]
        calls, sent = Counter[str](), Counter[str]()
        for one in found:
            calls.update(one.calls)
            sent.update(one.sent)
        return Interval(step=found[0].step, calls=dict(calls), sent=dict(sent))


class Messages(Plugin):
    """Counts, and writes `rank-N.json` into its folder when the run is over."""

    class Settings(PluginSettings):
        folder: Path = Field(description="where the counts go")
        ask_at: int = Field(0, description="step after which the last rank asks for something; 0: none does")

    settings: Settings

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._calls: Counter[str] = Counter()
        self._own_groups: list[Any] = []
        self._own_sockets: set[int] = set()
        self._intervals: list[Interval] = []
        self._before: tuple[int, Counter[str], Counter[str]] | None = None
        self._gradient_bytes = 0
        self._connections: dict[str, int] = {}

    @on("run.start", ranks="all")
    def begin(self, event: RunStart) -> None:
        """Before accelerate and the trainer have made their groups, so that it can tell one from the other."""
        import torch.distributed as dist
        from torch.distributed import distributed_c10d

        for module in (dist, distributed_c10d):
            for name in COLLECTIVES:
                if hasattr(module, name):
                    setattr(module, name, self._counting(getattr(module, name), name))
        dist.new_group = self._labelling(dist.new_group)
        for name in STORE:
            setattr(dist.Store, name, self._counting(getattr(dist.Store, name), name, way=KEYS))

    @on("model.ready", ranks="all")
    def weigh(self, event: ModelReady) -> None:
        self._gradient_bytes = sum(weight.nbytes for group in event.groups for weight in group.parameters.values())

    @on("step.end", priority=99, ranks="all")
    def note(self, event: StepEnd) -> None:
        calls, sent = Counter(self._calls), self._sent()
        if self._before is not None:
            step, *before = self._before
            self._intervals.append(Interval(step=step, calls=dict(calls - before[0]), sent=dict(sent - before[1])))
        self._before = event.step, calls, sent
        if event.step == self.settings.ask_at and self.ranks.rank == self.ranks.count - 1:
            event.control.set("preview.every_steps", 0)

    def close(self) -> None:
        said = Said(
            gradient_bytes=self._gradient_bytes, intervals=tuple(self._intervals), connections=self._connections
        )  # fmt: skip
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        path = self.settings.folder / f"rank-{self.ranks.rank}.json"
        path.write_text(json.dumps(asdict(said), indent=1) + "\n", encoding="utf-8")

    def _counting(self, function: Callable[..., Any], name: str, *, way: str = "") -> Callable[..., Any]:
        @wraps(function)
        def counted(*given: Any, **named: Any) -> Any:
            own = any(one is named.get("group") for one in self._own_groups)
            self._calls[f"{way or (OURS if own else THEIRS)} {name}"] += 1
            return function(*given, **named)

        return counted

    def _labelling(self, new_group: Callable[..., Any]) -> Callable[..., Any]:
        """Remember the group that is made, and the connections that it brings."""

        @wraps(new_group)
        def labelled(*given: Any, **named: Any) -> Any:
            before = {number for number, _, _ in connections()}
            group = new_group(*given, **named)
            port = int(os.environ.get("MASTER_PORT", "0"))
            self._own_groups.append(group)
            self._own_sockets |= {number for number, to, _ in connections() if to != port and number not in before}
            return group

        return labelled

    def _sent(self) -> Counter[str]:
        port, sent, there = int(os.environ.get("MASTER_PORT", "0")), Counter[str](), Counter[str]()
        for number, to, count in connections():
            way = KEYS if to == port else OURS if number in self._own_sockets else THEIRS
            sent[way] += count
            there[way] += 1
        self._connections = dict(there)
        return sent


def connections() -> Iterator[tuple[int, int, int]]:
    """(inode, port that it leads to, bytes sent so far) of this process's TCP connections. Nothing but on Linux."""
    if sys.platform != "linux":
        return
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError, ValueError, struct.error):  # no socket, not connected, or closed meanwhile
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as copy:
                told = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SENT_AT + SENT.size)
                sent, again = SENT.unpack_from(told, SENT_AT)
                yield os.fstat(copy.fileno()).st_ino, copy.getpeername()[1], sent - again
