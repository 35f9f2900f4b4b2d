"""Plugins that the tests of previews name in configs."""

from dataclasses import replace
from pathlib import Path

from events import Plugin, PluginSettings, on, transform
from events.payloads import PreviewContext, Prompt, StepEnd


class WriteFile(Plugin):
    """Writes a file once a step is taken, as a user who edits it."""

    class Settings(PluginSettings):
        path: str
        step: int
        text: str

    @on("step.end")
    def write(self, event: StepEnd) -> None:
        if event.step == self.settings.step:
            Path(self.settings.path).write_text(self.settings.text, encoding="utf-8")


class OddSize(Plugin):
    """Asks for pictures of a size that no model renders."""

    @transform("preview.prompts")
    def change(self, prompts: tuple[Prompt, ...], context: PreviewContext) -> tuple[Prompt, ...]:
        return tuple(replace(prompt, width=33) for prompt in prompts)


class NoPrompts(Plugin):
    """Leaves nothing to render."""

    @transform("preview.prompts")
    def drop(self, prompts: tuple[Prompt, ...], context: PreviewContext) -> tuple[Prompt, ...]:
        return ()
