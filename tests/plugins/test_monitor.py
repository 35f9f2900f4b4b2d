"""Monitor adds what the machine does to the reports, and costs and changes nothing else."""

import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from events.errors import AttachError
from events.plugin import PluginTable
from events.testing import Harness, metrics_context, run_start
from plugins.loading import build_plugin
from plugins.monitor import GIB, Monitor
from tests.small_runs import Run, assert_same, reports

OF_PROCESSES = {"system/cpu_percent", "system/memory_gib", "system/memory_percent"}
OF_TORCH = {"system/cuda_allocated_gib", "system/cuda_reserved_gib", "system/cuda_peak_gib"}
OF_DRIVER = {"system/gpu_percent", "system/gpu_celsius", "system/gpu_watts"}


def monitored(seconds: float = 0.0) -> Harness:
    harness = Harness(Monitor(Monitor.Settings(seconds=seconds)))
    harness.emit("run.start", run_start())
    return harness


def read(harness: Harness) -> dict[str, float]:
    values = harness.apply("metrics.record", {"loss": 0.5}, metrics_context())
    assert values.pop("loss") == 0.5
    return values


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.usefixtures("no_torch")
def test_without_a_gpu_there_are_numbers_of_processes_and_memory() -> None:
    values = read(monitored())
    assert set(values) == OF_PROCESSES
    assert all(type(value) is float for value in values.values())


@pytest.mark.usefixtures("no_torch")
def test_memory_is_that_of_this_process_and_those_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = monitored()
    alone = read(harness)["system/memory_gib"]
    started = psutil.Process().children(recursive=True)  # by tests before, such as a server of warm processes
    assert alone == pytest.approx(sum(one.memory_info().rss for one in (psutil.Process(), *started)) / GIB, rel=0.2)
    hold = "import sys; kept = bytearray(b'x' * (300 << 20)); print('there', flush=True); sys.stdin.read()"
    monkeypatch.setattr("plugins.monitor.LIST_SECONDS", 0.0)
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert read(harness)["system/memory_gib"] - alone > 0.25
        assert child.stdin is not None
        child.stdin.close()


@pytest.mark.usefixtures("no_torch")
def test_processor_time_counts_since_the_reading_before(monkeypatch: pytest.MonkeyPatch) -> None:
    harness, now = monitored(), [0.0]
    read(harness)
    begun, cpu = time.process_time(), psutil.Process().cpu_times()
    while time.process_time() < begun + 0.5:
        pass
    used = sum(psutil.Process().cpu_times()[:2]) - sum(cpu[:2])
    monitor: Any = harness.bus.plugins["Monitor"]
    now[0] = monitor._read_at + 2.0  # as if two seconds had passed
    monkeypatch.setattr("plugins.monitor.monotonic", lambda: now[0])
    assert read(harness)["system/cpu_percent"] == pytest.approx(100 * used / 2, abs=10)


@pytest.mark.usefixtures("no_torch")
def test_a_process_that_has_gone_is_forgotten_and_others_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[int] = []
    real = psutil.Process.children
    monkeypatch.setattr(psutil.Process, "children", lambda *_, **__: listed.append(1) or real(*_, **__))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        harness = monitored()
        for _ in range(3):
            read(harness)
        assert len(listed) == 1
        child.communicate(b"\n")
    assert read(harness)["system/memory_gib"] > 0
    read(harness)
    assert len(listed) == 2


@pytest.mark.usefixtures("no_torch")
def test_reports_between_two_readings_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("plugins.monitor.monotonic", lambda: now[0])
    harness = monitored(seconds=5.0)
    read_at = []
    for now[0] in (101.0, 104.9, 105.0, 109.0, 110.0):
        read_at += [now[0]] if read(harness) else []
    assert read_at == [105.0, 110.0]


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("error", [psutil.NoSuchProcess(1), psutil.AccessDenied(1), PermissionError("/proc")])
def test_a_machine_that_does_not_tell_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse() -> None:
        raise error

    harness = monitored()
    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    assert read(harness) == {}


class Gpu:
    """What of torch is asked for, as it counts."""

    def __init__(self, *, is_in_use: bool = True) -> None:
        counted = {
            "allocated_bytes.all.current": GIB,
            "allocated_bytes.all.peak": 3 * GIB,
            "reserved_bytes.all.current": 2 * GIB,
        }
        self.cuda = SimpleNamespace(
            is_initialized=lambda: is_in_use,
            memory_stats=lambda: counted,
            get_device_properties=lambda: SimpleNamespace(uuid="1234-abcd"),
        )


class Driver:
    """What of the driver's library is asked for."""

    NVML_TEMPERATURE_GPU = 0
    __spec__ = SimpleNamespace()

    class NVMLError(Exception):
        pass

    def __init__(self, *, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers = {"nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97), "nvmlDeviceGetTemperature": 61,
                   "nvmlDeviceGetPowerUsage": 412500, "nvmlInit": None}  # fmt: skip

        def answer(*arguments: Any) -> Any:
            self.asked.append(name)
            if name == self.fails_at:
                raise self.NVMLError("gone")
            return arguments[0] if name == "nvmlDeviceGetHandleByUUID" else answers[name]

        return answer


def test_memory_on_the_gpu_is_what_torch_has_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", Gpu())
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    values = read(monitored())
    assert {name: values[name] for name in OF_TORCH} == {
        "system/cuda_allocated_gib": 1.0, "system/cuda_reserved_gib": 2.0, "system/cuda_peak_gib": 3.0
    }  # fmt: skip
    assert set(values) == OF_PROCESSES | OF_TORCH


def test_a_gpu_that_is_not_in_use_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", Gpu(is_in_use=False))
    monkeypatch.setitem(sys.modules, "pynvml", driver := Driver())
    assert set(read(monitored())) == OF_PROCESSES
    assert driver.asked == []


def test_the_driver_tells_load_heat_and_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", Gpu())
    monkeypatch.setitem(sys.modules, "pynvml", driver := Driver())
    harness = monitored()
    for _ in range(2):
        values = read(harness)
        assert {name: values[name] for name in OF_DRIVER} == {
            "system/gpu_percent": 97.0, "system/gpu_celsius": 61.0, "system/gpu_watts": 412.5
        }  # fmt: skip
    assert driver.asked.count("nvmlInit") == 1


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTemperature"])
def test_a_driver_that_fails_is_asked_once(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setitem(sys.modules, "torch", Gpu())
    monkeypatch.setitem(sys.modules, "pynvml", driver := Driver(fails_at=call))
    harness = monitored()
    for _ in range(2):
        assert set(read(harness)) == OF_PROCESSES | OF_TORCH
    assert driver.asked.count(call) == 1


@pytest.mark.gpu
def test_a_real_gpu_is_read() -> None:
    import torch

    torch.ones(1 << 20, device="cuda")
    assert set(read(monitored())) >= OF_PROCESSES | OF_TORCH


def test_a_run_with_it_ends_as_without(train: Callable[..., Run]) -> None:
    sink = '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'
    table = sink + '\n[[plugins]]\nuse = "plugins.monitor.Monitor"\nseconds = 0.0\n'
    plain, watched = train("run.name=plain", plugins=sink), train(plugins=table)
    assert all(set(report["values"]) >= OF_PROCESSES for report in reports(watched.folder))
    states = plain.state(), watched.state()
    assert "system/" not in str(states[1]["state"])
    for state in states:
        for key in ("plan", "plugins", "versions"):
            del state["state"][key]  # type: ignore[attr-defined]  # a dict
    assert_same(*states)


def test_a_missing_package_is_told_when_the_plugin_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)  # as if it were not installed
    with pytest.raises(AttachError, match="pip install psutil"):
        build_plugin(PluginTable(use="plugins.monitor.Monitor", name="monitor", position=0, settings={}))
