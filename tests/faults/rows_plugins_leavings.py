"""The row about what plugins store, and what they leave behind in the process."""

import json
from functools import partial

from . import plugins_for_misbehaviour
from .bench import EMA, JOURNAL, Bench, digest
from .plugin_trials import PARTS, Trials, misbehaving, same, spread
from .rows import row


def keeping(*settings: str) -> str:
    return "\n".join(("\n[[plugins]]", 'use = "tests.faults.plugins_for_misbehaviour.Keeping"', *settings, ""))


def cannot_store(gives: str, said: str, bench: Bench) -> None:
    """The run ends by name; the checkpoint before it stands."""
    work = bench.workspace(plugins=keeping() + JOURNAL + EMA)
    assert bench.train(work, "train.steps=2").code == 0
    with_deed = work.config.read_text().replace('Keeping"\n', f'Keeping"\ngives = "{gives}"\n')
    work.config.write_text(with_deed)
    ended = bench.train(work)
    assert ended.code == 6, ended.output
    assert f"the state of plugin Keeping cannot be stored: {said}" in ended.output, ended.output
    assert [path.name for path in work.checkpoints] == ["step-00000002"]


def cannot_take_back(bench: Bench) -> None:
    """Exit 4 by name, with nothing changed; without the plugin the run goes on and keeps its state."""
    work = bench.workspace(plugins=keeping('gives = "another key"') + JOURNAL + EMA)
    assert bench.train(work, "train.steps=2").code == 0
    before = digest(work)
    ended = bench.train(work)
    assert ended.code == 4, ended.output
    assert "plugin Keeping cannot take back its state: KeyError: 'count'" in ended.output, ended.output
    assert "take it out of the" in ended.output, ended.output
    assert digest(work) == before


def another_version(bench: Bench) -> None:
    work = bench.workspace(plugins=keeping() + JOURNAL + EMA)
    assert bench.train(work, "train.steps=2").code == 0
    ended = bench.train(work, inject=lambda: setattr(plugins_for_misbehaviour.Keeping, "version", 2))
    assert ended.code == 0, ended.output
    assert work.said("plugin Keeping stored its state as version 1 and is 2 now"), ended.output


def goes_and_comes_back(bench: Bench) -> None:
    """What is told of a plugin that was left out for a while: its state waits in the checkpoints."""
    work = bench.workspace(plugins=keeping("enabled = true") + JOURNAL + EMA)
    text = work.config.read_text()
    assert bench.train(work, "train.steps=3").code == 0
    work.config.write_text(text.replace("enabled = true", "enabled = false"))
    without = bench.train(work, "train.steps=5")
    assert without.code == 0, without.output
    assert work.said("holds a state of plugin Keeping, which this config does not name; it is kept"), without.output
    work.config.write_text(text)
    again = bench.train(work)
    assert again.code == 0, again.output
    state = json.loads((work.checkpoints[-1] / "state.json").read_text())
    assert state["plugins"]["Keeping"] == {"count": 3 + 2}, state["plugins"]
    same(digest(work, PARTS), of_a_run_without(bench), again)


def is_added(bench: Bench) -> None:
    work = bench.workspace(plugins=keeping("enabled = false") + JOURNAL + EMA)
    assert bench.train(work, "train.steps=3").code == 0
    work.config.write_text(work.config.read_text().replace("enabled = false", "enabled = true"))
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    assert work.said("plugin Keeping is new in this run and starts without a state"), ended.output
    same(digest(work, PARTS), of_a_run_without(bench), ended)


def of_a_run_without(bench: Bench, *overrides: str) -> str:
    """The digest of a run that has none of these plugins."""
    if overrides not in WITHOUT:
        work = bench.workspace(*overrides)
        ended = bench.train(work)
        assert ended.code == 0, ended.output
        WITHOUT[overrides] = digest(work, PARTS)
    return WITHOUT[overrides]


WITHOUT: dict[tuple[str, ...], str] = {}


def all_of(signal: str, *deeds: str) -> str:
    return "".join(misbehaving(signal, f'does = "{deed}"', name=deed) for deed in deeds)


def draws(bench: Bench) -> None:
    """The tripwire names who draws from a global generator, and which; the bits of the run do not depend on it."""
    names = {"torch": "torch", "numpy": "numpy.random", "random": "random"}
    work = bench.workspace(plugins=all_of("step.end", *names) + JOURNAL + EMA)
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    for plugin, generator in names.items():
        said = f"plugin {plugin}: Misbehaving.look_on at step.end draws from the global generator of {generator}, so"
        assert sum(said in str(line["event"]) for line in work.log) == 1, ended.output
    same(digest(work, PARTS), of_a_run_without(bench), ended)


def leaves_a_mess(bench: Bench) -> None:
    """What is the trainer's is put back after each call."""
    names = {
        "grad": "grad mode (False instead of True)",
        "dtype": "torch's default dtype (torch.float64 instead of torch.float32)",
        "threads": "torch's threads (2 instead of 1)",
        "signal": "the handler of SIGTERM",
    }
    work = bench.workspace(plugins=all_of("step.end", *names) + JOURNAL + EMA)
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    for plugin, what in names.items():
        said = f"plugin {plugin}: Misbehaving.look_on at step.end has changed {what}, which is the trainer's and has been put"
        assert sum(said in str(line["event"]) for line in work.log) == 1, ended.output
    same(digest(work, PARTS), of_a_run_without(bench), ended)


def leaks(bench: Bench) -> None:
    """1 MB a call is told with its rate; the eighth call that is looked at is the 128th."""
    work = bench.workspace("train.steps=45", "checkpoint.every_steps=0", plugins=all_of("sample.caption", "leak"))
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    line = next((str(line["event"]) for line in work.log if "made the process grow" in str(line["event"])), "")
    assert line.startswith("plugin leak: Misbehaving.change at sample.caption made the process grow by 1."), (
        ended.output
    )


def exits(kind: str, signal: str, bench: Bench, *overrides: str) -> None:
    use = f'use = "tests.faults.plugins_for_misbehaviour.{kind}"'
    lines = ("\n[[plugins]]", use, f'signal = "{signal}"', 'does = "exit"', 'on_error = "raise"', "")
    work = bench.workspace(plugins="\n".join(lines) + JOURNAL + EMA)
    ended = bench.train(work, *overrides)
    assert ended.code == 6, ended.output
    assert f"plugin {kind} failed in {kind}." in ended.output, ended.output
    assert f"at {signal}" in ended.output, ended.output
    assert "SystemExit: 3" in ended.output, ended.output


def prints(bench: Bench) -> None:
    """A plugin that floods the terminal, by a megabyte a call."""
    work = bench.workspace(plugins=all_of("step.end", "print") + JOURNAL + EMA)
    ended = bench.train(work)
    assert ended.code == 0, ended.output[-2000:]
    assert ended.output.count("x" * 1023) == 7 * 1024
    same(digest(work, PARTS), of_a_run_without(bench), ended)


WORKERS = ("data.workers=1", 'data.start_method="spawn"')


def is_never_pickled(bench: Bench) -> None:
    """Spawned workers build the plugins from the config; what a live one holds does not matter."""
    plugins = '\n[[plugins]]\nuse = "tests.faults.plugins_for_misbehaviour.InWorkers"\nsignal = "sample.caption"\ndoes = "nothing"\n'
    work = bench.workspace(plugins=plugins + JOURNAL + EMA)
    ended = bench.train(work, *WORKERS)
    assert ended.code == 0, ended.output
    same(digest(work, PARTS), of_a_run_without(bench), ended)


def fails_in_workers(bench: Bench) -> None:
    plugins = '\n[[plugins]]\nuse = "tests.faults.plugins_for_misbehaviour.InWorkers"\nsignal = "sample.caption"\n'
    work = bench.workspace(plugins=plugins + JOURNAL + EMA)
    ended = bench.train(work, *WORKERS)
    assert ended.code == 6, ended.output
    assert "plugin InWorkers failed in InWorkers.change" in ended.output, ended.output
    assert "ValueError: broken on purpose" in ended.output, ended.output


@row("F48", "a plugin's state, its workers and what it leaves behind", cut=3, short=17, long=17)
def leavings(bench: Bench) -> None:
    """States that cannot be stored or taken back are named, absent ones kept; what a handler leaves behind is told and put back."""
    trials: Trials = {
        "it leaves grad mode, dtype, threads and signals changed": leaves_a_mess,
        "it draws from global generators": draws,
        "state_dict raises": partial(cannot_store, "raise", "KeyError: 'means'"),
        "it is left out and comes back": goes_and_comes_back,
        "state_dict exits": partial(cannot_store, "exit", "SystemExit: 3"),
        "state_dict returns nothing": partial(cannot_store, "nothing", "TypeError: state_dict() returned NoneType"),
        "state_dict holds a set": partial(cannot_store, "object", "TypeError: Keeping/count: set cannot be stored"),
        "load_state_dict fails": cannot_take_back,
        "another version": another_version,
        "it is added": is_added,
        "it leaks": leaks,
        "it prints": prints,
        "it exits": partial(exits, "Misbehaving", "step.end"),
        "it exits in the loader": partial(exits, "Misbehaving", "sample.caption"),
        "it exits in the background": partial(exits, "Async", "metrics.ready"),
        "it cannot be pickled": is_never_pickled,
        "it fails in workers alone": fails_in_workers,
    }
    of_a_run_without(bench)
    spread(bench, trials)
