"""Rules for the arguments of kohya's scripts that are more than another name."""

from typing import Any

from ..preview.prompt_lines import sampler_class
from .ours import TENSORBOARD
from .outcome import OFF, Outcome, already, became, became_all, by_hand, lacking, taken
from .rules import Facts, Rule, WrongValue, flag, is_off, natural, number, steps_of, text, whole

DTYPES = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}
STEPS = 1600
"""Of a run that was told no number."""

TEXT_ENCODERS = {
    "sdxl": ["text_encoder", "text_encoder_2"],
    "sd3": ["text_encoder", "text_encoder_2"],
}
"""By the first part of the script's name; one where it is another. T5 is not trained."""


# which script


def script_of(arguments: dict[str, Any], named: str = "") -> str:
    """The script, from its name in a command line, else from what only one of them is told."""
    if named:
        return named
    if "network_module" in arguments:
        return "train_network"
    if "token_string" in arguments:
        return "train_textual_inversion"
    return "fine_tune" if "in_json" in arguments or "train_text_encoder" in arguments else "train_db"


def trains_network(facts: Facts) -> bool:
    return "network" in str(facts["script"])


def trained_modules(facts: Facts) -> list[str]:
    """As our families name them."""
    script = str(facts["script"])
    kind = script.partition("_")[0]
    denoiser = "transformer" if kind in ("flux", "sd3") else "unet"
    encoders = TEXT_ENCODERS.get(kind, ["text_encoder"])
    if trains_network(facts):
        only_denoiser = facts.is_on("network_train_unet_only")
        only_encoders = facts.is_on("network_train_text_encoder_only")
        return [*([] if only_encoders else [denoiser]), *([] if only_denoiser else encoders)]
    if script.endswith("textual_inversion"):
        return encoders
    if script == "train_db":
        stopped = facts["stop_text_encoder_training"]
        return [denoiser] if stopped is not None and whole(stopped) < 0 else [denoiser, *encoders]
    return [denoiser, *(encoders if facts.is_on("train_text_encoder") else [])]


def modules(value: Any, facts: Facts) -> Outcome:
    if value is not None:
        flag(value)
    return became("model.train", trained_modules(facts))


def stopped_encoder(value: Any, facts: Facts) -> Outcome:
    if whole(value) < 0:
        return became("model.train", trained_modules(facts))
    return lacking("what is trained stays the same in a run; set model.train or train.text_encoder_learning_rate")


# model


def model_path(value: Any, facts: Facts) -> Outcome:
    path = text(value)
    keys: dict[str, Any] = {"model.path": path}
    if path.lower().endswith((".ckpt", ".pt", ".bin")):
        return by_hand(f"convert {path} to .safetensors or a diffusers folder; pickled files are not opened", keys)
    if path.lower().endswith(".safetensors") and not trains_network(facts) and facts["save_model_as"] is None:
        return became_all(keys | {"export.single_file": True}, remark="saved in the form that it has")
    return became_all(keys)


def v_prediction(value: Any, facts: Facts) -> Outcome:
    return became("model.prediction", "v_prediction") if flag(value) else OFF


def precision(value: Any, facts: Facts) -> Outcome:
    """Weights that are not trained are kept in that precision too."""
    name = text(value)
    if name not in DTYPES:
        raise WrongValue("no, fp16 or bf16", value)
    keys = {"train.precision": DTYPES[name], "model.dtype": DTYPES[name]}
    keys["model.vae_dtype"] = "fp32" if facts.is_on("no_half_vae") else DTYPES[name]
    return became_all(keys)


def token_length(value: Any, facts: Facts) -> Outcome:
    return became("data.max_tokens", 75 if value is None else natural(value))


def clip_skip(value: Any, facts: Facts) -> Outcome:
    if whole(value) <= 1:
        return already("the last layer of the text encoder is read")
    return lacking("the text encoder is read at its last layer, as its own config says")


# how long


def epochs_in_all(facts: Facts) -> float | None:
    epochs = facts["max_train_epochs"]
    return None if epochs is None else number(epochs)


def accumulation(facts: Facts) -> int:
    return natural(facts["gradient_accumulation_steps"] or 1)


def total_steps(facts: Facts) -> tuple[int, str]:
    epochs = epochs_in_all(facts)
    if epochs is None:
        return natural(facts["max_train_steps"] or STEPS), ""
    return steps_of(epochs, facts, epochs, accumulation(facts))


def most_steps(value: Any, facts: Facts) -> Outcome:
    if epochs_in_all(facts) is not None:
        natural(value)
        return already("max_train_epochs has the say")
    return became("train.steps", natural(value))


def most_epochs(value: Any, facts: Facts) -> Outcome:
    return became("train.steps", *total_steps(facts))


def every_epochs(key: str) -> Rule:
    """An interval in epochs; ours are in steps."""

    def convert(value: Any, facts: Facts) -> Outcome:
        if is_off(value):
            return OFF
        return became(key, *steps_of(number(value), facts, epochs_in_all(facts), accumulation(facts)))

    return convert


def every_steps(key: str, overruled_by: str = "") -> Rule:
    def convert(value: Any, facts: Facts) -> Outcome:
        if overruled_by and not is_off(facts[overruled_by]):
            return already(f"{overruled_by} has the say")
        return OFF if is_off(value) else became(key, natural(value))

    return convert


def states(value: Any, facts: Facts) -> Outcome:
    """States are what our checkpoints are, saved as often as the model there."""
    if value is None or not flag(value):
        return OFF
    rhythm = facts["save_every_n_steps"]
    if not is_off(rhythm):
        return became("checkpoint.every_steps", natural(rhythm))
    if not is_off(facts["save_every_n_epochs"]):
        return every_epochs("checkpoint.every_steps")(facts["save_every_n_epochs"], facts)
    return became("checkpoint.every_steps", 0, "at the end, as there")


def kept(of_steps: str) -> Rule:
    """They say for how many steps a save is kept, we how many are."""

    def convert(value: Any, facts: Facts) -> Outcome:
        rhythm = facts[of_steps]
        if is_off(value) or is_off(rhythm):
            return OFF
        return became("checkpoint.keep", max(1, whole(value) // natural(rhythm)), "of checkpoints; exports are kept")

    return convert


# what it writes


def format_of_model(value: Any, facts: Facts) -> Outcome:
    name = text(value)
    if trains_network(facts):
        return already("adapters are written as .safetensors, for diffusers and for kohya's users")
    return became("export.single_file", not name.startswith("diffusers"), "" if name != "ckpt" else "as .safetensors")


def logged(value: Any, facts: Facts) -> Outcome:
    name = text(value)
    if name in ("tensorboard", "all"):
        rest = "; there is no plugin for wandb" if name == "all" else ""
        return taken(TENSORBOARD, f"needs pip install tensorboard{rest}")
    return lacking(f"there is no plugin for {name}; plugins.tensorboard.TensorBoard writes curves")


def logging_folder(value: Any, facts: Facts) -> Outcome:
    text(value)
    if facts["log_with"] == "wandb":
        return lacking("a run has one folder, <run.dir>/<run.name>, with all it writes")
    return taken(TENSORBOARD, "curves lie in the run's folder, which needs pip install tensorboard")


def prompts(value: Any, facts: Facts) -> Outcome:
    return became("preview.prompts", text(value))


def sampler(value: Any, facts: Facts) -> Outcome:
    name = sampler_class(text(value))
    if not name.endswith("Scheduler"):
        return lacking("preview.scheduler takes a class of diffusers, such as EulerDiscreteScheduler")
    return became("preview.scheduler", name)
