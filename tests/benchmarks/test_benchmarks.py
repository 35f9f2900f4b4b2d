"""`python -m benchmarks` measures, shows and writes; its exit code tells of goals that are missed by more than noise."""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from benchmarks.__main__ import SECTIONS, main, name_of
from benchmarks.figures import Figure, Options, Point, Section, figure, ratios
from benchmarks.lanes import WAITING
from benchmarks.racing import Lap, race
from benchmarks.runs import CLOCK, SMALL, clock_of, execute, write_config

CHEAP = ("dispatch", "checkpoints", "data")


@pytest.fixture
def run_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Run made-up sections by the command line; returns its exit code and what it has written."""

    def run(*measures: Callable[[Options], list[Figure]], words: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
        modules = [f"made_up.section_{number}" for number in range(len(measures))]
        for module, measure in zip(modules, measures, strict=True):
            section = Section(name=name_of(module), question="How much?", measure=measure)
            monkeypatch.setitem(sys.modules, module, SimpleNamespace(SECTION=section))
        out, plot = tmp_path / "figures.json", tmp_path / "figures.png"
        code = main(["--out", str(out), "--plot", str(plot), *words], modules)
        written: dict[str, Any] = json.loads(out.read_text())
        return code, written["sections"]

    return run


def one(value: float, at_most: float | None = 1.0) -> Callable[[Options], list[Figure]]:
    """A section with one ratio, which its rounds agree on."""
    return lambda options: [figure("ours / theirs", [value] * 3, "ratio", at_most=at_most)]


def test_the_short_form_prints_a_table_and_writes_figures_and_a_picture(tmp_path: Path, capsys: Any) -> None:
    out, plot = tmp_path / "some" / "figures.json", tmp_path / "some" / "figures.png"
    assert main([*CHEAP, "--quick", "--out", str(out), "--plot", str(plot)]) == 0
    printed, written = capsys.readouterr().out, json.loads(out.read_text())
    assert "a guarded emit, 1 handler" in printed
    assert "dispatch: ns by number of handlers" in printed
    assert list(written["sections"]) == list(CHEAP)
    assert [section["error"] for section in written["sections"].values()] == [""] * len(CHEAP)
    names = [figure["name"] for figure in written["sections"]["dispatch"]["figures"]]
    assert {
        f"{who}, {count} handlers" for who in ("emit", "apply", "compose", "blinker send") for count in (0, 5, 20)
    } <= set(names)
    assert {"cpu", "cores", "load", "threads", "date", "python", "torch", "diffusers"} <= written["machine"].keys()
    with Image.open(plot) as picture:
        assert picture.width > 1000


def test_events_for_a_slow_webhook_are_dropped_but_for_the_newest(tmp_path: Path) -> None:
    from benchmarks.lanes import through_a_slow_webhook
    from benchmarks.slow_server import slow_server

    with slow_server(0.02) as server:
        figures = {figure.name.partition(": ")[2]: figure for figure in through_a_slow_webhook(server, 200)}
    assert figures["steps that the last post is behind"].value == 0
    assert figures["posts it came to"].value < 100
    assert figures["memory at most"].is_met


@pytest.mark.parametrize(("value", "code"), [(0.99, 0), (1.0, 0), (1.5, 1)])
def test_a_missed_goal_ends_with_1(run_sections: Any, value: float, code: int) -> None:
    assert run_sections(one(value))[0] == code


def test_where_rounds_lie_on_both_sides_of_the_goal_it_is_not_missed(run_sections: Any, capsys: Any) -> None:
    code, sections = run_sections(lambda options: [figure("a", [0.9, 1.02, 1.1], "ratio", at_most=1.0)])
    assert code == 0
    assert sections["section_0"]["figures"][0]["verdict"] == "within the noise"
    assert "within the noise" in capsys.readouterr().out


def test_the_short_form_judges_nothing(run_sections: Any) -> None:
    assert run_sections(one(1.5), words=("--quick",))[0] == 0


def test_a_section_that_fails_leaves_the_others_and_ends_with_1(run_sections: Any, capsys: Any) -> None:
    def fail(options: Options) -> list[Figure]:
        raise OSError("no such luck")

    code, sections = run_sections(fail, one(0.5))
    assert code == 1
    assert "no such luck" in sections["section_0"]["error"]
    assert [figure["verdict"] for figure in sections["section_1"]["figures"]] == ["met"]
    assert "section_0 has failed" in capsys.readouterr().out


def test_only_the_sections_that_are_named_run(run_sections: Any) -> None:
    _, sections = run_sections(one(1.5), one(0.5), words=("section_1",))
    assert list(sections) == ["section_1"]


def test_a_section_learns_what_the_command_line_says(run_sections: Any) -> None:
    seen: list[Options] = []

    def look(options: Options) -> list[Figure]:
        seen.append(options)
        assert options.folder.is_dir()
        return []

    run_sections(look, words=("--rounds", "5", "--peer", "other=there/train.py"))
    assert (seen[0].rounds, seen[0].is_quick, seen[0].peers) == (5, False, {"other": Path("there/train.py")})
    assert not seen[0].folder.exists()


def test_a_peer_without_a_path_is_refused(run_sections: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        run_sections(one(0.5), words=("--peer", "other"))
    assert "invalid named_path value: 'other'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "low", "high", "goals", "verdict"),
    [
        (1.0, 0.9, 1.1, {}, ""),
        (1.0, 0.9, 1.1, {"at_most": 1.0}, "met"),
        (0.5, None, None, {"at_most": 1.0}, "met"),
        (1.1, 0.9, 1.2, {"at_most": 1.0}, "within the noise"),
        (1.1, 1.05, 1.2, {"at_most": 1.0}, "missed"),
        (1.1, None, None, {"at_most": 1.0}, "missed"),
        (1.1, 1.05, 1.2, {"at_least": 1.0}, "met"),
        (0.9, 0.8, 1.05, {"at_least": 1.0}, "within the noise"),
        (0.9, 0.8, 0.95, {"at_least": 1.0}, "missed"),
    ],
)
def test_a_goal_between_the_quartiles_is_neither_met_nor_missed(
    value: float, low: float | None, high: float | None, goals: dict[str, Any], verdict: str
) -> None:
    assert Figure(name="a", value=value, unit="ratio", low=low, high=high, **goals).verdict == verdict


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    """Which a slow round of both does not move."""
    found = figure("a", ratios([1.0, 10.0, 1.2], [1.0, 10.0, 1.0]), "ratio")
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.1)


def test_contenders_take_turns_and_the_first_round_does_not_count() -> None:
    heard: list[str] = []
    laps = {name: Lap(f"heard.append({name!r})", {"heard": heard}) for name in "ab"}
    times = race(laps, 3, 0.0, multiple=2)
    assert {name: len(taken) for name, taken in times.items()} == {"a": 3, "b": 3}
    assert "".join(heard).endswith("aabb" * 4)


def test_figures_of_a_line_are_shown_side_by_side(run_sections: Any, capsys: Any) -> None:
    def grow(options: Options) -> list[Figure]:
        return [
            Figure(name=f"a, {at}", value=7.0 * at, unit="us", point=Point(line="a", at=at, along="plugins"))
            for at in (2, 4)
        ]

    run_sections(grow)
    printed = capsys.readouterr().out
    assert "us by number of plugins" in printed
    assert any("14.0" in line and "28.0" in line for line in printed.splitlines())


def test_the_clock_mutes_a_signal_in_every_second_block_of_steps(tmp_path: Path) -> None:
    clock = f'{CLOCK}mute = "metrics.ready"\nblock_steps = 4\n'
    config = write_config(tmp_path, steps=16, unet=SMALL, more=clock + WAITING)
    bus = execute(config, ["log.every_steps=1", "checkpoint.every_steps=0"])
    assert 7 <= bus.tallies["Waiting", "metrics.ready", "Waiting.wait"].calls <= 9
    heard, muted = clock_of(bus).blocks()
    assert len(heard) == len(muted) == 1


@pytest.mark.parametrize("module", SECTIONS)
def test_each_module_has_a_section_of_its_name(module: str) -> None:
    assert import_module(module).SECTION.name == name_of(module)
