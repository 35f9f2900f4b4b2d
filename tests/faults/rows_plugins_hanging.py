"""Rows about handlers that do not come to an end, in the training process and in the background."""

from datetime import datetime
from functools import partial

from .bench import EMA, JOURNAL, Bench, Ended, Workspace, digest
from .plugin_trials import PARTS, Trials, mend, reference, same, spread, workspace_for
from .rows import row

HANG = ("log.hang_seconds=0.5", "log.hang_limit_seconds=1.5")
HANGS = {
    "computes": ("step.end", "compute"),
    "sleeps": ("epoch.start", "sleep"),
    "reads a pipe": ("checkpoint.start", "pipe"),
    "reads a socket": ("batch.device", "socket"),
    "waits for a lock": ("metrics.record", "lock"),
    "waits in C": ("step.start", "c"),
    "swallows every Exception": ("sample.caption", "swallow"),
}


def hangs(signal: str, does: str, bench: Bench) -> None:
    work = workspace_for(bench, signal, f'does = "{does}"', "at = 2", "again = false")
    ended = bench.train(work, *HANG)
    assert ended.code == 6, ended.output
    assert "plugin Misbehaving hangs: Misbehaving." in ended.output, ended.output
    assert "plugins_for_misbehaviour.py" in ended.output.partition("the training thread is here:")[2], ended.output
    assert "HandlerHung: it had not ended after 1.5 s (log.hang_limit_seconds)" in ended.output, ended.output
    assert seconds_between(work, "hangs", "the run ends with an error") <= 1.0 + 1.0
    again = bench.train(work, inject=mend)
    assert again.code == 0, again.output
    same(digest(work), reference(bench), again)


def hangs_and_is_borne(bench: Bench) -> None:
    work = workspace_for(bench, "step.end", 'does = "sleep"', "at = 2", "again = false", 'on_error = "warn"')
    ended = bench.train(work, *HANG)
    assert ended.code == 0, ended.output
    assert work.said("HandlerHung"), ended.output
    same(digest(work), reference(bench), ended)


def is_slow_and_told(bench: Bench) -> None:
    """Without a limit the stack is told and the run waits for the handler."""
    work = workspace_for(bench, "step.end", 'does = "slow"', "at = 2", "again = false")
    ended = bench.train(work, "log.hang_seconds=0.3", "log.hang_limit_seconds=0")
    assert ended.code == 0, ended.output
    assert sum("hangs: Misbehaving.look_on" in str(line["event"]) for line in work.log) == 1
    same(digest(work), reference(bench), ended)


def seconds_between(work: Workspace, first: str, second: str) -> float:
    """Between the first lines of the log that have these words."""
    begun, ended = (next(line for line in work.log if words in str(line["event"])) for words in (first, second))
    times = [datetime.fromisoformat(str(line["timestamp"])) for line in (begun, ended)]
    return (times[1] - times[0]).total_seconds()


@row("F44", "a handler that hangs", cut=2, short=9, long=9)
def hanging(bench: Bench) -> None:
    """Its stack is told, and past the limit it is broken off as if it had raised; but for a call into C that no signal ends."""
    reference(bench)
    trials: Trials = {"sleeps, and on_error = warn": hangs_and_is_borne}
    trials |= {name: partial(hangs, signal, does) for name, (signal, does) in HANGS.items()}
    trials["is slow, without a limit"] = is_slow_and_told
    spread(bench, trials)


T_SECONDS = 2.0
"""The limit of these trials, which is a minute otherwise."""


def impatient() -> None:
    """Give lanes up after a moment."""
    from core.run import session
    from events import lanes

    lanes.Lanes.__init__.__kwdefaults__.update(limit_seconds=T_SECONDS)
    session.GRACE_SECONDS = session.FAILED_GRACE_SECONDS = T_SECONDS


def late(bench: Bench, kind: str, does: str, *settings: str) -> tuple[Workspace, Ended]:
    use = f'use = "tests.faults.plugins_for_misbehaviour.{kind}"'
    plugin = "\n".join(
        ("\n[[plugins]]", use, 'name = "Misbehaving"', 'signal = "metrics.ready"', f'does = "{does}"', *settings, "")
    )
    work = bench.workspace("log.every_steps=1", plugins=plugin + JOURNAL + EMA)
    return work, bench.train(work, "checkpoint.every_steps=0", inject=impatient)


def never_ends(does: str, bench: Bench) -> None:
    work, ended = late(bench, "Async", does, "again = false")
    assert ended.code == 0, ended.output
    assert work.said("plugin Misbehaving: not done within 2 s; "), ended.output
    assert work.said("Async.look_on has not ended"), ended.output
    assert work.said("plugin Misbehaving: "), ended.output
    assert work.said("events never reached its async handlers"), ended.output
    peace(bench, work, ended)
    assert ended.seconds <= 3 * T_SECONDS + 1 + 10, (
        ended.seconds
    )  # one wait for the lane, the loop's own end, and the run


def overflows(bench: Bench) -> None:
    work, ended = late(bench, "Dropping", "dawdle")
    assert ended.code == 0, ended.output
    dropped = next(str(line["event"]) for line in work.log if "never reached" in str(line["event"]))
    assert int(dropped.split()[2]) >= 1, dropped
    peace(bench, work, ended)


def holds_up(bench: Bench) -> None:
    """Nothing is lost where the lane's policy is to wait."""
    work, ended = late(bench, "Blocking", "dawdle")
    assert ended.code == 0, ended.output
    assert not work.said("never reached"), ended.output
    assert "training waited" in ended.output, ended.output
    peace(bench, work, ended)


def raises_late(policy: str, bench: Bench) -> None:
    work, ended = late(bench, "Async", "raise", f'on_error = "{policy}"')
    assert ended.code == (6 if policy == "raise" else 0), ended.output
    assert "plugin Misbehaving failed in Async.look_on" in ended.output, ended.output
    assert "at metrics.ready" in ended.output, ended.output
    if policy == "raise":
        assert work.said("saved after an error"), ended.output
    else:
        peace(bench, work, ended)


def peace(bench: Bench, work: Workspace, ended: Ended) -> None:
    """It has the bits of a run without the plugin."""
    same(digest(work, PARTS), digest_of_reference(bench), ended)


def digest_of_reference(bench: Bench) -> str:
    if "late" not in PEACEFUL:
        work = bench.workspace("log.every_steps=1", plugins=JOURNAL + EMA)
        ended = bench.train(work, "checkpoint.every_steps=0")
        assert ended.code == 0, ended.output
        PEACEFUL["late"] = digest(work, PARTS)
    return PEACEFUL["late"]


PEACEFUL: dict[str, str] = {}


@row("F45", "an async handler that never ends, falls behind or fails late", cut=2, short=7, long=7)
def lagging(bench: Bench) -> None:
    """Lanes are bounded, what they drop is counted, a late failure follows `on_error`, and the end waits so long and no longer."""
    trials: Trials = {
        "never ends": partial(never_ends, "forever"),
        "the lane is full, the oldest goes": overflows,
        "ignores that it is cancelled": partial(never_ends, "stubborn"),
        "holds the loop": partial(never_ends, "hold"),
        "the lane is full, training waits": holds_up,
        "raises late": partial(raises_late, "disable"),
        "raises late and ends the run": partial(raises_late, "raise"),
    }
    digest_of_reference(bench)
    bench.spread(dict(list(trials.items())[: bench.count]))
