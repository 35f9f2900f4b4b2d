"""Rules for the arguments of kohya's scripts that are about adapters and about what is minimised."""

from typing import Any

from .ours import HUBER, LORA, PRIOR_PRESERVATION, PYRAMID_NOISE, TIMESTEPS
from .outcome import OFF, Outcome, already, became_all, lacking, taken
from .rules import Facts, Rule, if_set, listed, natural, number, text, whole

TIMESTEPS_IN_ALL = 1000


# network


def network(value: Any, facts: Facts) -> Outcome:
    module = text(value)
    rank, alpha = natural(facts["network_dim"] or 4), facts["network_alpha"]
    settings = {"rank": rank, "alpha": 1.0 if alpha is None else number(alpha) or rank}
    if module.startswith("networks.lora") or ("lycoris" in module and _algorithm(facts) in ("lora", "")):
        return became_all({"export.model": False}, {LORA: settings})
    return lacking(f"{module} is no LoRA, which plugins.lora.Lora is; without it the whole model is trained")


def is_lora(facts: Facts) -> bool:
    return facts["network_module"] is not None and network(facts["network_module"], facts).kind == "became"


def of_lora(setting: str, read: Any = number) -> Rule:
    def convert(value: Any, facts: Facts) -> Outcome:
        if not is_lora(facts):
            return already("network_module is none that plugins.lora.Lora stands for")
        return taken(LORA, **{setting: read(value)})

    return if_set(convert)


def _network_options(facts: Facts) -> dict[str, str]:
    parts = [str(part).partition("=") for part in listed(facts["network_args"] or [])]
    return {name.strip(): value.strip() for name, _, value in parts}


def _algorithm(facts: Facts) -> str:
    return _network_options(facts).get("algo", "").lower()


def network_options(value: Any, facts: Facts) -> Outcome:
    """What Lora knows is taken, the rest is named."""
    given = _network_options(facts)
    settings: dict[str, Any] = {}
    if str(given.pop("dora_wd", given.pop("use_dora", ""))).lower() in ("true", "1"):
        settings["dora"] = True
    if given.get("algo", "").lower() == "lora":
        given.pop("algo")
    rest = f"plugins.lora.Lora has no {', '.join(given)}" if given else ""
    if not is_lora(facts) or not settings:
        return lacking(rest) if rest else OFF
    return taken(LORA, rest, **settings)


# objective


def loss(value: Any, facts: Facts) -> Outcome:
    kind = text(value)
    if kind == "l2":
        return already("the squared error is minimised")
    if kind not in ("huber", "smooth_l1"):
        return lacking("the squared error is minimised; plugins.huber.Huber has another")
    c, course = number(facts["huber_c"] or 0.1), str(facts["huber_schedule"] or "snr")
    return taken(HUBER, "" if kind == "huber" else "smooth_l1 is the same divided by its threshold", c=c, course=course)


def of_huber(setting: str, read: Any) -> Rule:
    def convert(value: Any, facts: Facts) -> Outcome:
        if facts["loss_type"] not in ("huber", "smooth_l1"):
            return already("loss_type is another")
        return taken(HUBER, **{setting: read(value)})

    return if_set(convert)


def pyramid(value: Any, facts: Facts) -> Outcome:
    levels = whole(value)
    if levels <= 0:
        return OFF
    discount = number(facts["multires_noise_discount"] or 0.3)
    return taken(PYRAMID_NOISE, "each level is half the one before", levels=levels, discount=discount)


def timestep_range(value: Any, facts: Facts) -> Outcome:
    whole(value)
    low, high = whole(facts["min_timestep"] or 0), whole(facts["max_timestep"] or TIMESTEPS_IN_ALL)
    if (low, high) == (0, TIMESTEPS_IN_ALL):
        return already("all timesteps are trained")
    return taken(TIMESTEPS, low=low / TIMESTEPS_IN_ALL, high=high / TIMESTEPS_IN_ALL)


def timestep_density(value: Any, facts: Facts) -> Outcome:
    """Of flow models: how sigma is drawn, and how it is shifted then."""
    kind, shift = text(value), number(facts["discrete_flow_shift"] or 3.0)
    deviation = number(facts["sigmoid_scale"] or 1.0)
    if kind == "uniform":
        return taken(TIMESTEPS, kind="uniform", shift=1.0)
    if kind == "sigmoid":
        return taken(TIMESTEPS, kind="logit_normal", deviation=deviation, shift=1.0)
    if kind == "shift":
        return taken(TIMESTEPS, kind="logit_normal", deviation=deviation, shift=shift)
    if kind == "sigma":
        scheme = str(facts["weighting_scheme"] or "none")
        density = {"logit_normal": "logit_normal", "mode": "mode"}.get(scheme, "uniform")
        return taken(TIMESTEPS, "weighting_scheme is its density", kind=density, shift=shift)
    return taken(TIMESTEPS, kind="logit_normal", deviation=deviation, shift=1.0, by_resolution=True)


def of_timesteps(**kinds: str) -> Rule:
    """A setting of the density, by the sampling that reads it."""

    def convert(value: Any, facts: Facts) -> Outcome:
        setting = kinds.get(str(facts["timestep_sampling"] or "sigma"))
        return (
            taken(TIMESTEPS, **{setting: number(value)}) if setting else already("timestep_sampling does not read it")
        )

    return if_set(convert)


def prior_weight(value: Any, facts: Facts) -> Outcome:
    weight = number(value)
    if not facts["has_regularization"]:
        return already("there are no regularization pictures")
    return taken(PRIOR_PRESERVATION, weight=weight)
