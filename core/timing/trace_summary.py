"""The dearest operators of a profile, from the events of its trace in one pass; torch's own table takes a minute for many."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HOST, DEVICE = ("cpu_op", "user_annotation"), ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of events: what the host did, within each other, and what a GPU did, one after the other."""
ROWS = 40

Event = Mapping[str, Any]
"""As in a Chrome trace: `name`, `cat`, thread `tid`, begin `ts` and duration `dur` in microseconds."""


@dataclass(slots=True)
class Cost:
    calls: int = 0
    milliseconds: float = 0.0
    own_milliseconds: float = 0.0
    """Without what it called."""


def summary_lines(events: Sequence[Event]) -> Iterator[str]:
    """A table of the host's ranges and operators by their own time, and one of a GPU's kernels where there are any."""
    for head, categories in (("on the host", HOST), ("on the GPU", DEVICE)):
        of_these = [event for event in events if event.get("cat") in categories and "dur" in event]
        if of_these:
            yield f"{head} (own ms, ms with what it called, calls)"
        dearest = sorted(costs(of_these).items(), key=lambda entry: -entry[1].own_milliseconds)
        for name, cost in dearest[:ROWS]:
            yield f"{cost.own_milliseconds:12.3f} {cost.milliseconds:12.3f} {cost.calls:8d}  {name}"


def costs(events: Sequence[Event]) -> dict[str, Cost]:
    """By name; an event is within another of its thread that begins before it and ends after it."""
    found: dict[str, Cost] = defaultdict(Cost)
    around: dict[Any, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda each: (each["ts"], -each["dur"])):
        outer, milliseconds = around[event["tid"]], event["dur"] / 1000
        while outer and outer[-1]["ts"] + outer[-1]["dur"] <= event["ts"]:
            outer.pop()
        if outer:
            found[outer[-1]["name"]].own_milliseconds -= milliseconds
        outer.append(event)
        cost = found[event["name"]]
        cost.calls += 1
        cost.milliseconds += milliseconds
        cost.own_milliseconds += milliseconds
    return found
