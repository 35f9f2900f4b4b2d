"""A class-style plugin runs as written: what it overrides is subscribed, with the arguments that matter and no others."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import Field

from events import Plugin, PluginSettings, on
from events.errors import AttachError, ControlError, PluginError
from events.payloads import EpochEnd
from events.testing import (
    GivenRanks,
    Harness,
    batch,
    checkpoint_saved,
    epoch_end,
    epoch_start,
    live_state,
    model_loaded,
    run_end,
    run_info,
    run_start,
    sample_context,
    step_end,
    step_start,
)
from plugins.plugins import HOOKS, BasePlugin

RUN = run_info("runs/demo", name="demo", data_roots=("cats", "dogs"))
EPOCH = {"project_name", "log_folder", "data_root", "epoch", "global_step", "epoch_length", "arg_update_callback"}
STEP = EPOCH | {"local_step", "batch", "batches", "live_state"}
TRAINING = {"project_name", "log_folder", "data_root", "global_step"}


class Recorder(BasePlugin):
    """Overrides every hook that looks on."""

    def __init__(self) -> None:
        self.given: dict[str, dict[str, Any]] = {}

    def on_training_start(self, **kwargs: Any) -> None:
        self.given["on_training_start"] = kwargs

    def on_training_end(self, **kwargs: Any) -> None:
        self.given["on_training_end"] = kwargs

    def on_epoch_start(self, **kwargs: Any) -> None:
        self.given["on_epoch_start"] = kwargs

    def on_epoch_end(self, **kwargs: Any) -> None:
        self.given["on_epoch_end"] = kwargs

    def on_step_start(self, **kwargs: Any) -> None:
        self.given["on_step_start"] = kwargs

    def on_step_end(self, **kwargs: Any) -> None:
        self.given["on_step_end"] = kwargs

    def on_model_load(self, **kwargs: Any) -> None:
        self.given["on_model_load"] = kwargs

    def on_model_save(self, **kwargs: Any) -> None:
        self.given["on_model_save"] = kwargs


UNET, TEXT, VAE = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
MODULES = {"unet": UNET, "text_encoder": TEXT, "vae": VAE}
EVENTS: dict[str, tuple[str, Callable[[], Any], set[str]]] = {
    "on_training_start": ("run.start", lambda: run_start(run=RUN, resumed_step=5), TRAINING),
    "on_training_end": ("run.end", lambda: run_end(run=RUN, reason="asked"), TRAINING | {"reason"}),
    "on_epoch_start": ("epoch.start", lambda: epoch_start(run=RUN, epoch=2), EPOCH),
    "on_epoch_end": ("epoch.end", lambda: epoch_end(run=RUN, epoch=2), EPOCH),
    "on_step_start": ("step.start", lambda: step_start(batch(torch.zeros(1, 3, 8, 8)), run=RUN), STEP),
    "on_step_end": ("step.end", lambda: step_end(batch(torch.zeros(1, 3, 8, 8)), run=RUN), STEP),
    "on_model_load": (
        "model.loaded",
        lambda: model_loaded(MODULES, run=RUN, tokenizers={"text_encoder": "the tokenizer"}),
        {"unet", "text_encoder", "vae", "tokenizer", "project_name", "log_folder"},
    ),
    "on_model_save": (
        "checkpoint.saved",
        lambda: checkpoint_saved(run=RUN, step=500),
        {"save_path", "global_step", "project_name", "log_folder"},
    ),
}


def given(hook: str) -> dict[str, Any]:
    """What a hook is called with."""
    recorder = Recorder()
    signal, event, _ = EVENTS[hook]
    Harness(recorder).emit(signal, event())
    return recorder.given[hook]


def source(function: Any) -> str:
    return f"{Path(__file__).name}:{inspect.getsourcelines(function)[1]}"


def problems_of(*plugins: Plugin) -> tuple[str, ...]:
    with pytest.raises(AttachError) as caught:
        Harness(*plugins)
    return caught.value.problems


def test_the_example_of_the_manual_runs_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    class MyPlugin(BasePlugin):
        def on_epoch_end(self, **kwargs):
            print(f"hello world, this is a plugin at the end of epoch number: {kwargs['epoch']}")

    Harness(MyPlugin()).emit("epoch.end", epoch_end(epoch=3))
    assert capsys.readouterr().out == "hello world, this is a plugin at the end of epoch number: 3\n"


@pytest.mark.parametrize("hook", EVENTS)
def test_a_hook_is_given_exactly_the_arguments_that_matter_to_it(hook: str) -> None:
    assert set(given(hook)) == EVENTS[hook][2]


@pytest.mark.parametrize("hook", EVENTS)
def test_the_arguments_a_hook_is_checked_for_are_those_it_is_given(hook: str) -> None:
    assert set(HOOKS[hook].given[1]) == set(given(hook))


def test_epoch_hooks_count_epochs_and_steps() -> None:
    facts = given("on_epoch_end")
    assert (facts["epoch"], facts["global_step"], facts["epoch_length"]) == (2, 10, 10)
    assert (facts["project_name"], facts["log_folder"], facts["data_root"]) == ("demo", "runs/demo", "cats")


def test_step_hooks_are_given_the_first_batch_and_all_of_them() -> None:
    recorder = Recorder()
    first, second = batch(torch.zeros(1, 3, 8, 8)), batch(torch.ones(1, 3, 8, 8))
    live = live_state(MODULES)
    Harness(recorder).emit("step.end", step_end(first, second, step=6, step_in_epoch=2, live=live))
    facts = recorder.given["on_step_end"]
    assert facts["batch"] is first
    assert facts["batches"] == (first, second)
    assert facts["live_state"] is live
    assert (facts["global_step"], facts["local_step"]) == (6, 2)


def test_the_load_hook_is_given_modules_and_tokenizer_by_name() -> None:
    facts = given("on_model_load")
    assert facts["unet"] is UNET
    assert facts["tokenizer"] == "the tokenizer"


def test_the_save_hook_is_given_where_the_checkpoint_lies() -> None:
    facts = given("on_model_save")
    assert facts["save_path"] == str(RUN.folder / "checkpoints" / "step-00000500")
    assert facts["global_step"] == 500


def test_the_end_hook_is_given_the_reason() -> None:
    assert given("on_training_end")["reason"] == "asked"


@pytest.mark.parametrize(
    ("runs_on", "rank", "called"),
    [
        (None, 0, {"on_epoch_end", "on_model_load"}),
        (None, 1, {"on_model_load"}),
        ("all", 1, {"on_epoch_end", "on_model_load"}),
        ("main", 1, set()),
    ],
)
def test_of_several_processes_its_hooks_run_where_their_signals_have_it_or_where_the_class_says(
    runs_on: Any, rank: int, called: set[str]
) -> None:
    plugin = type("Ranked", (Recorder,), {"runs_on": runs_on})()
    harness = Harness(plugin, ranks=GivenRanks(rank, 2))
    harness.emit("epoch.end", epoch_end())
    harness.emit("model.loaded", model_loaded({}))
    assert set(plugin.given) == called


def test_its_transforms_run_on_every_process_whatever_the_class_says() -> None:
    class Shout(BasePlugin):
        runs_on = "main"

        def transform_caption(self, caption: str) -> str:
            return caption.upper()

    assert Harness(Shout(), ranks=GivenRanks(1, 2)).apply("sample.caption", "a", sample_context()) == "A"


def test_a_class_that_runs_nowhere_that_there_is_is_named() -> None:
    plugin = type("Ranked", (BasePlugin,), {"runs_on": "some", "on_epoch_end": lambda self, **kwargs: None})()
    with pytest.raises(AttachError, match=r"Ranked\.on_epoch_end: ranks is \"main\" or \"all\", not 'some'"):
        Harness(plugin)


def test_what_is_not_overridden_is_not_subscribed() -> None:
    class OnlyOne(BasePlugin):
        def on_step_end(self, **kwargs: Any) -> None: ...

    bus = Harness(OnlyOne()).bus
    assert [signal.name for signal in bus.signals if signal.handlers] == ["step.end"]
    assert not any(signal.handlers for signal in Harness(BasePlugin()).bus.signals)


def test_the_plan_shows_where_the_authors_method_is_written() -> None:
    class Shown(BasePlugin):
        def on_epoch_end(self, **kwargs: Any) -> None: ...

    (handler,) = next(signal for signal in Harness(Shown()).bus.signals if signal.name == "epoch.end").handlers
    assert handler.source.endswith(source(Shown.on_epoch_end))
    assert handler.label == "Shown.on_epoch_end"


def test_captions_and_pictures_are_transformed_without_a_context() -> None:
    class Transforming(BasePlugin):
        def transform_caption(self, caption: str) -> str:
            return caption.upper()

        def transform_pil_image(self, img: Image.Image) -> Image.Image:
            return img.rotate(90, expand=True)

    harness = Harness(Transforming())
    assert harness.apply("sample.caption", "a, b", sample_context()) == "A, B"
    assert harness.apply("sample.image", Image.new("RGB", (2, 5)), sample_context()).size == (5, 2)


def test_decorated_methods_work_beside_hooks() -> None:
    class Both(BasePlugin):
        def __init__(self) -> None:
            self.calls: list[str] = []

        @on("epoch.end", priority=10)
        def first(self, event: EpochEnd) -> None:
            self.calls.append("first")

        def on_epoch_end(self, **kwargs: Any) -> None:
            self.calls.append("hook")

    plugin = Both()
    Harness(plugin).emit("epoch.end", epoch_end())
    assert plugin.calls == ["first", "hook"]


def test_a_hook_with_a_decorator_counts_as_decorated() -> None:
    class Decorated(BasePlugin):
        def __init__(self) -> None:
            self.events: list[Any] = []

        @on("epoch.end")
        def on_epoch_end(self, event: EpochEnd) -> None:  # type: ignore[override]
            self.events.append(event)

    plugin, event = Decorated(), epoch_end()
    Harness(plugin).emit("epoch.end", event)
    assert plugin.events == [event]


def test_a_hook_inherited_from_another_plugin_is_subscribed() -> None:
    class Child(Recorder):
        pass

    plugin = Child()
    Harness(plugin).emit("epoch.end", epoch_end())
    assert "on_epoch_end" in plugin.given


def test_a_hook_that_is_none_is_taken_out_and_other_attributes_are_no_hooks() -> None:
    class Quiet(Recorder):
        on_epoch_end = None  # type: ignore[assignment]
        on_colour = "red"

    signals = {signal.name: signal for signal in Harness(Quiet()).bus.signals}
    assert not signals["epoch.end"].handlers
    assert signals["epoch.start"].handlers


def test_settings_reach_a_plugin_whose_init_takes_none() -> None:
    class Counting(BasePlugin):
        class Settings(PluginSettings):
            start: int = Field(0, description="first number")

        def __init__(self) -> None:
            super().__init__()
            self.number = self.settings.start

    plugin = Counting(Counting.Settings(start=3), name="counter")
    assert (plugin.number, plugin.settings.start, plugin.name) == (3, 3, "counter")


def test_the_callback_sets_a_setting_by_its_familiar_or_its_dotted_name() -> None:
    event = epoch_end(run=RUN)
    recorder = Recorder()
    Harness(recorder).emit("epoch.end", event)
    update = recorder.given["on_epoch_end"]["arg_update_callback"]
    update("grad_accum", 4)
    update("preview.every_steps", 50)
    asked = [(request.key, request.value, request.asker) for request in event.control.take("set")]
    assert asked == [("train.accumulate", 4, "Recorder"), ("preview.every_steps", 50, "Recorder")]


@pytest.mark.parametrize(("name", "value"), [("train.batch_size", 8), ("grad_accum", 0)])
def test_the_callback_refuses_what_cannot_be_set(name: str, value: int) -> None:
    class Wishing(BasePlugin):
        def on_epoch_end(self, *, arg_update_callback: Callable[[str, object], None], **kwargs: Any) -> None:
            arg_update_callback(name, value)

    with pytest.raises(PluginError) as caught:
        Harness(Wishing()).emit("epoch.end", epoch_end())
    assert isinstance(caught.value.__cause__, ControlError)


def test_an_async_hook_is_refused_where_training_must_wait_for_it() -> None:
    class Late(BasePlugin):
        async def on_epoch_end(self, **kwargs: Any) -> None: ...

    (problem,) = problems_of(Late())
    assert source(Late.on_epoch_end) in problem
    assert "is async, but epoch.end must be handled before training goes on" in problem


def test_an_async_hook_runs_where_the_catalogue_allows_it() -> None:
    class Saving(BasePlugin):
        def __init__(self) -> None:
            self.paths: list[str] = []

        async def on_model_save(self, **kwargs: Any) -> None:
            self.paths.append(kwargs["save_path"])

    plugin = Saving()
    with Harness(plugin) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved(run=RUN, step=1))
        harness.drain()
    assert plugin.paths == [str(RUN.folder / "checkpoints" / "step-00000001")]


def test_wrong_parameters_are_told_with_file_line_and_what_is_given() -> None:
    class Forgetful(BasePlugin):
        def transform_caption(self) -> str:  # type: ignore[override]
            return ""

        def on_epoch_end(self, epoch: int) -> None:  # type: ignore[override]
            ...

    told = "\n".join(problems_of(Forgetful()))
    assert f"{source(Forgetful.transform_caption)}: Forgetful: Forgetful.transform_caption" in told
    assert "is called with (caption): too many positional arguments" in told
    assert source(Forgetful.on_epoch_end) in told
    assert "got an unexpected keyword argument" in told
    assert "**kwargs takes what you leave out" in told


def test_a_transform_that_asks_for_a_context_is_refused() -> None:
    class Asking(BasePlugin):
        def transform_caption(self, caption: str, sample: Any) -> str:  # type: ignore[override]
            return caption

    (problem,) = problems_of(Asking())
    assert "missing a required argument: 'sample'" in problem


def test_a_misspelt_hook_is_told_with_the_right_name() -> None:
    class Misspelt(BasePlugin):
        def on_epoch_ends(self, **kwargs: Any) -> None: ...

    (problem,) = problems_of(Misspelt())
    assert source(Misspelt.on_epoch_ends) in problem
    assert "is no hook, so it would never be called; did you mean on_epoch_end?" in problem


def test_other_plugins_problems_are_told_beside_its_own() -> None:
    class Misspelt(BasePlugin):
        def on_epoch_ends(self, **kwargs: Any) -> None: ...

    class Wrong(Plugin):
        @on("epoch.ends")
        def hear(self, event: EpochEnd) -> None: ...

    told = problems_of(Misspelt(), Wrong())
    assert len(told) == 2
    assert "on_epoch_ends" in told[0]
    assert "epoch.end" in told[1]


def test_a_forgotten_return_is_told() -> None:
    class Forgetful(BasePlugin):
        def transform_caption(self, caption: str) -> str:  # type: ignore[return]
            caption.upper()

    with pytest.raises(PluginError, match="Forgetful"):
        Harness(Forgetful()).apply("sample.caption", "a", sample_context())
