"""What a recipe of the cookbook makes of the left side of one of its lines, by the signal that it handles."""

import contextlib
import json
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from PIL import Image, ImageColor

from events import Plugin
from events.control import Control
from events.payloads import ParameterGroup, SampleKey
from events.testing import (
    Harness,
    checkpoint_saved,
    data_context,
    epoch_end,
    item,
    metrics_context,
    metrics_ready,
    model_context,
    model_ready,
    plan_context,
    preview_context,
    preview_end,
    prompt,
    run_error,
    run_info,
    run_start,
    sample_context,
    step_parts,
)

EMPTY = "(empty)"
"""How a line shows an empty caption."""


@dataclass(frozen=True)
class Kitchen:
    """A recipe that is tried out."""

    plugins: Sequence[Plugin]
    folder: Path
    """Empty, for files."""

    @property
    def harness(self) -> Harness:
        return Harness(*self.plugins)


def caption(kitchen: Kitchen, before: str) -> str:
    """`epoch 3: red heart`, the epoch only where chance is at work."""
    epoch, text = _in_epoch(before)
    text = "" if text == EMPTY else text
    return kitchen.harness.apply("sample.caption", text, sample_context(epoch=epoch, caption=text)) or EMPTY


def colour(kitchen: Kitchen, before: str) -> str:
    """A picture of one colour, such as `#c03020`."""
    epoch, text = _in_epoch(before)
    image = Image.new("RGB", (8, 8), ImageColor.getrgb(text))
    changed = kitchen.harness.apply("sample.image", image, sample_context(epoch=epoch))
    assert changed.size == image.size
    colours = changed.getcolors()
    assert colours is not None
    ((count, one),) = colours
    assert count == 64
    assert isinstance(one, tuple)
    return "#" + "".join(f"{value:02x}" for value in one)


def items(kitchen: Kitchen, before: str) -> str:
    """`cats/a.png 512x384, owls/b.png`; what is shown more than once has ` x3`."""
    given = []
    for text in before.split(", "):
        name, _, size = text.partition(" ")
        width, height = (int(side) for side in (size or "64x64").split("x"))
        given.append(item(id=name, path=name, width=width, height=height))
    left = kitchen.harness.apply("data.items", tuple(given), data_context())
    sizes = {one.id: f" {one.width}x{one.height}" if "x" in before.replace(".png", "") else "" for one in left}
    return ", ".join(
        f"{one.id}{sizes[one.id]}{f' x{one.settings.multiply:g}' if one.settings.multiply != 1 else ''}" for one in left
    )


def description(kitchen: Kitchen, before: str) -> str:
    """`description 'A red heart', beside it 'heart'`: the EXIF of a real file, and the caption that was found."""
    written, found = re.findall(r"'(.*?)'", before)
    path, exif = kitchen.folder / "a.jpg", Image.Exif()
    if written:
        exif[0x010E] = written
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    (left,) = kitchen.harness.apply("data.items", (item(path=path, caption=found),), data_context())
    return f"'{left.caption}'"


def plan(kitchen: Kitchen, before: str) -> str:
    """`epoch 0: owl; red heart | blue heart`: captions of two batches."""
    epoch, text = _in_epoch(before)
    batches = [batch.split("; ") for batch in text.split(" | ")]
    captions = [one for batch in batches for one in batch]
    numbers = iter(range(len(captions)))
    keys = tuple(tuple(SampleKey(epoch, next(numbers), 0) for _ in batch) for batch in batches)
    context = plan_context(epoch=epoch, items=tuple(item(id=str(n), caption=one) for n, one in enumerate(captions)))
    left = kitchen.harness.apply("epoch.plan", keys, context)
    return " | ".join("; ".join(captions[key.item] for key in batch) for batch in left)


def numbers(kitchen: Kitchen, before: str) -> str:
    """`loss 0.5`: one report after the other."""
    name, value = before.split()
    values = kitchen.harness.apply("metrics.record", {name: float(value)}, metrics_context())
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def requests(kitchen: Kitchen, before: str) -> str:
    """`loss 0.5, 0.4` in reports of steps 10, 20, ..., or `mean loss 0.5, 0.4` of epochs 0, 1, ..."""
    harness, asked, control = kitchen.harness, [], Control()
    harness.emit("run.start", run_start(control=control))
    for place, loss in enumerate(float(one) for one in re.findall(r"[\d.]+", before)):
        if before.startswith("mean"):
            harness.emit("epoch.end", epoch_end(epoch=place, mean_loss=loss, control=control))
            where = f"after epoch {place}"
        else:
            harness.emit("metrics.ready", metrics_ready(step=10 * (place + 1), values={"loss": loss}))
            where = f"at step {10 * (place + 1)}"
        asked += [f"{one.kind} {where} ({one.reason})" for one in control.take("stop", "save", "preview")]
    return ", ".join(asked)


def gradients(kitchen: Kitchen, before: str) -> str:
    """`norm of unet 3.0, of text_encoder 4.0`, before and as the optimizer is given them."""
    norms = {name: float(value) for name, value in re.findall(r"of (\w+) ([\d.]+)", before)}
    weights = {name: torch.nn.Parameter(torch.zeros(4)) for name in norms}
    optimizer = torch.optim.SGD(weights.values(), lr=1.0)
    group = ParameterGroup(
        name="all", parameters={f"{name}.weight": one for name, one in weights.items()}, learning_rate=1, weight_decay=0
    )
    kitchen.harness.emit("model.ready", model_ready(optimizer=optimizer, groups=(group,)))
    for name, weight in weights.items():
        weight.grad = torch.full((4,), norms[name] / 2)
    optimizer.step()
    return "norm " + ", ".join(f"of {name} {float(weight.detach().norm()):.4g}" for name, weight in weights.items())


def weights(kitchen: Kitchen, before: str) -> str:
    """What a weight of 1 is after each of some steps of 0.5 without the recipe, and with it."""
    plain, changed = torch.optim.SGD([_one()], lr=0.5), torch.optim.SGD([_one()], lr=0.5)
    kitchen.harness.compose("optimizer", changed, model_context())
    count = before.count(",") + 1
    assert _trail(plain, count) == before
    return _trail(changed, count)


def loss(kitchen: Kitchen, before: str) -> str:
    """`error 2.0`, everywhere, as the mean squared error and as what the recipe makes of it."""

    def squared(prediction: Any, target: Any, *_: Any) -> Any:
        return (prediction - target).square().flatten(1).mean(1)

    error = torch.full((1, 4, 2, 2), float(before.split()[1]))
    composed = kitchen.harness.compose("loss", squared, step_parts())
    found: Any = composed(error, torch.zeros_like(error), torch.zeros(1), None)  # type: ignore[call-arg,arg-type]
    return f"loss {float(found):.4g} rather than {float(squared(error, 0)):.4g}"


def chat(kitchen: Kitchen, before: str) -> str:
    """`checkpoint at step 500` or `error 'disk on fire' at step 510`, and what a server is then sent."""
    run, step = run_info(name="demo"), int(before.rpartition(" ")[2])
    with listening() as (address, heard), pytest.MonkeyPatch.context() as patch, kitchen.harness as harness:
        patch.setenv("CHAT_URL", address)
        if before.startswith("error"):
            error = OSError(before.split("'")[1])
            harness.emit("run.error", run_error(error, run=run, step=step))
        else:
            harness.emit("checkpoint.saved", checkpoint_saved(run=run, step=step))
            harness.drain()
    (body,) = heard
    return json.dumps(body)


def prompts(kitchen: Kitchen, before: str) -> str:
    """`step 500: red heart`."""
    step, _, text = before.removeprefix("step ").partition(": ")
    left = kitchen.harness.apply("preview.prompts", (prompt(text),), preview_context(step=int(step)))
    return ", ".join(one.text for one in left)


def sheet(kitchen: Kitchen, before: str) -> str:
    """`step 500, 5 pictures of 32x24`: real files, and the size of what is made of them."""
    step, count, width, height = (int(number) for number in re.findall(r"\d+", before))
    paths = tuple(kitchen.folder / f"{number}.png" for number in range(count))
    for number, path in enumerate(paths):
        Image.new("RGB", (width, height), (40 * number, 0, 0)).save(path)
    run = run_info(kitchen.folder)
    kitchen.harness.emit("preview.end", preview_end(run=run, step=step, paths=paths, prompts=(prompt(),) * count))
    made = sorted(kitchen.folder.glob("sheet*"))
    if not made:
        return "nothing"
    with Image.open(made[0]) as picture:
        corner = picture.getpixel(((count - 1) % -(-picture.width // width) * width, height))
        assert corner in {(40 * number, 0, 0) for number in range(count)}
        return f"{made[0].name} of {picture.width}x{picture.height}"


BY_SIGNAL: dict[str, Callable[[Kitchen, str], str]] = {
    "sample.caption": caption, "sample.image": colour, "data.items": items, "epoch.plan": plan, "metrics.record": numbers,
    "metrics.ready": requests, "epoch.end": requests, "model.ready": gradients, "build.optimizer": weights,
    "build.loss": loss, "checkpoint.saved": chat, "preview.prompts": prompts, "preview.end": sheet,
}  # fmt: skip
"""By the signal of the recipe's first plugin that is in here."""
BY_CLASS = {"ExifCaption": description}


def outcome(kitchen: Kitchen, before: str) -> str:
    """The right side of a line."""
    first = kitchen.plugins[0]
    signals = [one.mark.signal for one in first.subscriptions() if one.mark.signal in BY_SIGNAL]
    return BY_CLASS.get(type(first).__name__, BY_SIGNAL[signals[0]])(kitchen, before)


@contextlib.contextmanager
def listening() -> Generator[tuple[str, list[Any]], None, None]:
    """The address of a server on this machine, and the bodies that were posted to it."""
    heard: list[Any] = []

    class Hear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Hear)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _in_epoch(before: str) -> tuple[int, str]:
    found = re.fullmatch(r"epoch (\d+): (.*)", before)
    return (int(found[1]), found[2]) if found else (0, before)


def _one() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(1))


def _trail(optimizer: torch.optim.Optimizer, count: int) -> str:
    """A weight after each of some steps with a gradient of 1."""
    (weight,) = optimizer.param_groups[0]["params"]
    values = []
    for _ in range(count):
        weight.grad = torch.ones(1)
        optimizer.step()
        values.append(weight.item())
    return ", ".join(f"{value:.4g}" if value % 1 else f"{value:.1f}" for value in values)
