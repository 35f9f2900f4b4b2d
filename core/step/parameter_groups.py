"""Parameter groups: what is trained, by module, with the rates and the freezing that `train.parameters` asks for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from events.payloads import ParameterGroup

from ..config.tables import ParameterRule, TrainTable
from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class Named:
    """A parameter and where it is."""

    module: str
    path: str
    """Within the module."""
    parameter: nn.Parameter

    @property
    def name(self) -> str:
        return f"{self.module}.{self.path}"


@dataclass(slots=True)
class Treatment:
    """What the rules say of a parameter; None where they say nothing."""

    lr: float | None = None
    weight_decay: float | None = None
    freeze: bool | None = None
    rules: dict[str, int] = field(default_factory=dict)
    """Number of the rule that sets the rate, and of the one that sets the decay."""


def parameter_groups(
    modules: Mapping[str, nn.Module], trained: Iterable[str], denoiser: str, settings: TrainTable
) -> tuple[ParameterGroup, ...]:
    """One group a trained module, named as the module, and one more for each part of it that rules treat otherwise.

    Such a part is named after the rules that set its rate or decay, `unet: down_blocks.*`. Parameters go by
    `module.path.to.weight`. Rules that freeze, or train after all, set `requires_grad`; what has none is in no group.
    Raises ConfigError for rules that match or set nothing, and when nothing is left to train.
    """
    names, rules = tuple(trained), settings.parameters
    found = [Named(name, path, one) for name in names for path, one in modules[name].named_parameters()]
    if problems := rule_problems(rules, found):
        raise ConfigError("config", problems)
    text_rate = settings.text_encoder_learning_rate or settings.learning_rate
    rates = {name: settings.learning_rate if name == denoiser else text_rate for name in names}
    members: dict[str, dict[str, nn.Parameter]] = {}
    numbers: dict[str, tuple[float, float]] = {}
    for one in found:
        said = _treatment(rules, one)
        if said.freeze is not None:
            one.parameter.requires_grad_(not said.freeze)
        if one.parameter.requires_grad:
            group = _group_name(rules, said, one.module)
            members.setdefault(group, {})[one.name] = one.parameter
            numbers[group] = (
                rates[one.module] if said.lr is None else said.lr,
                settings.weight_decay if said.weight_decay is None else said.weight_decay,
            )
    if not members:
        raise ConfigError("config", [f"train.parameters  nothing is left to train in {', '.join(names)}; freeze less"])
    return tuple(
        ParameterGroup(name=name, parameters=parameters, learning_rate=numbers[name][0], weight_decay=numbers[name][1])
        for name, parameters in members.items()
    )


def rule_problems(rules: Sequence[ParameterRule], found: Sequence[Named]) -> list[str]:
    """Rules that match no parameter, with names that are near, and rules that set nothing."""
    problems = []
    for number, rule in enumerate(rules):
        key = f"train.parameters[{number}]"
        if rule.lr is rule.weight_decay is rule.freeze is None:
            problems.append(f"{key}  '{rule.match}' sets nothing; give it lr, weight_decay or freeze")
        if not any(_matches(rule, one) for one in found):
            problems.append(f"{key}.match  '{rule.match}' matches no parameter that is trained; {_near(rule, found)}")
    return problems


def _matches(rule: ParameterRule, one: Named) -> bool:
    return fnmatchcase(one.name, rule.match) or fnmatchcase(one.path, rule.match)


def _treatment(rules: Sequence[ParameterRule], one: Named) -> Treatment:
    """For each property the last rule that matches and sets it."""
    said = Treatment()
    for number, rule in enumerate(rules):
        if not _matches(rule, one):
            continue
        if rule.freeze is not None:
            said.freeze = rule.freeze
        if rule.lr is not None:
            said.lr, said.rules["lr"] = rule.lr, number
        if rule.weight_decay is not None:
            said.weight_decay, said.rules["weight_decay"] = rule.weight_decay, number
    return said


def _group_name(rules: Sequence[ParameterRule], said: Treatment, module: str) -> str:
    """The module, and the patterns that count. Of a module, those of the same name have the same numbers.

    Two parameters can only be told apart by which rules match them, and each matches all that its name holds.
    """
    patterns = dict.fromkeys(rules[number].match.removeprefix(f"{module}.") for number in sorted(said.rules.values()))
    return f"{module}: {', '.join(patterns)}" if patterns else module


def _near(rule: ParameterRule, found: Sequence[Named]) -> str:
    """Names as long as the pattern, in parts, that look like it."""
    wanted = rule.match.removesuffix(".*")
    parts = wanted.count(".") + 1
    known = {".".join(name.split(".")[:parts]) for one in found for name in (one.name, one.path)}
    if rule.match in known:
        return f"'{rule.match}.*' matches what is in it"
    near = get_close_matches(wanted, sorted(known), n=3, cutoff=0.4)
    return f"near: {', '.join(near or sorted(known)[:3])}"
