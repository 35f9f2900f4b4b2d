"""Every payload in one call, with a default for everything that it can be made without.

Made without torch, so what holds tensors, modules or pictures is given by the test.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .. import payloads
from ..control import Control
from ..payloads.read_only import ReadOnly
from ..randomness import Streams
from .recorder import NotedControl
from .stand_ins import Absent, CosineSchedule, PlainNames

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NOTHING: Mapping[str, Any] = ReadOnly()


RUN = payloads.RunInfo(name="test", folder=Path("runs/test"), seed=0, steps=100, data_roots=("pictures",))
ITEM = payloads.Item(id="pictures/a.png", path=Path("pictures/a.png"), caption="a red heart", width=64, height=64)
SETTINGS = payloads.ItemSettings()
SCHEDULE = CosineSchedule()
NAMES = PlainNames()


def control() -> NotedControl:
    """As a run's, whose requests ``event.control.take("stop")`` takes; `asked` holds all of them, for good."""
    return NotedControl()


def run_info(
    folder: Path | str = "runs/test", *, name: str = "test", seed: int = 0, steps: int = 100,
    data_roots: tuple[str, ...] = ("pictures",),
) -> payloads.RunInfo:  # fmt: skip
    """Nothing is written to the folder; give pytest's `tmp_path` where your plugin writes."""
    return payloads.RunInfo(name=name, folder=Path(folder), seed=seed, steps=steps, data_roots=data_roots)


def configure_context(*, source: str = "config.toml") -> payloads.ConfigureContext:
    return payloads.ConfigureContext(source=source)


def run_start(
    *, run: payloads.RunInfo = RUN, config: Mapping[str, Any] = NOTHING, resumed_step: int = 0,
    control: Control | None = None,
) -> payloads.RunStart:  # fmt: skip
    return payloads.RunStart(run=run, config=config, resumed_step=resumed_step, control=control or _control())


def run_error(
    error: BaseException | None = None, *, run: payloads.RunInfo = RUN, step: int = 10, where: str = "training"
) -> payloads.RunError:
    return payloads.RunError(run=run, step=step, error=error or RuntimeError("a test's error"), where=where)


def run_end(
    *, run: payloads.RunInfo = RUN, step: int = 100, reason: str = "complete", seconds: float = 60.0
) -> payloads.RunEnd:
    return payloads.RunEnd(run=run, step=step, reason=reason, seconds=seconds)


def run_close(*, run: payloads.RunInfo = RUN) -> payloads.RunClose:
    return payloads.RunClose(run=run)


def item(
    *, id: str = "pictures/a.png", path: Path | str = "pictures/a.png", caption: str = "a red heart", width: int = 64,
    height: int = 64, caption_from: str = ".txt", mask: payloads.Mask = "",
    settings: payloads.ItemSettings = SETTINGS, extras: Mapping[str, Any] = NOTHING,
) -> payloads.Item:  # fmt: skip
    return payloads.Item(
        id=id, path=Path(path), caption=caption, width=width, height=height, caption_from=caption_from, mask=mask,
        settings=settings, extras=dict(extras),
    )  # fmt: skip


def data_context(*, roots: tuple[str, ...] = ("pictures",), seed: int = 0) -> payloads.DataContext:
    return payloads.DataContext(roots=roots, seed=seed)


def data_ready(
    *, run: payloads.RunInfo = RUN, items: tuple[payloads.Item, ...] = (ITEM,),
    buckets: Mapping[tuple[int, int], int] | None = None, problems: tuple[str, ...] = (),
    validation: Mapping[str, int] = NOTHING,
) -> payloads.DataReady:  # fmt: skip
    buckets = {(32, 32): len(items)} if buckets is None else buckets
    return payloads.DataReady(run=run, items=items, buckets=buckets, problems=problems, validation=validation)


def model_context(
    *,
    run: payloads.RunInfo = RUN,
    trained: tuple[str, ...] = ("unet",),
    steps: int = 100,
    names: payloads.AdapterNames = NAMES,
) -> payloads.ModelContext:
    return payloads.ModelContext(run=run, trained=trained, steps=steps, names=names)


def model_loaded(
    modules: "Mapping[str, torch.nn.Module]" = NOTHING, *, run: payloads.RunInfo = RUN,
    tokenizers: Mapping[str, Any] = NOTHING, schedule: payloads.NoiseSchedule = SCHEDULE,
) -> payloads.ModelLoaded:  # fmt: skip
    return payloads.ModelLoaded(run=run, modules=modules, tokenizers=tokenizers, schedule=schedule)


def model_ready(
    modules: "Mapping[str, torch.nn.Module]" = NOTHING, *, run: payloads.RunInfo = RUN,
    optimizer: "torch.optim.Optimizer | None" = None, groups: tuple[payloads.ParameterGroup, ...] = (),
) -> payloads.ModelReady:  # fmt: skip
    optimizer = optimizer or cast(Any, Absent("optimizer"))
    return payloads.ModelReady(run=run, modules=modules, optimizer=optimizer, groups=groups)


def step_parts(
    *, run: payloads.RunInfo = RUN, schedule: payloads.NoiseSchedule | None = None, prediction: str = "epsilon",
    steps: int = 100, device: "torch.device | str" = "cpu",
) -> payloads.StepParts:  # fmt: skip
    """`prediction` is that of the cosine schedule which stands in when none is given."""
    schedule = schedule or CosineSchedule(prediction)
    return payloads.StepParts(run=run, schedule=schedule, steps=steps, device=cast(Any, device))


def plan_context(
    *, epoch: int = 0, items: tuple[payloads.Item, ...] = (ITEM,), batch_size: int = 4, rng: Streams | None = None
) -> payloads.PlanContext:
    return payloads.PlanContext(
        epoch=epoch, items=items, batch_size=batch_size, rng=rng or Streams(0, "epoch.plan", epoch)
    )


def epoch_start(
    *, run: payloads.RunInfo = RUN, epoch: int = 0, step: int = 0, steps_in_epoch: int = 10, accumulate: int = 1,
    control: Control | None = None,
) -> payloads.EpochStart:  # fmt: skip
    return payloads.EpochStart(
        run=run, epoch=epoch, step=step, steps_in_epoch=steps_in_epoch, accumulate=accumulate,
        control=control or _control(),
    )  # fmt: skip


def epoch_end(
    *, run: payloads.RunInfo = RUN, epoch: int = 0, step: int = 10, steps_in_epoch: int = 10,
    mean_loss: float | None = 0.25, control: Control | None = None,
) -> payloads.EpochEnd:  # fmt: skip
    return payloads.EpochEnd(
        run=run, epoch=epoch, step=step, steps_in_epoch=steps_in_epoch, mean_loss=mean_loss,
        control=control or _control(),
    )  # fmt: skip


def sample_context(
    *, epoch: int = 0, sample_id: str = "pictures/a.png", repeat: int = 0, path: Path | str = "pictures/a.png",
    caption: str = "a red heart", size: tuple[int, int] = (64, 64), target: tuple[int, int] = (32, 32),
    settings: payloads.ItemSettings = SETTINGS, extras: Mapping[str, Any] = NOTHING, seed: int = 0,
) -> payloads.SampleContext:  # fmt: skip
    """Its random streams follow from seed, epoch, sample and repeat, as in a run."""
    return payloads.SampleContext(
        epoch=epoch, sample_id=sample_id, repeat=repeat, path=Path(path), caption=caption, size=size, target=target,
        settings=settings, extras=extras, rng=Streams(seed, "sample", epoch, sample_id, repeat),
    )  # fmt: skip


def batch_context(
    *, epoch: int = 0, sample_ids: tuple[str, ...] = ("pictures/a.png",), rng: Streams | None = None
) -> payloads.BatchContext:
    return payloads.BatchContext(epoch=epoch, sample_ids=sample_ids, rng=rng or Streams(0, "batch", epoch, *sample_ids))


def device_context(
    *, epoch: int = 0, step: int = 0, round: int = 0, rng: Streams | None = None
) -> payloads.DeviceContext:
    return payloads.DeviceContext(
        epoch=epoch, step=step, round=round, rng=rng or Streams(0, "batch.device", step, round)
    )


def batch(
    pixels: "Tensor", *, tokens: "Mapping[str, Tensor] | None" = None, weight: "Tensor | None" = None,
    captions: tuple[str, ...] | None = None, epoch: int = 0, extras: tuple[Mapping[str, Any], ...] | None = None,
) -> payloads.Batch:  # fmt: skip
    """Of the samples in pixels (B, 3, H, W): ids, paths and captions numbered, all weights 1, tokens (B, 8) of 0."""
    numbers = range(len(pixels))
    names = tuple(f"pictures/{number}.png" for number in numbers)
    return payloads.Batch(
        pixels=pixels,
        tokens=tokens or {"text_encoder": pixels.new_zeros(len(pixels), 8).long()},
        weight=pixels.new_ones(len(pixels)) if weight is None else weight,
        keys=tuple(payloads.SampleKey(epoch, number, 0) for number in numbers),
        sample_ids=names,
        captions=captions or tuple(f"picture {number}" for number in numbers),
        paths=names,
        geometry=pixels.new_tensor([[*pixels.shape[2:], 0, 0, *pixels.shape[2:]]] * len(pixels)).long(),
        extras=extras or (NOTHING,) * len(pixels),
    )


def live_state(
    modules: "Mapping[str, torch.nn.Module]" = NOTHING, *, optimizer: "torch.optim.Optimizer | None" = None,
    measure: "Callable[[payloads.Batch, int], Tensor] | None" = None,
) -> payloads.LiveState:  # fmt: skip
    """`measure` takes (batch, repeat) and returns the loss of each sample."""
    return payloads.LiveState(
        modules=modules,
        optimizer=optimizer or cast(Any, Absent("optimizer")),
        measure=measure or cast(Any, Absent("measure")),
    )


def step_start(
    *batches: payloads.Batch, run: payloads.RunInfo = RUN, step: int = 1, epoch: int = 0, step_in_epoch: int = 0,
    steps_in_epoch: int = 10, live: payloads.LiveState | None = None, control: Control | None = None,
) -> payloads.StepStart:  # fmt: skip
    return payloads.StepStart(
        run=run, step=step, epoch=epoch, step_in_epoch=step_in_epoch, steps_in_epoch=steps_in_epoch, batches=batches,
        live=live or live_state(), control=control or _control(),
    )  # fmt: skip


def step_end(
    *batches: payloads.Batch, run: payloads.RunInfo = RUN, step: int = 1, epoch: int = 0, step_in_epoch: int = 0,
    steps_in_epoch: int = 10, learning_rates: Mapping[str, float] = NOTHING, host_seconds: float = 0.5, live: payloads.LiveState | None = None,
    control: Control | None = None,
) -> payloads.StepEnd:  # fmt: skip
    return payloads.StepEnd(
        run=run, step=step, epoch=epoch, step_in_epoch=step_in_epoch, steps_in_epoch=steps_in_epoch,
        learning_rates=learning_rates or {"unet": 1e-4}, batches=batches, host_seconds=host_seconds,
        live=live or live_state(), control=control or _control(),
    )  # fmt: skip


def metrics_context(*, step: int = 10, epoch: int = 0) -> payloads.MetricsContext:
    return payloads.MetricsContext(step=step, epoch=epoch)


def metrics_ready(
    *, run: payloads.RunInfo = RUN, step: int = 10, epoch: int = 0, values: Mapping[str, float] | None = None
) -> payloads.MetricsReady:
    if values is None:
        values = {"loss": 0.25, "grad_norm": 1.0, "skipped": 0.0, "images": 40.0, "lr/unet": 1e-4}
    return payloads.MetricsReady(run=run, step=step, epoch=epoch, values=values)


def progress(
    *, run: payloads.RunInfo = RUN, step: int = 10, steps: int = 100, loss: float | None = 0.25,
    images_per_second: float = 8.0, eta_seconds: float = 45.0, data_fraction: float = 0.0,
) -> payloads.Progress:  # fmt: skip
    return payloads.Progress(
        run=run, step=step, steps=steps, loss=loss, images_per_second=images_per_second,
        eta_seconds=eta_seconds, data_fraction=data_fraction,
    )  # fmt: skip


def control_applied(
    *, step: int = 10, kind: str = "stop", key: str = "", value: Any = None, reason: str = "asked", asker: str = "test"
) -> payloads.ControlApplied:
    return payloads.ControlApplied(step=step, kind=kind, key=key, value=value, reason=reason, asker=asker)


def cache_start(
    *, run: payloads.RunInfo = RUN, product: payloads.Product = "latents", reused: int = 0, missing: int = 1,
    orphaned: int = 0, why: Mapping[str, int] = NOTHING,
) -> payloads.CacheStart:  # fmt: skip
    return payloads.CacheStart(run=run, product=product, reused=reused, missing=missing, orphaned=orphaned, why=why)


def cache_end(
    *, run: payloads.RunInfo = RUN, product: payloads.Product = "latents", reused: int = 0, encoded: int = 1,
    unreadable: int = 0, orphaned: int = 0, seconds: float = 1.0,
) -> payloads.CacheEnd:  # fmt: skip
    return payloads.CacheEnd(
        run=run, product=product, reused=reused, encoded=encoded, unreadable=unreadable, orphaned=orphaned,
        seconds=seconds,
    )  # fmt: skip


def validation_start(
    *, run: payloads.RunInfo = RUN, step: int = 10, reason: str = "every", images: Mapping[str, int] | None = None
) -> payloads.ValidationStart:
    return payloads.ValidationStart(run=run, step=step, reason=reason, images=images or {"held_out": 4})


def validation_end(
    *, run: payloads.RunInfo = RUN, step: int = 10, epoch: int = 0, losses: Mapping[str, float] | None = None,
    history: Mapping[str, tuple[tuple[int, float], ...]] | None = None, seconds: float = 1.0,
) -> payloads.ValidationEnd:  # fmt: skip
    """`history` ends with `losses` when left out."""
    losses = {"held_out": 0.25} if losses is None else losses
    history = history or {name: ((step, loss),) for name, loss in losses.items()}
    return payloads.ValidationEnd(run=run, step=step, epoch=epoch, losses=losses, history=history, seconds=seconds)


_control = control
"""Under a name that the parameters of the functions above do not hide."""
