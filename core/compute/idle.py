"""Encoders that the caches leave without work give the device's memory back, and return for as long as they are needed."""

import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager

import torch
from torch import nn

log = logging.getLogger("signalbox.model")


class IdleModules:
    """Modules that are on the CPU except while somebody needs them."""

    def __init__(self, modules: Mapping[str, nn.Module], device: torch.device) -> None:
        """`modules` are looked up by name at each use, so they may be wrapped meanwhile."""
        self._modules = modules
        self._device = device
        self._names: tuple[str, ...] = ()
        self._needed = 0

    def rest(self, names: Iterable[str]) -> None:
        """From now on these are idle."""
        self._names = tuple(names)
        if self._names and self._device.type != "cpu":
            log.info("%s leave the device until they are needed", ", ".join(self._names))
        self._move(torch.device("cpu"))

    def wake(self) -> None:
        """From now on none is idle."""
        self._move(self._device)
        self._names = ()

    @contextmanager
    def awake(self) -> Generator[None, None, None]:
        """All are on the device within; may be nested."""
        self._needed += 1
        if self._needed == 1:
            self._move(self._device)
        try:
            yield
        finally:
            self._needed -= 1
            if not self._needed:
                self._move(torch.device("cpu"))

    def _move(self, device: torch.device) -> None:
        for name in self._names:
            self._modules[name].to(device)
        if self._names and self._device.type == "cuda" and device.type == "cpu":
            torch.cuda.empty_cache()
