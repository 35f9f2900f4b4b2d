"""One picture of the whole run: what each prompt looked like at each preview."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from events import Plugin, PluginSettings, on
from events.payloads import PreviewEnd


class PreviewEvolution(Plugin):
    """Keep `<run>/previews/evolution.png` up to date: a row for each step, a column for each prompt.

    It is made from the pictures in `previews/step-NNNNNN/`. A prompt that was not rendered at a step, because the
    prompts file has changed since, has an empty place there. Prompts with a note, such as `held out`, are red.
    """

    class Settings(PluginSettings):
        rows: int = Field(6, ge=2, description="steps shown at most: the first, the last, and some evenly between")

    @on("preview.end", priority=95)
    def draw(self, event: PreviewEnd) -> None:
        if not event.paths:  # rendering failed
            return
        from PIL import Image

        from core.preview.grid import labelled_grid

        folder = event.run.folder / "previews"
        steps = evenly([step for step in _steps_in(folder) if step <= event.step], self.settings.rows)
        shown = list(zip(event.prompts, event.paths, strict=False))  # fewer paths when rendering failed
        cells: list[tuple[Image.Image | None, str, bool]] = []
        for step in steps:
            for prompt, path in shown:
                picture = _folder_of(folder, step) / path.name
                said = f"{prompt.text} ({prompt.note})" if prompt.note else prompt.text
                if len({one.guidance for one in event.prompts}) > 1:
                    said = f"cfg {prompt.guidance:g}: {said}"
                label = f"step {step}: {said}" if prompt is event.prompts[0] else said
                cells.append((Image.open(picture) if picture.is_file() else None, label, bool(prompt.note)))
        labelled_grid(cells, len(shown), title=event.run.name).save(folder / "evolution.png")


def evenly(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` (2 or more) of the steps, the first and the last among them.

    >>> evenly([0, 10, 20, 30, 40], 3)
    [0, 20, 40]
    """
    if len(steps) <= count:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (count - 1))] for place in range(count)]


def _steps_in(folder: Path) -> list[int]:
    numbers = (path.name.removeprefix("step-") for path in folder.glob("step-*") if path.is_dir())
    return sorted(int(number) for number in numbers if number.isdigit())


def _folder_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06d}"
