"""What the machine is doing, among the metrics: processor, memory, GPU."""

import importlib.util
import logging
import sys
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from pydantic import Field

from events import Plugin, PluginSettings, on, transform
from events.payloads import MetricsContext, RunStart

if TYPE_CHECKING:
    import psutil

log = logging.getLogger("signalbox.plugins")
GIB = 2**30
LIST_SECONDS = 30.0
"""How long the list of processes is taken to be true."""


class Monitor(Plugin):
    """Add `system/...` to the reports: of this run's processes, of the machine, and of the GPU that it trains on.

    `system/cpu_percent` (100 is one core) and `system/memory_gib` are of the run with its loader workers, pages that they
    share counted in each; `system/memory_percent` is how full the machine's memory is. With several processes it is the
    main one, its workers and its GPU. On CUDA
    `system/cuda_allocated_gib`, `system/cuda_reserved_gib` and `system/cuda_peak_gib` are what torch knows without asking
    the device, and where `nvidia-ml-py` is installed, `system/gpu_percent`, `system/gpu_celsius` and `system/gpu_watts`.
    """

    class Settings(PluginSettings):
        seconds: float = Field(5.0, ge=0, description="between two readings at least; reports in between have none")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        """Raises ModuleNotFoundError when psutil is not installed."""
        super().__init__(settings, name=name)
        if importlib.util.find_spec("psutil") is None:
            raise ModuleNotFoundError("psutil is not installed; pip install psutil, or leave the plugin out")
        self._read_at = float("-inf")
        self._used: dict[int, float] = {}
        """Seconds of processor time by process, at the last reading."""
        self._processes: list[psutil.Process] = []
        """This one and those that it has started, such as loader workers."""
        self._listed_at = float("-inf")
        self._gpu: Any = None
        """The driver's handle of the GPU; False where there is none to be had."""

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        """From here on the processor's time counts."""
        self.add({}, MetricsContext(step=event.resumed_step, epoch=0))

    @transform("metrics.record")
    def add(self, values: dict[str, float], context: MetricsContext) -> dict[str, float]:
        """A machine that does not tell is no reason to stop. With several processes nobody reads what the others would add."""
        import psutil

        now = monotonic()
        if not self.ranks.is_main or now - self._read_at < self.settings.seconds:
            return values
        passed, self._read_at = now - self._read_at, now
        with suppress(psutil.Error, OSError):
            self._list(now)
            return values | self._of_processes(passed) | _of_torch() | self._of_driver()
        return values

    def _list(self, now: float) -> None:
        """Which processes there are, now and then, and when one has gone: that takes milliseconds, where many are."""
        import psutil

        if now - self._listed_at >= LIST_SECONDS:
            own = psutil.Process()
            self._processes, self._listed_at = [own, *own.children(recursive=True)], now

    def _of_processes(self, passed: float) -> dict[str, float]:
        """`passed` are the seconds since the last reading."""
        import psutil

        spent, resident = 0.0, 0
        for process in self._processes:
            try:
                times, memory = process.cpu_times(), process.memory_info()
            except psutil.Error:  # it has gone
                self._listed_at = float("-inf")
                continue
            used = times.user + times.system
            spent += used - self._used.get(process.pid, used)
            self._used[process.pid] = used
            resident += memory.rss
        return {
            "system/cpu_percent": round(100 * spent / passed, 1) if passed else 0.0,
            "system/memory_gib": round(resident / GIB, 3),
            "system/memory_percent": float(psutil.virtual_memory().percent),
        }

    def _of_driver(self) -> dict[str, float]:
        if self._gpu is None:
            self._gpu = _gpu_handle()
        if self._gpu is False:
            return {}
        import pynvml

        try:
            return {
                "system/gpu_percent": float(pynvml.nvmlDeviceGetUtilizationRates(self._gpu).gpu),
                "system/gpu_celsius": float(pynvml.nvmlDeviceGetTemperature(self._gpu, pynvml.NVML_TEMPERATURE_GPU)),
                "system/gpu_watts": pynvml.nvmlDeviceGetPowerUsage(self._gpu) / 1000,
            }
        except pynvml.NVMLError as error:
            log.warning("the GPU is not read any more: %s", error)
            self._gpu = False
            return {}


def _of_torch() -> dict[str, float]:
    """What torch has counted on the host, nothing where no GPU is in use."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    counted = torch.cuda.memory_stats()
    names = {"allocated": "allocated_bytes.all.current", "reserved": "reserved_bytes.all.current",
             "peak": "allocated_bytes.all.peak"}  # fmt: skip
    return {f"system/cuda_{name}_gib": round(counted.get(key, 0) / GIB, 3) for name, key in names.items()}


def _gpu_handle() -> Any:
    """Of the GPU that torch uses, found by its identity, since numbers change with CUDA_VISIBLE_DEVICES; False without."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized() or importlib.util.find_spec("pynvml") is None:
        return False
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")
    except pynvml.NVMLError as error:
        log.info("the GPU's load is not read: %s", error)
        return False
