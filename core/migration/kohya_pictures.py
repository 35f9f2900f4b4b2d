"""Rules for what kohya's scripts are told of pictures and captions, as arguments or in a dataset_config."""

import math
from collections.abc import Mapping
from typing import Any

from .ours import AFFIX, CHOOSE_LINE, DROP_CAPTION, DROP_TAGS, GAMMA, MASKED_LOSS, SHUFFLE_TAGS, WILDCARDS
from .outcome import OFF, Outcome, already, became, became_all, by_hand, lacking, taken
from .rules import (
    Facts,
    Read,
    Rules,
    WrongValue,
    flag,
    if_set,
    is_off,
    lacks,
    listed,
    natural,
    number,
    share,
    switch,
    text,
    to,
    whole,
    works,
)

DEFAULTS = {
    "batch_size": 1, "enable_bucket": False, "min_bucket_reso": 256, "max_bucket_reso": 1024, "keep_tokens": 0,
    "caption_separator": ",", "caption_extension": ".caption", "num_repeats": 1, "bucket_reso_steps": 64,
}  # fmt: skip
"""What counts where nothing is said."""
ARGUMENT_NAMES = {
    "train_batch_size": "batch_size", "dataset_repeats": "num_repeats", "caption_extention": "caption_extension",
}  # fmt: skip
"""Arguments that are called otherwise in a dataset_config."""
OF_ITEMS: Mapping[str, tuple[str, Read]] = {
    "flip_aug": ("flip_p", lambda value: 0.5 if flag(value) else 0),
    "caption_dropout_rate": ("cond_dropout", number),
    "shuffle_caption": ("shuffle_tags", lambda value: str(flag(value)).lower()),
    "keep_tokens": ("keep_tags", whole),
    "bucket_no_upscale": ("no_upscale", lambda value: str(flag(value)).lower()),
}  # fmt: skip
"""What a folder's local.yaml can say for its own pictures: the key there and its value."""


def area_side(value: Any) -> int:
    """The side of the square of that area; of one side, of two, or of either as text."""
    parts = value.split(",") if isinstance(value, str) else listed(value)
    sides = [natural(part) for part in parts]
    if not 1 <= len(sides) <= 2:
        raise WrongValue("a side, or a width and a height", value)
    return round(math.sqrt(sides[0] * sides[-1]))


def resolutions(value: Any, facts: Facts) -> Outcome:
    """Of all data sets: pictures take turns with them."""
    sides = list(dict.fromkeys(area_side(side) for side in facts["all_resolutions"] or [value]))
    area_side(value)
    if len(sides) == 1:
        return became("data.resolution", sides[0])
    return became("data.resolution", sides, "every picture takes turns with them")


def aspect(value: Any, facts: Facts) -> Outcome:
    """The longest side over the shortest that the buckets can have; 1 without buckets."""
    if not facts.is_on("enable_bucket"):
        return became("data.max_aspect", 1.0, "without buckets all are squares")
    least, most = natural(facts["min_bucket_reso"]), natural(facts["max_bucket_reso"])
    area = area_side(facts["resolution"]) ** 2 if facts["resolution"] else most * least
    longest = max(1.0, round(min(most, area / least) / least, 3))
    return became("data.max_aspect", longest, f"sides from {least} to {most}")


def tags_shuffled(value: Any, facts: Facts) -> Outcome:
    return taken(SHUFFLE_TAGS, always=True, **_tag_settings(facts)) if flag(value) else OFF


def tags_dropped(value: Any, facts: Facts) -> Outcome:
    return OFF if is_off(value) else taken(DROP_TAGS, probability=share(value), **_tag_settings(facts))


def _tag_settings(facts: Facts) -> dict[str, Any]:
    settings: dict[str, Any] = {"keep": whole(facts["keep_tokens"] or 0)}
    if facts["caption_separator"] not in (None, ","):
        settings["separator"] = text(facts["caption_separator"])
    if facts["keep_tokens_separator"]:
        settings["keep_separator"] = text(facts["keep_tokens_separator"])
    return settings


def tag_setting(value: Any, facts: Facts) -> Outcome:
    """Part of those two, where either is on."""
    using = {}
    if facts.is_on("shuffle_caption"):
        using[SHUFFLE_TAGS] = _tag_settings(facts)
    if not is_off(facts["caption_tag_dropout_rate"]):
        using[DROP_TAGS] = _tag_settings(facts)
    if not using:
        return already("tags are neither shuffled nor dropped there")
    return Outcome(kind="plugin", plugins=using)


def kept_tags(value: Any, facts: Facts) -> Outcome:
    whole(value)
    return tag_setting(value, facts)


def prefix(value: Any, facts: Facts) -> Outcome:
    return taken(AFFIX, prefix=f"{text(value)} ") if value else OFF


def suffix(value: Any, facts: Facts) -> Outcome:
    return taken(AFFIX, suffix=f" {text(value)}") if value else OFF


def extension(value: Any, facts: Facts) -> Outcome:
    if text(value).lower() in (".txt", ".caption"):
        return already("both .txt and .caption are read")
    return by_hand(f"rename captions from {value} to .txt; .txt, .caption, .yaml and .json are read")


def multiple(value: Any, facts: Facts) -> Outcome:
    if natural(value) == 64:
        return already("sides are multiples of what the model takes")
    return lacking("sides are multiples of what the model takes")


CHOICES = became_all({"data.caption_lines": "choose"}, {WILDCARDS: {}, CHOOSE_LINE: {}}, "and one of several lines")
ALPHA = became_all({"data.masks": "alpha"}, {MASKED_LOSS: {}})
RULES: Rules = {
    "resolution": if_set(resolutions),
    "batch_size": to("train.batch_size", natural),
    "enable_bucket": if_set(aspect),
    "min_bucket_reso": if_set(aspect),
    "max_bucket_reso": if_set(aspect),
    "bucket_reso_steps": if_set(multiple),
    "bucket_no_upscale": to("data.no_upscale", flag),
    "skip_image_resolution": lacks("no picture is left out for its size; data.no_upscale never enlarges one"),
    "resize_interpolation": lacks("pictures are resized with Lanczos"),
    "network_multiplier": lacks("an adapter has one strength"),
    "flip_aug": if_set(lambda value, _: became("data.flip_p", 0.5 if flag(value) else 0.0)),
    "color_aug": switch(taken(GAMMA, "brightness only; hues stay", low=0.95, high=1.05)),
    "random_crop": if_set(lambda value, _: became("data.crop", "random" if flag(value) else "centre")),
    "face_crop_aug_range": lacks("faces are not looked for"),
    "shuffle_caption": if_set(tags_shuffled),
    "caption_tag_dropout_rate": if_set(tags_dropped),
    "keep_tokens": if_set(kept_tags),
    "keep_tokens_separator": lambda value, facts: OFF if not value else tag_setting(text(value), facts),
    "caption_separator": if_set(lambda value, facts: tag_setting(text(value), facts)),
    "secondary_separator": lacks("tags have one separator"),
    "caption_dropout_rate": if_set(
        lambda value, _: taken(DROP_CAPTION, probability=share(value)) if number(value) else OFF
    ),
    "caption_dropout_every_n_epochs": lacks("plugins.captions.DropCaption drops by chance, in every epoch alike"),
    "token_warmup_min": works("token_warmup_step has the say"),
    "token_warmup_step": lacks("captions have all their tags from the start"),
    "caption_prefix": if_set(prefix),
    "caption_suffix": if_set(suffix),
    "enable_wildcard": switch(CHOICES),
    "caption_extension": if_set(extension),
    "alpha_mask": switch(ALPHA),
    "cache_info": works("sizes are remembered in cache.dir"),
    "cache_latents": switch(became("cache.latents", True)),
    "cache_latents_to_disk": switch(became("cache.latents", True)),
    "skip_cache_check": lacks("an entry is always found by what it follows from"),
    "vae_batch_size": works("the pass that fills the cache picks its own"),
    "cache_text_encoder_outputs": switch(became("cache.text", True, "no text encoder can be trained then")),
    "cache_text_encoder_outputs_to_disk": switch(became("cache.text", True, "no text encoder can be trained then")),
    "text_encoder_batch_size": works("the pass that fills the cache picks its own"),
    "dataset_class": lacks("pictures are found by data.root; a plugin on data.items can add others"),
    "debug_dataset": lacks("`python run.py data --look 20` shows what the model will see"),
    "validation_split": if_set(lambda value, _: became("validation.fraction", number(value))),
    "validation_seed": works("what is held out follows from run.seed"),
    "custom_attributes": lacks("nothing here reads them"),
}
"""By key of a dataset_config, or by the argument of that name."""
