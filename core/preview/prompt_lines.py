"""Prompts as kohya's sd-scripts read them: one a line, with options such as `a red fox --n blurry --w 512 --d 7`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "n": "negative", "w": "width", "h": "height", "d": "seed", "s": "steps", "l": "guidance", "ss": "scheduler",
    }
)  # fmt: skip
"""By option, the field of PromptEntry that it sets."""
SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        "ddim": "DDIMScheduler",
        "ddpm": "DDPMScheduler",
        "pndm": "PNDMScheduler",
        "lms": "LMSDiscreteScheduler",
        "euler": "EulerDiscreteScheduler",
        "euler_a": "EulerAncestralDiscreteScheduler",
        "heun": "HeunDiscreteScheduler",
        "dpm_2": "KDPM2DiscreteScheduler",
        "dpm_2_a": "KDPM2AncestralDiscreteScheduler",
        "dpmsolver": "DPMSolverMultistepScheduler",
        "dpmsolver++": "DPMSolverMultistepScheduler",
        "dpmsingle": "DPMSolverSinglestepScheduler",
    }
)
"""kohya's names of samplers, also written `k_euler`, and the diffusers classes behind them.

`dpmsolver` is sampled as `dpmsolver++`, since diffusers gives the older algorithm up.
"""
OPTION = re.compile(r"(?:^|\s)--([a-zA-Z]\S*)")
"""Where an option begins; dashes before anything but a letter are part of the prompt."""


@dataclass(frozen=True, slots=True)
class PromptLine:
    """A line that holds a prompt."""

    number: int
    """From 1, as editors count."""
    values: Mapping[str, Any]
    """By field of PromptEntry, as text."""
    problems: tuple[str, ...]
    """Each begins with the option; values are looked at by PromptEntry."""


def parse_lines(text: str) -> Iterator[PromptLine]:
    """The prompts of a file, without blank lines and those that begin with `#`."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield _parse(number, line.strip())


def sampler_class(name: str) -> str:
    """The diffusers class behind one of kohya's names; any other name as it is.

    >>> sampler_class("k_euler_a"), sampler_class("UniPCMultistepScheduler")
    ('EulerAncestralDiscreteScheduler', 'UniPCMultistepScheduler')
    """
    return SAMPLERS.get(name.lower().removeprefix("k_"), name)


def _parse(number: int, line: str) -> PromptLine:
    prompt, *options = OPTION.split(line)
    values: dict[str, Any] = {"text": prompt.strip()}
    problems: list[str] = []
    for option, value in zip(options[::2], (value.strip() for value in options[1::2]), strict=True):
        field = OPTIONS.get(option.lower())
        if field is None:
            known = ", ".join(f"--{name} {meaning}" for name, meaning in OPTIONS.items())
            problems.append(f"{option}  has no meaning here; leave it out, or use one of {known}")
        elif field in values:
            problems.append(f"{option}  is given twice; leave one out")
        elif not value:
            problems.append(f"{option}  has no value; write one after a space, or leave it out")
        else:
            values[field] = value
    if "guidance" in values:
        values["guidance"] = values["guidance"].split(",")
    if "scheduler" in values:
        values["scheduler"] = sampler_class(values["scheduler"])
    return PromptLine(number, values, tuple(problems))
