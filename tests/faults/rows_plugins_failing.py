"""Rows about handlers that raise, or return what they must not."""

import json
from functools import partial

from events.catalogue import CATALOGUE
from events.spec import Notification, SignalSpec

from .bench import Bench, digest
from .plugin_trials import (
    EVERYTHING,
    OTHERS,
    PARTS,
    Trials,
    mend,
    misbehaving,
    needs_of,
    reference,
    same,
    spread,
    workspace_for,
)
from .plugins_for_misbehaviour import MUTATED, RETURNED
from .rows import row

CUT = ("step.end", "sample.caption")
FOLLOWING = [spec for spec in CATALOGUE if isinstance(spec, Notification) and spec.on_failure == "policy"]
"""Signals whose failing handlers are treated as the plugin's `on_error` says."""
ENDING = [spec for spec in CATALOGUE if not isinstance(spec, Notification) or spec.on_failure != "continue"]
"""Signals whose failing handlers end the run, if `on_error` lets them."""
FIRST_STEP = [spec.name for spec in CATALOGUE].index("epoch.plan")


def ends_the_run(spec: SignalSpec, bench: Bench) -> None:
    """The run ends by name with its work saved, and goes on to the same bits when the plugin is mended."""
    is_required = isinstance(spec, Notification) and spec.on_failure == "raise"
    policy = ('on_error = "warn"',) if is_required else ()
    at = 2 if spec.pace != "run" and spec.name != "epoch.end" else 1  # where no checkpoint is due at the same step
    work = workspace_for(bench, spec.name, f"at = {at}", *policy)
    if spec.name == "checkpoint.loaded":
        assert bench.train(work, "train.steps=3").code == 0
    ended = bench.train(work)
    assert ended.code == 6, ended.output
    assert "plugin Misbehaving failed in Misbehaving." in ended.output, ended.output
    assert f" at {spec.name}" in ended.output, ended.output
    assert "ValueError: broken on purpose" in ended.output, ended.output
    while_training = spec in CATALOGUE[FIRST_STEP:] and spec.pace != "run"
    wanted = {"cut": spec.name == CUT[0], "short": while_training, "long": True}
    if wanted[bench.size]:
        again = bench.train(work, inject=mend)
        assert again.code == 0, again.output
        same(digest(work), reference(bench, *needs_of(spec.name)), again)
        told = [json.loads(line)["step"] for line in (work.run / "metrics.jsonl").read_text().splitlines()]
        assert told == [2, 4, 6, 7], told


def are_borne(policy: str, bench: Bench) -> None:
    """The run goes on to the same bits, and every failure has a line, the first of each handler with its traceback."""
    names = {spec.name: f"at-{spec.name}" for spec in FOLLOWING}
    failing = "".join(misbehaving(signal, f'on_error = "{policy}"', name=name) for signal, name in names.items())
    work = bench.workspace(*EVERYTHING, plugins=misbehaving("run.close") + failing + OTHERS)
    assert bench.train(work, "train.steps=3", "export.at_end=false").code == 0
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    assert work.said("plugin Misbehaving failed in Misbehaving.look_on")
    for signal, name in names.items():
        failures = [line for line in work.log if f"plugin {name} failed in Misbehaving.look_on" in str(line["event"])]
        assert failures, f"nothing fired {signal}"
        assert all(f"at {signal}" in str(line["event"]) for line in failures)
        assert "ValueError: broken on purpose" in str(failures[0]["exception"])
        assert policy == "warn" or len(failures) <= 2 * 3, failures  # in each of two runs
    assert policy == "warn" or work.said("Misbehaving.look_on is disabled after 3 failures")
    same(digest(work, PARTS), of_a_run_in_peace(bench), ended)


def of_a_run_in_peace(bench: Bench) -> str:
    work = bench.workspace(*EVERYTHING, plugins=OTHERS)
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    return digest(work, PARTS)


def is_taken_out(bench: Bench) -> None:
    """The handler of one signal alone."""
    work = workspace_for(bench, "step.end", 'on_error = "disable"')
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    assert work.said("Misbehaving.look_on is disabled after 3 failures"), ended.output
    same(digest(work), reference(bench), ended)


@row("F43", "a handler that raises, at every signal", cut=3, short=51, long=53)
def raising(bench: Bench) -> None:
    """A look-on handler is logged and taken out; a failing change, build or required handler saves and ends by name."""
    reference(bench)
    trials: Trials = {
        f"{spec.name} raises": partial(ends_the_run, spec)
        for spec in sorted(ENDING, key=lambda spec: spec.name not in CUT)
    }
    borne: Trials = {"one that looks on is taken out": is_taken_out}
    if bench.size != "cut":
        borne = {"all that look on are taken out": partial(are_borne, "disable")}
    if bench.size == "long":
        borne["all that look on are warned of"] = partial(are_borne, "warn")
    spread(bench, borne | trials)


def returns_wrong(what: str, bench: Bench) -> None:
    signal, _, said = RETURNED[what]
    use = 'use = "tests.faults.plugins_for_misbehaviour.ReturnsWrong"'
    plugins = "\n".join(("\n[[plugins]]", use, f'signal = "{signal}"', f'what = "{what}"', ""))
    work = bench.workspace("data.short_batches='fill'", plugins=plugins)
    ended = bench.train(work)
    assert ended.code == 6, ended.output
    line = next((line for line in ended.output.splitlines() if "ReturnsWrong" in line and said in line), None)
    assert line is not None, ended.output
    assert signal in line, line


def mutates(what: str, bench: Bench) -> None:
    use = 'use = "tests.faults.plugins_for_misbehaviour.Mutates"'
    work = bench.workspace(plugins="\n".join(("\n[[plugins]]", use, 'signal = "step.end"', f'what = "{what}"', "")))
    ended = bench.train(work)
    assert ended.code == 6, ended.output
    assert "plugin Mutates failed in Mutates.look_on" in ended.output, ended.output
    assert MUTATED[what][1] in ended.output, ended.output


@row("F46", "a handler that returns what it must not, or changes what it may only look at", cut=3, short=16, long=16)
def wrong_values(bench: Bench) -> None:
    """The bus says what was expected and what it got, by plugin and signal; a payload cannot be changed."""
    trials: Trials = {f"it changes {what}": partial(mutates, what) for what in MUTATED}
    trials |= {f"it returns {what}": partial(returns_wrong, what) for what in RETURNED}
    spread(bench, trials)
