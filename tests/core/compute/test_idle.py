"""Encoders that caches make idle leave the device, and are there whenever previews or the caches need them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.compute.idle import IdleModules
from tests.small_runs import Run, assert_same_state

AWAY, HOME = torch.device("cpu"), torch.device("meta")


class Traveller(nn.Module):
    """Remembers where it was sent; a device other than the CPU cannot be had here."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def to(self, device: Any) -> "Traveller":  # type: ignore[override]  # only devices are asked for
        self.sent.append(torch.device(device).type)
        return self


def test_idle_modules_leave_and_the_others_stay() -> None:
    modules = {"vae": Traveller(), "unet": Traveller()}
    IdleModules(modules, HOME).rest(["vae"])
    assert (modules["vae"].sent, modules["unet"].sent) == (["cpu"], [])


def test_they_are_there_while_they_are_needed_and_not_sent_twice() -> None:
    vae = Traveller()
    idle = IdleModules({"vae": vae}, HOME)
    idle.rest(["vae"])
    with idle.awake(), idle.awake():
        assert vae.sent == ["cpu", "meta"]
    assert vae.sent == ["cpu", "meta", "cpu"]


def test_they_leave_again_after_an_error() -> None:
    vae = Traveller()
    idle = IdleModules({"vae": vae}, HOME)
    idle.rest(["vae"])
    with pytest.raises(RuntimeError), idle.awake():
        raise RuntimeError
    assert vae.sent[-1] == "cpu"


def test_a_module_is_looked_up_when_it_is_needed() -> None:
    modules = {"vae": Traveller()}
    idle = IdleModules(modules, HOME)
    idle.rest(["vae"])
    modules["vae"] = Traveller()
    with idle.awake():
        assert modules["vae"].sent == ["meta"]


@pytest.mark.parametrize(
    ("overrides", "idle"),
    [
        (("cache.latents=true", "cache.text=true"), {"vae", "text_encoder"}),
        (("cache.latents=true",), {"vae"}),
        (("cache.latents=true", "cache.text=true", 'model.train=["unet", "text_encoder"]'), {"vae"}),
        (("cache.latents=true", "cache.text=true", "cache.offload=false"), set()),
        ((), set()),
    ],
)
def test_what_is_idle_follows_from_what_is_cached(
    write_config: Callable[..., Path], overrides: tuple[str, ...], idle: set[str]
) -> None:
    assert assembled(write_config, 'model.train=["unet"]', *overrides) == idle


def assembled(write_config: Callable[..., Path], *overrides: str) -> set[str]:
    """The names of the idle modules of a run that is assembled and not trained."""
    import run
    from core.run.session import Session
    from core.run_folder.folder import find_run

    path = write_config()
    config = run.load(path, list(overrides))
    bus, source = run.assemble_bus(config, path)
    session = Session(config, bus, source, find_run(config, fresh=False))
    assembly = session._assembly
    try:
        assembly.build_trainer(assembly.find_data())
        return set(assembly.idle)
    finally:
        assembly.close()


def test_previews_come_out_the_same_with_idle_encoders(train: Callable[..., Run]) -> None:
    settings = ("train.steps=2", "cache.latents=true", 'model.train=["unet"]', "preview.at_end=true")
    one = train("run.name=one", *settings)
    other = train("run.name=other", *settings, "cache.offload=false")
    assert_same_state(one, other)
    left, right = (sorted(run.folder.glob("previews/*/0*.png")) for run in (one, other))
    assert [path.read_bytes() for path in left] == [path.read_bytes() for path in right] != []
