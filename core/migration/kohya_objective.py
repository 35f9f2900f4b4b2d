"""Rules for the arguments of kohya's scripts that are about adapters and about what is minimised."""

from typing import Any

from .kohya_rules import trained_modules
from .ours import HUBER, LORA, MERGE_LORA, PRIOR_PRESERVATION, PYRAMID_NOISE, TEXTUAL_INVERSION, TIMESTEPS
from .outcome import OFF, Outcome, already, became_all, by_hand, lacking, taken
from .rules import Facts, Read, Rule, if_set, listed, natural, number, text, whole

TIMESTEPS_IN_ALL = 1000
TARGETS = {
    "unet": [
        "*.to_q", "*.to_k", "*.to_v", "*.to_out.0", "*.ff.net.0.proj", "*.ff.net.2", "*.proj_in", "*.proj_out",
    ],
    "transformer": ["*transformer_blocks.*"],
}  # fmt: skip
OF_TEXT = ["*.q_proj", "*.k_proj", "*.v_proj", "*.out_proj", "*.fc1", "*.fc2"]
"""Layers that kohya's adapters are for, by the module, and of text encoders."""
CONVOLUTIONS = ["*.conv1", "*.conv2", "*.conv_shortcut", "*.downsamplers.*.conv", "*.upsamplers.*.conv"]
"""Those that they are for with conv_dim."""


# adapters


def network(value: Any, facts: Facts) -> Outcome:
    module = text(value)
    if not _is_lora(module, facts):
        return lacking(f"{module} is no LoRA, which plugins.lora.Lora is; without it the whole model is trained")
    return became_all({"export.model": False}, {LORA: _lora_settings(facts)})


def of_lora(setting: str, read: Read = number) -> Rule:
    def convert(value: Any, facts: Facts) -> Outcome:
        if not _is_lora(str(facts["network_module"]), facts):
            return already("network_module is none that plugins.lora.Lora stands for")
        return taken(LORA, **{setting: read(value)})

    return if_set(convert)


def alpha(value: Any, facts: Facts) -> Outcome:
    """0 stands for the rank there."""
    return of_lora("alpha", lambda given: number(given) or float(_lora_settings(facts)["rank"]))(value, facts)


def network_options(value: Any, facts: Facts) -> Outcome:
    """What Lora knows is taken, the rest is named."""
    given = {text(part).partition("=")[0].strip() for part in listed(value)}
    rest = ", ".join(sorted(given - {"algo", "dora_wd", "use_dora", "conv_dim", "conv_alpha"}))
    remark = f"plugins.lora.Lora has no {rest}" if rest else ""
    if not _is_lora(str(facts["network_module"]), facts):
        return lacking(remark or "network_module is none that plugins.lora.Lora stands for")
    settings = {name: one for name, one in _lora_settings(facts).items() if name in ("dora", "targets", "ranks")}
    own = settings if "ranks" in settings or "dora" in settings else {}
    if not own:
        return lacking(remark) if remark else already("it is plain LoRA")
    return taken(LORA, "; ".join(filter(None, ["convolutions have alpha by their rank" if "ranks" in own else "", remark])), **own)  # fmt: skip


def _is_lora(module: str, facts: Facts) -> bool:
    is_lycoris = module.startswith("lycoris") and _options(facts).get("algo", "lora") in ("lora", "locon")
    return module.startswith("networks.lora") or is_lycoris


def _lora_settings(facts: Facts) -> dict[str, Any]:
    """Theirs adapts all layers of the blocks, ours those of attention unless told."""
    rank, given, options = natural(facts["network_dim"] or 4), facts["network_alpha"], _options(facts)
    modules = trained_modules(facts)
    targets = [glob for name in modules for glob in TARGETS.get(name, OF_TEXT)]
    settings: dict[str, Any] = {"rank": rank, "alpha": 1.0 if given is None else number(given) or float(rank)}
    if "unet" in modules and "conv_dim" in options:
        targets += CONVOLUTIONS
        settings["ranks"] = dict.fromkeys(CONVOLUTIONS, natural(options["conv_dim"]))
    if options.get("dora_wd", options.get("use_dora", "")).lower() in ("true", "1"):
        settings["dora"] = True
    return settings | {"targets": list(dict.fromkeys(targets))}


def _options(facts: Facts) -> dict[str, str]:
    parts = [str(part).partition("=") for part in listed(facts["network_args"] or [])]
    return {name.strip(): value.strip() for name, _, value in parts}


def merged(value: Any, facts: Facts) -> Outcome:
    """An adapter that becomes part of the model first."""
    files = [text(file) for file in listed(value)]
    strengths = listed(facts["base_weights_multiplier"] or 1.0) or [1.0]
    if not files:
        return OFF
    if len(files) > 1:
        return by_hand(f"add a [[plugins]] table of {MERGE_LORA} with a name of its own for each of {', '.join(files)}")
    return taken(MERGE_LORA, file=files[0], strength=number(strengths[0]))


def new_word(value: Any, facts: Facts) -> Outcome:
    """A word whose vectors alone are trained."""
    word = text(facts["token_string"] or "")
    if not word:
        return lacking("token_string names no word")
    settings = {
        "words": {word: text(facts["init_word"] or "")},
        "vectors": natural(facts["num_vectors_per_token"] or 1),
    }
    return became_all({"export.model": False}, {TEXTUAL_INVERSION: settings})


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
