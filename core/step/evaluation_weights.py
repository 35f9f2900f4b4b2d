"""Weights that some optimizers keep for evaluation beside those they train (schedule-free: Defazio et al. 2024, 2405.15682)."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer


def has_evaluation_weights(optimizer: Optimizer) -> bool:
    """Whether it switches its weights, by `train()` and `eval()`."""
    return all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))


@contextmanager
def evaluation_weights(optimizer: Optimizer) -> Generator[None, None, None]:
    """The optimizer's weights for evaluation within, and those it trains after, bit for bit; else nothing.

    Switching forth and back rounds, so what is trained is kept aside: as much memory again as the trained weights, for
    as long as this lasts. May be nested, and goes around whatever swaps weights by itself, such as an average.
    """
    if not has_evaluation_weights(optimizer):
        yield
        return
    switching: Any = optimizer
    tables = optimizer.param_groups
    kept = [(parameter, parameter.detach().clone()) for table in tables for parameter in table["params"]]
    entries = [{key: value for key, value in table.items() if key != "params"} for table in tables]
    switching.eval()
    try:
        yield
    finally:
        switching.train()
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        for table, before in zip(tables, entries, strict=True):
            table.update(before)
