"""The catalogue is closed and in order: unique names in their rooms, a payload and a meaning each, and a map that knows them all."""

import re
import subprocess
import sys

import pytest

from events import catalogue
from events.catalogue import CATALOGUE
from events.spec import Build, Notification, SignalSpec, Transform
from tests.small_runs import ROOT

NAMES = [spec.name for spec in CATALOGUE]
each_signal = pytest.mark.parametrize("spec", CATALOGUE, ids=NAMES)


def test_names_are_unique() -> None:
    assert len(NAMES) == len(set(NAMES))


@each_signal
def test_the_constant_is_named_as_the_signal(spec: SignalSpec) -> None:
    assert getattr(catalogue, spec.name.upper().replace(".", "_")) is spec


@each_signal
def test_it_says_in_a_sentence_what_it_means_and_what_it_carries(spec: SignalSpec) -> None:
    assert spec.meaning[0].isupper()
    assert spec.meaning.endswith(".")
    assert spec.carries


@each_signal
def test_it_is_a_build_signal_just_if_its_name_says_so(spec: SignalSpec) -> None:
    assert isinstance(spec, Build) == spec.name.startswith("build.")


@each_signal
def test_it_runs_in_workers_just_if_it_makes_samples(spec: SignalSpec) -> None:
    assert (spec.where == "worker") == (spec.name.startswith("sample.") or spec.name == "batch.host")


def test_the_map_knows_every_signal_and_no_other() -> None:
    text = catalogue.__doc__ or ""
    found = set(re.findall(r"\b[a-z]+\.[a-z_]+\b", text.partition("Map:")[2])) | {"progress"} & set(text.split())
    assert found | {"progress"} == set(NAMES)


def test_signals_stand_in_firing_order() -> None:
    order = [NAMES.index(name) for name in ("run.configure", "data.items", "model.loaded", "model.ready", "epoch.start",
                                            "sample.caption", "step.start", "step.end", "epoch.end", "run.close")]  # fmt: skip
    assert order == sorted(order)
    assert NAMES[0] == "run.configure"
    assert NAMES[-1] == "run.close"


def test_async_is_allowed_only_where_the_payload_holds_host_values() -> None:
    """Neither live modules nor what a handler could ask of a step that is over."""
    payloads = [spec.payload for spec in CATALOGUE if isinstance(spec, Notification) and spec.allows_async]
    assert payloads
    for payload in payloads:
        types = " ".join(map(str, payload.__annotations__.values()))
        assert not re.search(r"Tensor|Module|Optimizer|LiveState|Batch|Sampler|Control\b", types), payload


def test_only_progress_is_coalesced() -> None:
    assert [spec.name for spec in CATALOGUE if isinstance(spec, Notification) and spec.coalesced] == ["progress"]


def test_random_transforms_give_each_handler_its_own_streams() -> None:
    drawing = [spec for spec in CATALOGUE if isinstance(spec, Transform) and "rng" in spec.context.__annotations__]
    assert len(drawing) >= 6
    assert all(spec.bind is not None for spec in drawing)


def test_failures_are_fatal_where_a_later_step_relies_on_the_handler() -> None:
    rules = {spec.name: spec.on_failure for spec in CATALOGUE if isinstance(spec, Notification)}
    assert {name for name, rule in rules.items() if rule == "raise"} == {
        "model.loaded",
        "model.ready",
        "checkpoint.start",
        "export.write",
    }
    assert {name for name, rule in rules.items() if rule == "continue"} == {"run.error", "run.close"}


def test_the_command_line_lists_every_signal_in_order_with_kind_and_payload() -> None:
    done = subprocess.run(
        [sys.executable, "run.py", "events"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[::2]] == NAMES
    for spec, head, meaning in zip(CATALOGUE, lines[::2], lines[1::2], strict=True):
        assert f"{spec.kind}, {spec.where} process" in head
        assert spec.carries in head
        assert spec.meaning in meaning
