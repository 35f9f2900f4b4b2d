"""EveryDream2's sample prompts in JSON, as a file of prompts of ours."""

from collections.abc import Mapping
from typing import Any

from ..config.file import toml_value
from ..errors import ConfigError
from .everydream import Named
from .rules import WrongValue, flag, listed, natural, number, table, text, whole


def prompts_text(prompts: Named) -> tuple[str, int]:
    """TOML with a table for each sample, empty for none, and how many are left out: those of random captions.

    Raises ConfigError naming each sample with a value that is wrong.
    """
    problems: list[str] = []
    entries: list[dict[str, Any]] = []
    samples = listed(prompts.values["samples"] or [])
    for place, sample in enumerate(samples):
        try:
            if not is_on(table(sample).get("random_caption")):
                entries.append(_entry(sample))
        except WrongValue as error:
            problems.append(f"samples[{place}]  {error}")
    if problems:
        raise ConfigError(prompts.file, problems)
    lines = [f"# From {prompts.file}.", ""]
    for entry in entries:
        lines += ["[[prompts]]", *(f"{key} = {toml_value(value)}" for key, value in entry.items()), ""]
    return "\n".join(lines) if entries else "", len(samples) - len(entries)


def is_on(value: Any) -> bool:
    return value is not None and flag(value)


def _entry(sample: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"text": text(sample.get("prompt", ""))}
    if sample.get("negative_prompt"):
        entry["negative"] = text(sample["negative_prompt"])
    seed = sample.get("seed")
    if seed is not None and whole(seed) >= 0:
        entry["seed"] = whole(seed)
    if sample.get("size") is not None:
        sides = [natural(side) for side in listed(sample["size"])]
        if len(sides) != 2:
            raise WrongValue("a width and a height", sample["size"])
        entry["width"], entry["height"] = sides
    if sample.get("cfgs") is not None:
        entry["guidance"] = [number(scale) for scale in listed(sample["cfgs"])]
    return entry
