"""Rows F16 to F18: a second trainer, other clocks and another config than those that a run began with."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial

import tomli

from tests.small_runs import NAMES

from .bench import JOURNAL, Bench, Workspace, copy_pictures, digest
from .injectors import on_call, shift_clock, stop_clock
from .on_disk import tree, wait_until
from .rows import row
from .rows_process import begun, go_on
from .rows_signals import SHORT


@row("F16", "two trainers in one run's folder", cut=3, short=12, long=60)
def two_trainers(bench: Bench) -> None:
    """The second is refused with process and host of the first; a lock whose holder was killed is free."""
    bench.reference(*SHORT)
    trials: dict[str, Callable[[Bench], None]] = {"the second is refused": refused, "a killed holder": taken_over}
    trials |= {f"both at once, {number}": one_of_two for number in range(bench.count - 2)}
    bench.spread(trials)


def hold(work: Workspace, bench: Bench) -> None:
    (work.path / "holds").touch()
    while not (work.path / "goes on").exists():
        time.sleep(0.01)


def refused(bench: Bench) -> None:
    work = bench.workspace(*SHORT)
    first = bench.begin(
        work, inject=partial(on_call, "core.run.trainer:Trainer.train", lambda count: hold(work, bench))
    )
    assert wait_until((work.path / "holds").exists, first)
    before = tree(work.run / "checkpoints")
    second = bench.train(work)
    (work.path / "goes on").touch()
    assert second.code == 2, second.output
    assert str(first.pid) in second.output, second.output
    assert socket.gethostname() in second.output, second.output
    assert tree(work.run / "checkpoints") == before
    assert first.wait().code == 0
    assert digest(work) == bench.reference(*SHORT)


def taken_over(bench: Bench) -> None:
    work = begun(bench, SHORT)
    first = bench.begin(
        work, inject=partial(on_call, "core.run.trainer:Trainer.train", lambda count: hold(work, bench))
    )
    assert wait_until((work.path / "holds").exists, first)
    first.send(signal.SIGKILL)
    assert first.wait().killed
    said = go_on(work, bench)
    assert said.code == 0, said.output
    assert digest(work) == bench.reference(*SHORT)


def one_of_two(bench: Bench) -> None:
    """Whoever comes first trains; the other is refused, or finds the run finished or further on."""
    work = bench.workspace(*SHORT)
    children = [bench.begin(work), bench.begin(work)]
    ended = [child.wait() for child in children]
    assert sorted(one.code for one in ended) in ([0, 0], [0, 2]), [one.output for one in ended]
    assert sum("complete at step 5" in one.output for one in ended) == 1, [one.output for one in ended]
    assert digest(work) == bench.reference(*SHORT)


@row("F17", "clocks that jump or stand still", cut=3, short=8, long=8)
def clocks(bench: Bench) -> None:
    """The newest checkpoint is that of the highest step, whatever the clock and the files' times say."""
    bench.reference(*SHORT)
    changes: dict[str, Callable[[], object]] = {
        "a day back": partial(shift_clock, -86400.0),
        "stands still": stop_clock,
        "a day ahead": partial(shift_clock, 86400.0),
        "back to 1970": partial(shift_clock, -time.time() + 1),
    }
    trials = {f"{name}, {times}": partial(with_clock, change, times == "files too")
              for times in ("files too", "the clock alone") for name, change in changes.items()}  # fmt: skip
    bench.spread(dict(list(trials.items())[: bench.count]))


def with_clock(change: Callable[[], object], reverse: bool, bench: Bench) -> None:
    work = begun(bench, SHORT, steps=3)
    if reverse:
        for age, path in enumerate(reversed(work.checkpoints)):  # the newest looks oldest
            os.utime(path, (1e9 + age * 1e5, 1e9 + age * 1e5))
    ended = bench.train(work, inject=change)
    assert ended.code == 0, ended.output
    assert "resumed step=3 lost=0" in ended.output, ended.output
    assert [path.name for path in work.checkpoints] == ["step-00000004", "step-00000005"]
    assert digest(work) == bench.reference(*SHORT)


LORA = '\n[[plugins]]\nuse = "plugins.lora.Lora"\nrank = {rank}\n'
APPLIED, REFUSED, OTHER_DATA = 0, 4, 3
CHANGES: dict[str, tuple[str, int, str]] = {
    "learning rate": ("train.learning_rate=5e-4", APPLIED, "train.learning_rate  0.001 -> 0.0005"),
    "steps": ("train.steps=7", APPLIED, "train.steps  2 -> 7"),
    "seed": ("run.seed=1", REFUSED, "run.seed  0 -> 1"),
    "optimizer": (
        "train.optimizer=torch.optim.SGD",
        REFUSED,
        "train.optimizer  'torch.optim.AdamW' -> 'torch.optim.SGD'",
    ),
    "what is trained": ("model.train=['text_encoder']", REFUSED, "model.train  ['unet'] -> ['text_encoder']"),
    "batch size amid an epoch": ("train.batch_size=3", REFUSED, "in the middle of epoch 0"),
    "weight decay": ("train.weight_decay=0.5", APPLIED, "train.weight_decay  0.01 -> 0.5"),
    "how many to keep": ("checkpoint.keep=1", APPLIED, "checkpoint.keep  2 -> 1"),
    "how often to save": ("checkpoint.every_steps=0", APPLIED, "checkpoint.every_steps  1 -> 0"),
    "how often to report": ("log.every_steps=1", APPLIED, "log.every_steps  2 -> 1"),
    "prediction": ("model.prediction=v_prediction", REFUSED, "model.prediction  'auto' -> 'v_prediction'"),
    "clipping": ("train.clip_norm=0.1", APPLIED, "train.clip_norm  1.0 -> 0.1"),
}
"""By what is changed: the setting, the exit code, and what is told."""


@row("F18", "the config changed between a run and its resumption", cut=5, short=15, long=15)
def changed_config(bench: Bench) -> None:
    """Changes are told in a table; those that keep the checkpoint's meaning are applied, others refused by their key.

    Applied: learning rate, steps, weight decay, clipping, keep, rhythms, plugins that come and go. Refused: seed,
    optimizer, what of which model is trained, what it predicts, the rank of an adapter, and in the middle of an epoch
    the batch size.
    """
    bench.reference(*SHORT)
    trials: dict[str, Callable[[Bench], None]] = {"rank of an adapter": changed_rank, "plugins": changed_plugins}
    trials |= {name: partial(changed, *change) for name, change in CHANGES.items()}
    trials["another folder of pictures"] = changed_pictures
    bench.spread(dict(list(trials.items())[: bench.count]))


def changed(setting: str, code: int, told: str, bench: Bench) -> None:
    work = begun(bench, SHORT)
    before = tree(work.run / "checkpoints")
    ended = bench.train(work, setting)
    assert ended.code == code, ended.output
    assert told in ended.output, f"{told!r} is not in:\n{ended.output}"
    if code == APPLIED:
        stored = tomli.loads((work.checkpoints[-1] / "config.toml").read_text())
        table, _, key = setting.partition("=")[0].partition(".")
        assert str(stored[table][key]) in setting or float(setting.partition("=")[2]) == stored[table][key], stored[
            table
        ]
        assert_in_effect(setting, work, bench)
        return
    assert "Traceback" not in ended.output, ended.output
    assert tree(work.run / "checkpoints") == before
    assert bench.train(work).code == 0  # set back, it goes on
    assert digest(work) == bench.reference(*SHORT)


def assert_in_effect(setting: str, work: Workspace, bench: Bench) -> None:
    """What of the run must be as the new setting says."""
    groups = json.loads((work.checkpoints[-1] / "state.json").read_text())["optimizer"]["groups"]
    match setting:
        case "train.steps=7":
            assert work.checkpoints[-1].name == "step-00000007"
        case "train.learning_rate=5e-4":
            assert {group["lr"] for group in groups} == {5e-4}, groups
        case "train.weight_decay=0.5":
            assert {group["weight_decay"] for group in groups} == {0.5}, groups
        case "train.clip_norm=0.1":
            assert digest(work) != bench.reference(*SHORT)
        case "checkpoint.keep=1":
            assert [path.name for path in work.checkpoints] == ["step-00000005"]
        case "checkpoint.every_steps=0":
            assert digest(work) == bench.reference(*SHORT)


def changed_rank(bench: Bench) -> None:
    work = bench.workspace(*SHORT, plugins=LORA.format(rank=16))
    assert bench.train(work, "train.steps=2").code == 0
    before = tree(work.run / "checkpoints")
    work.config.write_text(work.config.read_text().replace("rank = 16", "rank = 32"))
    ended = bench.train(work)
    assert ended.code == REFUSED, ended.output
    assert "rank" in ended.output, ended.output
    assert "lora_" in ended.output, ended.output
    assert tree(work.run / "checkpoints") == before


def changed_plugins(bench: Bench) -> None:
    """One leaves and one comes; when the first comes back, it has its state."""
    work = begun(bench, SHORT)
    text = work.config.read_text()
    count = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.Counter"\n'
    work.config.write_text(text.replace(JOURNAL, "") + count)
    without = bench.train(work, "train.steps=3")
    assert without.code == 0, without.output
    assert "a state of plugin Journal" in without.output, without.output
    assert "plugin Counter is new in this run and starts without a state" in without.output, without.output
    work.config.write_text(text)
    back = bench.train(work)
    assert back.code == 0, back.output
    states = json.loads((work.checkpoints[-1] / "state.json").read_text())["plugins"]
    assert states["Journal"]["steps"] == 4, states["Journal"]  # all but the one that it was not there for
    assert states["Counter"]["counts"]["steps"] == 1, states["Counter"]
    assert tensors_of(work, "weights") == tensors_of(reference_run(bench), "weights")


def reference_run(bench: Bench) -> Workspace:
    return begun(bench, SHORT, steps=5)


def tensors_of(work: Workspace, name: str) -> bytes:
    return (work.checkpoints[-1] / f"{name}.safetensors").read_bytes()


def changed_pictures(bench: Bench) -> None:
    work = begun(bench, SHORT)
    other = copy_pictures(work.path / "others", NAMES[:-1])
    before = tree(work.run / "checkpoints")
    ended = bench.train(work, f"data.root={other}")
    assert ended.code == OTHER_DATA, ended.output
    assert "--accept-dataset-change" in ended.output, ended.output
    assert tree(work.run / "checkpoints") == before
