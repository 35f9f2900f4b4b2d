"""The summary of a trace has each name with its calls, its time, and its own time without what it called."""

from typing import Any

from core.timing.trace_summary import Cost, costs, summary_lines


def event(name: str, begin: float, end: float, *, tid: int = 1, cat: str = "cpu_op") -> dict[str, Any]:
    return {"name": name, "cat": cat, "tid": tid, "ts": begin, "dur": end - begin}


def test_own_time_is_without_what_was_called() -> None:
    found = costs(
        [event("mm", 2000, 3000), event("add", 1000, 2000), event("linear", 0, 5000), event("mm", 6000, 7000)]
    )
    assert found == {
        "linear": Cost(calls=1, milliseconds=5, own_milliseconds=3),
        "add": Cost(calls=1, milliseconds=1, own_milliseconds=1),
        "mm": Cost(calls=2, milliseconds=2, own_milliseconds=2),
    }


def test_only_the_caller_itself_gives_its_time_away() -> None:
    found = costs([event("outer", 0, 4000), event("middle", 0, 3000), event("inner", 1000, 2000)])
    assert {name: cost.own_milliseconds for name, cost in found.items()} == {"outer": 1, "middle": 2, "inner": 1}


def test_threads_do_not_call_each_other() -> None:
    found = costs([event("one", 0, 4000), event("other", 1000, 2000, tid=2)])
    assert found["one"].own_milliseconds == 4


def test_host_and_gpu_have_a_table_each_with_the_dearest_first() -> None:
    events = [event("mm", 0, 1000), event("conv", 1000, 3000), event("gemm", 0, 9000, cat="kernel"), {"name": "meta"}]
    lines = [line.split() for line in summary_lines(events)]
    assert lines[1:3] == [["2.000", "2.000", "1", "conv"], ["1.000", "1.000", "1", "mm"]]
    assert lines[4:] == [["9.000", "9.000", "1", "gemm"]]


def test_a_machine_without_a_gpu_has_one_table() -> None:
    assert [line for line in summary_lines([event("mm", 0, 1)]) if line.startswith("on ")] == [
        "on the host (own ms, ms with what it called, calls)"
    ]
