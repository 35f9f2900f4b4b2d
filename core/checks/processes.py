"""Several processes: what a step of so many comes to, and what of the config does not go together with them."""

from ..config.tables import Config
from ..errors import ConfigError
from ..ranks.arithmetic import kept, sent
from ..ranks.deepspeed_checks import deepspeed_problems
from ..ranks.divisible import sharding_problems
from ..step.fused_backward import fused_backward_problems
from .findings import Findings
from .model import Built

WORDS = ("weights", "gradients", "optimizer")


def look_at_processes(config: Config, count: int, built: Built | None, found: Findings) -> None:
    """`built` is None where weights are not known. Raises ConfigError for settings that so many processes exclude."""
    if problems := process_problems(config, count):
        raise ConfigError("config", problems)
    train, strategy = config.train, config.distributed.strategy
    pictures = count * train.accumulate * train.batch_size
    of_each = f"{train.accumulate} x {train.batch_size}"
    found.say(
        "processes",
        f"{count}, each with {of_each} pictures a step: {pictures} in all"
        + (f"; strategy {strategy}" if count > 1 else "; --processes N asks for others"),
    )
    if built is not None:
        found.say("", _memory(config, count, built))


def process_problems(config: Config, count: int) -> list[str]:
    """What a start with so many processes would refuse; further strategies and settings add theirs here."""
    problems = fused_backward_problems(config.train, processes=count) if count > 1 else []
    if config.distributed.strategy == "fsdp":
        problems += sharding_problems(config)
    return problems + deepspeed_problems(config)


def _memory(config: Config, count: int, built: Built) -> str:
    """What one process keeps and sends, in decimal gigabytes."""
    settings, rounds, is_half = config.distributed, config.train.accumulate, config.train.precision != "fp32"
    own = kept(built.sizes, settings, count, rounds, is_half=is_half)
    amounts = zip(WORDS, (own.weights, own.gradients, own.state), own.is_divided, strict=True)
    parts = [f"{word} {amount_text(amount)}{f' (1/{count})' * is_divided}" for word, amount, is_divided in amounts]
    said = f"each keeps {amount_text(own.total)} beside activations: {', '.join(parts)}"
    if own.passing:
        said += f"; weights in a step {amount_text(own.passing)} more"
    if count == 1:
        return said
    sends = sent(built.sizes, settings, count, rounds, is_half=config.train.precision == "bf16")
    return f"{said}\n          each sends about {amount_text(sends)} a step"


def amount_text(count: float) -> str:
    """Bytes in words.

    >>> [amount_text(count) for count in (41.08e9, 532016, 0)]
    ['41.08 GB', '0.53 MB', '0.00 MB']
    """
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"
