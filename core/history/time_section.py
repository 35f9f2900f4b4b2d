"""Where the time of a run went, and the plan with what each handler took of it."""

from collections.abc import Iterator

from ..pages.document import Block, Section, Shares, Table
from .facts import Handler, HandlerTime, PlannedSignal, Session
from .reading import RunHistory
from .words import duration

SMALL_SHARE = 0.005
"""Of the whole, below which a kind of time is not shown."""
MOST_PLUGINS = 12
PLAN = ("signal", "plugin", "handler", "priority", "calls", "seconds", "slowest ms", "where it is written")


def time_section(session: Session) -> Section:
    """The wall time of the newest session by kind, and by plugin what training waited for."""
    whole = sum(session.seconds.values())
    kinds = sorted(session.seconds.items(), key=lambda entry: -entry[1])
    shown = tuple((kind, spent, _share(spent, whole)) for kind, spent in kinds if spent >= SMALL_SHARE * whole)
    after = f", which began at step {session.first_step:,}" if session.first_step else ""
    blocks: list[Block] = [
        f"{duration(whole)} in all, from start to end of the newest session{after}.", Shares(title="", rows=shown)
    ]  # fmt: skip
    for where, title in (("training", "Plugins, while training waits"), ("worker", "Plugins, where samples are made")):
        if rows := tuple(_by_plugin(session, where)):
            blocks.append(Shares(title=title, rows=rows))
    return Section(title="Where the time went", blocks=tuple(blocks))


def plan_section(history: RunHistory) -> Section:
    """Every handler in the order in which it is called, with what it took."""
    times = {}
    if history.session is not None:
        times = {(one.plugin, one.signal, one.handler): one for one in history.session.times}
    rows = tuple(row for signal in history.plan.signals for row in _rows(signal, times))
    return Section(
        title="The plan",
        blocks=(Table(columns=PLAN, rows=rows, whole=True),) if rows else ("No plugin handles anything.",),
    )


def _rows(
    signal: PlannedSignal, times: dict[tuple[str, str, str], HandlerTime]
) -> Iterator[tuple[str | int | float, ...]]:
    for number, handler in enumerate(signal.handlers):
        yield (
            "" if number else signal.name, handler.plugin, _name_of(handler, signal), handler.priority,
            *_cost(handler, times.get((handler.plugin, signal.name, handler.handler))), handler.source,
        )  # fmt: skip


def _name_of(handler: Handler, signal: PlannedSignal) -> str:
    """The method; one that looks on runs on the main rank alone, unless it says otherwise."""
    on_all = signal.kind == "notification" and handler.ranks == "all"
    return (handler.handler.partition(".")[2] or handler.handler) + ", on all ranks" * on_all


def _cost(handler: Handler, time: HandlerTime | None) -> tuple[int | str, float | str, float | str]:
    """Calls, seconds, and milliseconds of the slowest; empty where it was not called, or nobody measured."""
    if time is None:
        return "", "", ""
    return time.calls, round(time.seconds, 3), round(1000 * time.slowest_seconds, 2)


def _by_plugin(session: Session, where: str) -> Iterator[tuple[str, float, str]]:
    taken: dict[str, float] = {}
    for one in session.times:
        if one.where == where:
            taken[one.plugin] = taken.get(one.plugin, 0.0) + one.seconds
    for plugin, seconds in sorted(taken.items(), key=lambda entry: -entry[1])[:MOST_PLUGINS]:
        yield plugin, seconds, f"{seconds:,.2f} s"


def _share(spent: float, whole: float) -> str:
    return f"{duration(spent)} · {100 * spent / (whole or 1):.0f} %"
