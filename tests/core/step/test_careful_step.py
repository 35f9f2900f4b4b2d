"""A step in which memory ran out is taken once more or told in full, and a plugin's function that fails is named."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core.config.file import load_config
from core.errors import OutOfMemoryError
from core.ranks.crew import ONE
from core.step.careful import CarefulStep
from core.step.closed import Round, Rounds
from core.step.memory import is_out_of_memory
from events.bus import Bus
from events.errors import BusClosed, PluginError
from events.testing import batch
from tests.core.plugins_for_tests import EmitInStep, SpoilLoss
from tests.events.conftest import table_of
from tests.small_runs import Run

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand more")


class Trying:
    """A step that does one thing after the other, each time it is taken."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.is_torn, self.dropped, self.enabled = [*outcomes], False, 0, []

    def take(self, batches: Any, steps_taken: int) -> dict[str, float]:
        self.enabled.append(torch.is_grad_enabled())
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome() if callable(outcome) else {"all": 0.1}

    def drop_gradients(self) -> None:
        self.dropped += 1


@pytest.fixture
def careful(write_config: Callable[..., Path]) -> Callable[..., tuple[CarefulStep, Trying]]:
    config = load_config(write_config(), ["train.accumulate=2"], lambda *_: [])

    def make(*outcomes: Any, plugins: Any = ()) -> tuple[CarefulStep, Trying]:
        bus, step = Bus(), Trying(*outcomes)
        bus.attach([(plugin, table_of(plugin, place)) for place, plugin in enumerate(plugins)])
        device: Any = SimpleNamespace(device=torch.device("cpu"), ranks=ONE)
        return CarefulStep(config=config, bus=bus, device=device, step=step), step  # type: ignore[arg-type]

    return make


BATCHES = Rounds(
    all=tuple(Round(batch=batch(torch.zeros(4, 3, 48, 32)), number=number) for number in range(2)), images=8, count=2
)


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ],
)
def test_memory_that_ran_out_once_is_made_good(careful: Any, error: Exception, caplog: Any) -> None:
    one, step = careful(error, None)
    assert is_out_of_memory(error)
    assert one.take(BATCHES, 6) == {"all": 0.1}
    assert step.dropped == 1
    assert caplog.records[0].getMessage().startswith("memory ran out in step 7 (")


def test_the_second_time_it_says_what_did_not_fit_and_what_to_change(careful: Any) -> None:
    one, step = careful(FULL, FULL)
    with pytest.raises(OutOfMemoryError) as caught:
        one.take(BATCHES, 6)
    assert caught.value.exit_code == 7
    assert step.dropped == 2
    said = str(caught.value)
    assert said.startswith("memory ran out twice in step 7, which had 4 samples of 32 x 48 pixels a forward pass")
    assert "(train.batch_size = 4, train.accumulate = 2, data.resolution = 32)" in said
    assert "Set train.batch_size = 2 and train.accumulate = 4" in said
    assert said.endswith("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_step_that_has_begun_to_write_weights_is_not_taken_again(careful: Any) -> None:
    one, step = careful(FULL, None)
    step.is_torn = True
    with pytest.raises(OutOfMemoryError, match="the last checkpoint stands"):
        one.take(BATCHES, 6)
    assert len(step.outcomes) == 1


def test_gradients_are_on_whatever_a_handler_has_left(careful: Any) -> None:
    one, step = careful(None)
    torch.set_grad_enabled(False)
    one.take(BATCHES, 0)
    assert step.enabled == [True]


def test_an_error_of_our_own_keeps_its_traceback(careful: Any) -> None:
    one, _ = careful(ZeroDivisionError("ours"), plugins=[SpoilLoss(SpoilLoss.Settings(steps=()))])
    with pytest.raises(ZeroDivisionError, match="ours"):
        one.take(BATCHES, 0)


def test_a_function_that_a_plugin_gave_is_named_with_plugin_place_and_signal(careful: Any) -> None:
    plugin = SpoilLoss(SpoilLoss.Settings(steps=()))
    function = plugin.spoil(lambda *_: 1 / 0, SimpleNamespace())  # type: ignore[arg-type,return-value]
    one, _ = careful(lambda: function(None, None, None, None), plugins=[EmitInStep(), plugin])
    with pytest.raises(PluginError) as caught:
        one.take(BATCHES, 6)
    said = str(caught.value)
    assert said.startswith(
        "plugin SpoilLoss failed in SpoilLoss.spoil.<locals>.spoiled (tests/core/plugins_for_tests.py:"
    )
    assert said.endswith(", which it gave at build.loss, in step 7: ZeroDivisionError: division by zero")
    assert (caught.value.plugin, caught.value.signal) == ("SpoilLoss", "build.loss")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_in_a_run_it_is_a_plugins_error_and_what_was_trained_is_saved(
    train: Callable[..., Run], tmp_path: Path
) -> None:
    plugins = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.FailAt"\nstep = 4\n'
    with pytest.raises(PluginError, match=r"plugin FailAt failed in FailAt\.give\.<locals>\.failing .* in step 4"):
        train(plugins=plugins)
    assert sorted(path.name for path in (tmp_path / "runs/test/checkpoints").iterdir())[-1] == "step-00000003"


def test_an_emit_within_the_step_is_the_fault_of_who_emits(train: Callable[..., Run]) -> None:
    with pytest.raises(PluginError, match="plugin EmitInStep failed") as caught:
        train("train.steps=2", plugins='\n[[plugins]]\nuse = "tests.core.plugins_for_tests.EmitInStep"\n')
    assert isinstance(caught.value.__cause__, BusClosed)
