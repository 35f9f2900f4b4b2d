"""Files of kohya's scripts become a config that says the same, with a word on each of their keys; nothing is dropped unseen."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config.file import load_config, toml_value, validate
from core.config.tables import Config
from core.data.scan import scan
from core.errors import ConfigError
from core.migration.kohya import Arguments, Kohya, convert
from core.migration.kohya_command import read_command
from core.migration.kohya_data import FOLDERS, OF_SUBSETS
from core.migration.kohya_keys import RULES
from core.migration.kohya_pictures import ARGUMENT_NAMES
from core.migration.kohya_pictures import RULES as PICTURE_RULES
from core.migration.migrate import Migrated, import_config, migrate
from core.migration.outcome import Outcome, Row, tree_of
from core.pictures.header_cache import HeaderCache
from plugins.loading import plugin_problems
from tests.small_runs import PICTURES, STARTER

ARGUMENTS: dict[str, Any] = {
    "pretrained_model_name_or_path": "models/sd15", "vae": "models/vae", "v2": True, "v_parameterization": True,
    "zero_terminal_snr": True, "tokenizer_cache_dir": "x", "clip_l": "a", "clip_g": "a", "t5xxl": "a", "ae": "a",
    "t5xxl_max_token_length": 256, "apply_t5_attn_mask": True, "clip_skip": 2, "max_token_length": 225,
    "weighted_captions": True, "no_token_padding": True, "disable_mmap_load_safetensors": True,
    "network_module": "networks.lora", "network_dim": 8, "network_alpha": 4, "network_dropout": 0.1,
    "network_weights": "adapters/one", "network_args": ["conv_dim=4", "block_dims=1"], "network_train_unet_only": True,
    "network_train_text_encoder_only": False, "train_text_encoder": True, "stop_text_encoder_training": 100,
    "dim_from_weights": True, "scale_weight_norms": 1.0, "base_weights": ["a.safetensors"],
    "base_weights_multiplier": [0.5], "block_lr": "1,2", "token_string": "mychar", "init_word": "girl",
    "num_vectors_per_token": 2, "weights": "x", "use_object_template": True, "use_style_template": True,
    "max_train_steps": 2000, "max_train_epochs": 10, "gradient_accumulation_steps": 2, "learning_rate": 1e-4,
    "unet_lr": 1e-4, "text_encoder_lr": [5e-5, 1e-5], "learning_rate_te1": 1e-5, "optimizer_type": "Prodigy",
    "optimizer_args": ["weight_decay=0.1", "betas=0.9,0.99"], "use_8bit_adam": False, "use_lion_optimizer": False,
    "max_grad_norm": 0.5, "lr_scheduler": "cosine_with_restarts", "lr_scheduler_type": "LambdaLR",
    "lr_scheduler_args": ["a=1"], "lr_warmup_steps": 0.1, "lr_decay_steps": 0.2, "lr_scheduler_num_cycles": 3,
    "lr_scheduler_power": 2.0, "lr_scheduler_min_lr_ratio": 0.1, "lr_scheduler_timescale": 10, "mixed_precision": "bf16",
    "no_half_vae": True, "full_fp16": True, "full_bf16": True, "fp8_base": True, "gradient_checkpointing": True,
    "fused_backward_pass": True, "fused_optimizer_groups": 4, "blockwise_fused_optimizers": True,
    "cpu_offload_checkpointing": True, "blocks_to_swap": 2, "double_blocks_to_swap": 2, "single_blocks_to_swap": 2,
    "torch_compile": True, "dynamo_backend": "inductor", "xformers": True, "sdpa": True, "mem_eff_attn": True,
    "diffusers_xformers": True, "split_attn": True, "lowram": True, "highvram": True, "max_data_loader_n_workers": 2,
    "persistent_data_loader_workers": True, "seed": 42, "ddp_timeout": 5, "deepspeed": True, "zero_stage": 2,
    "zero3_init_flag": True, "offload_optimizer_device": "cpu", "fp16_master_weights_and_gradients": True,
    "loss_type": "huber", "huber_c": 0.2, "huber_schedule": "exponential", "huber_scale": 2.0, "min_snr_gamma": 5,
    "debiased_estimation_loss": True, "scale_v_pred_loss_like_noise_pred": True, "v_pred_like_loss": 0.1,
    "prior_loss_weight": 0.8, "noise_offset": 0.05, "noise_offset_random_strength": True, "adaptive_noise_scale": 0.1,
    "multires_noise_iterations": 6, "multires_noise_discount": 0.4, "ip_noise_gamma": 0.1,
    "ip_noise_gamma_random_strength": True, "min_timestep": 100, "max_timestep": 900, "timestep_sampling": "shift",
    "sigmoid_scale": 1.5, "discrete_flow_shift": 3.1, "training_shift": 3.1, "weighting_scheme": "none",
    "logit_mean": 0.1, "logit_std": 1.1, "mode_scale": 1.2, "model_prediction_type": "raw", "guidance_scale": 1.0,
    "masked_loss": True, "output_dir": "out", "output_name": "my lora", "save_precision": "fp16",
    "save_model_as": "safetensors", "use_safetensors": True, "save_every_n_steps": 100, "save_every_n_epochs": 0,
    "save_n_epoch_ratio": 5, "save_state": True, "save_state_on_train_end": True, "save_last_n_steps": 300,
    "save_last_n_steps_state": 300, "save_last_n_epochs": 3, "save_last_n_epochs_state": 3, "resume": "state",
    "initial_epoch": 2, "initial_step": 2, "skip_until_initial_step": True, "no_metadata": True,
    "training_comment": "x", "metadata_title": "x", "huggingface_token": "hf_secret", "save_state_to_huggingface": True,
    "resume_from_huggingface": True, "async_upload": True, "log_with": "all", "logging_dir": "logs",
    "log_prefix": "x", "log_tracker_name": "x", "wandb_api_key": "wb_secret", "log_config": True,
    "console_log_level": "INFO", "console_log_file": "x", "sample_prompts": "prompts.txt", "sample_every_n_steps": 50,
    "sample_every_n_epochs": 1, "sample_at_first": True, "sample_sampler": "euler_a", "validate_every_n_steps": 10,
    "validate_every_n_epochs": 0, "max_validation_steps": 3, "config_file": "x.toml", "dataset_config": "x.toml",
    "output_config": True, "train_data_dir": "pictures", "reg_data_dir": "regs", "in_json": None,
    "conditioning_data_dir": None, "train_batch_size": 4, "dataset_repeats": 2, "caption_extention": ".txt",
}  # fmt: skip
"""Every argument but those that a dataset_config has too, each with a value that says something."""
OF_PICTURES: dict[str, Any] = {
    "resolution": [512, 768], "batch_size": 2, "enable_bucket": True, "min_bucket_reso": 256, "max_bucket_reso": 1024,
    "bucket_reso_steps": 32, "bucket_no_upscale": True, "skip_image_resolution": 256, "resize_interpolation": "area",
    "network_multiplier": 1.0, "flip_aug": True, "color_aug": True, "random_crop": True,
    "face_crop_aug_range": [2.0, 4.0], "shuffle_caption": True, "caption_tag_dropout_rate": 0.1, "keep_tokens": 1,
    "keep_tokens_separator": "|||", "caption_separator": ";", "secondary_separator": ";;;", "caption_dropout_rate": 0.1,
    "caption_dropout_every_n_epochs": 2, "token_warmup_min": 2, "token_warmup_step": 10, "caption_prefix": "art",
    "caption_suffix": "by me", "enable_wildcard": True, "caption_extension": ".txt", "alpha_mask": True,
    "cache_info": True, "cache_latents": True, "cache_latents_to_disk": True, "skip_cache_check": True,
    "vae_batch_size": 4, "cache_text_encoder_outputs": True, "cache_text_encoder_outputs_to_disk": True,
    "text_encoder_batch_size": 4, "dataset_class": "a.B", "debug_dataset": True, "validation_split": 0.1,
    "validation_seed": 1, "custom_attributes": {"a": 1},
}  # fmt: skip
OF_FOLDERS: dict[str, Any] = {
    "num_repeats": 3, "class_tokens": "sks girl", "is_reg": False, "conditioning_data_dir": "masks",
    "image_dir": "pictures",
}  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2000), st.floats(), st.sampled_from(["", "x", "constant", "1e-4", "0"]),
    st.lists(st.integers(0, 3), max_size=3), st.lists(st.sampled_from(["a=1", "b"]), max_size=2),
    st.dictionaries(st.sampled_from("ab"), st.integers(), max_size=2),
)  # fmt: skip
HEARTS, FRUIT, BIRDS = (str(PICTURES / name) for name in ("hearts", "fruit", "birds"))
Write = Callable[..., list[Path]]


class Refused(NamedTuple):
    source: str
    problems: tuple[str, ...]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files of these names and contents into the folder that everything is seen from."""
    monkeypatch.chdir(tmp_path)

    def execute(**files: str) -> list[Path]:
        paths = [Path(name.replace("_", ".")) for name in files]
        for path, text in zip(paths, files.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths

    return execute


def dataset(*subsets: dict[str, Any], general: dict[str, Any] | None = None, **values: Any) -> str:
    """A dataset_config of one data set."""
    lines = ["[general]", *lines_of(general or {}), "[[datasets]]", *lines_of({"resolution": 256, **values})]
    for subset in subsets:
        lines += ["[[datasets.subsets]]", *lines_of(subset)]
    return "\n".join(lines)


def lines_of(values: dict[str, Any]) -> list[str]:
    return [f"{key} = {toml_value(value)}" for key, value in values.items()]


def arguments(**values: Any) -> str:
    """A config file for a model that is there."""
    return "\n".join(lines_of({"pretrained_model_name_or_path": str(STARTER), **values}))


def imported(files: list[Path]) -> Migrated:
    return migrate(files, Path("config-prompts.toml"), plugin_problems)


def config_of(files: list[Path]) -> Config:
    config, problems = validate(imported(files).tree)
    assert config is not None, problems
    return config


def rows_of(script: str = "", **values: Any) -> tuple[Row, ...]:
    return convert(Kohya(arguments=(Arguments(file="a", values=values, script=script),)))


def tree_with(script: str = "", **values: Any) -> dict[str, Any]:
    return tree_of(rows_of(script, **values))


def outcome_of(rows: tuple[Row, ...], key: str) -> Outcome:
    (found,) = (row.outcome for row in rows if row.is_given and row.key == key)
    return found


def plugins_of(tree: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings by class path without the leading `plugins.`."""
    return {
        entry["use"].removeprefix("plugins."): {key: value for key, value in entry.items() if key != "use"}
        for entry in tree["plugins"]
    }


def problems_of(files: list[Path]) -> str:
    with pytest.raises(ConfigError) as caught:
        imported(files)
    return str(caught.value)


# every key has a word said about it


def test_each_rule_is_tried_by_a_key_of_these_tests() -> None:
    assert {key for key in RULES if "*" not in key} | set(ARGUMENT_NAMES) | set(FOLDERS) <= set(ARGUMENTS)
    assert set(PICTURE_RULES) <= set(OF_PICTURES)
    assert set(OF_SUBSETS) - {"metadata_file"} <= set(OF_FOLDERS)


def some_of(values: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.lists(st.sampled_from(sorted(values)), unique=True)
    return keys.map(lambda chosen: {key: values[key] for key in chosen} | {"not_theirs": 1})


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_key_of_every_file_is_reported_once_and_in_its_order(data: st.DataObject) -> None:
    values = data.draw(some_of(ARGUMENTS | OF_PICTURES))
    tables = [data.draw(some_of(OF_PICTURES)) for _ in range(2)]
    subsets = [data.draw(some_of(OF_PICTURES | OF_FOLDERS)) | {"image_dir": name} for name in ("one", "two")]
    tree = {"general": tables[0], "datasets": [tables[1] | {"subsets": subsets}]}
    places = {"general": tables[0], "datasets[0]": tables[1]} | {
        f"datasets[0].subsets[{number}]": one for number, one in enumerate(subsets)
    }
    source = Kohya(arguments=(Arguments(file="a", values=values),), dataset_file="d", dataset=tree)
    rows = convert(source, data.draw(st.none() | st.integers(1, 99)))
    assert [row.key for row in rows if row.is_given and row.file == "a"] == list(values)
    assert [row.key for row in rows if row.is_given and row.file == "d"] == [
        f"{place}.{key}" for place, table in places.items() for key in table
    ]
    made = tree_of(rows)
    assert validate(made | {"model": {"path": "m"} | made.get("model", {})})[1] == []


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_the_values_are_they_are_reported_or_refused_by_file_and_key(data: st.DataObject) -> None:
    def wild(values: dict[str, Any]) -> dict[str, Any]:
        drawn: dict[str, Any] = data.draw(st.dictionaries(st.sampled_from(sorted(values)), VALUES, max_size=3))
        return values | drawn

    values, subset = wild(ARGUMENTS), wild(OF_PICTURES | OF_FOLDERS)
    tree = {"general": wild(OF_PICTURES), "datasets": [{"subsets": [subset, {"image_dir": "other"}]}]}
    source = Kohya(arguments=(Arguments(file="a", values=values),), dataset_file="d", dataset=tree)
    rows, refused = refusal(lambda: convert(source, 10))
    if refused is None:
        counts = Counter(row.file for row in rows if row.is_given)
        assert counts == {"a": len(values), "d": len(tree["general"]) + len(subset) + 1}
    elif refused.source == "a":
        assert all(problem.split()[0] in values for problem in refused.problems)
    else:
        assert all(problem.startswith(("general", "datasets[0].subsets[", "has no")) for problem in refused.problems)


def refusal(convert_them: Callable[[], tuple[Row, ...]]) -> tuple[tuple[Row, ...], Refused | None]:
    """The rows, or what was refused."""
    try:
        return convert_them(), None
    except ConfigError as error:
        return (), Refused(str(error).partition(": ")[0], error.problems)


def test_a_key_of_two_files_is_reported_for_both_and_the_command_line_has_the_say(write: Write) -> None:
    files = write(
        c_toml=arguments(learning_rate=1e-4, config_file="x"),
        c_sh="train_db.py --config_file c --learning_rate 2e-4 --train_data_dir x\n",
    )
    migrated = imported(files[1:])
    told = {(row.file, row.key): row.outcome for row in migrated.rows if row.is_given}
    assert told["c.toml", "learning_rate"].remark == "a later file has the say"
    assert told["c.sh", "learning_rate"].keys == {"train.learning_rate": 2e-4}
    assert migrated.tree["train"]["learning_rate"] == 2e-4


def test_secrets_are_never_shown(write: Write) -> None:
    files = write(a_toml=arguments(huggingface_token="hf_secret", wandb_api_key="wb_secret"))
    shown = "\n".join(import_config(files, Path("out.toml"))) + Path("out.toml").read_text()
    assert "huggingface_token = ..." in shown
    assert "secret" not in shown


# what the arguments become


@pytest.mark.parametrize(
    ("given_there", "key", "value"),
    [
        ({"mixed_precision": "bf16"}, "train.precision", "bf16"),
        ({"mixed_precision": "fp16"}, "model.dtype", "fp16"),
        ({"mixed_precision": "fp16", "no_half_vae": True}, "model.vae_dtype", "fp32"),
        ({"v_parameterization": True}, "model.prediction", "v_prediction"),
        ({"max_token_length": "225"}, "data.max_tokens", 225),
        ({"max_train_steps": "500"}, "train.steps", 500),
        ({}, "train.steps", 1600),
        ({"optimizer_type": "AdamW8bit"}, "train.optimizer", "bitsandbytes.optim.AdamW8bit"),
        ({"optimizer_type": "RAdam"}, "train.optimizer", "torch.optim.RAdam"),
        ({"optimizer_type": "my.Own"}, "train.optimizer", "my.Own"),
        ({"use_8bit_adam": True}, "train.optimizer", "bitsandbytes.optim.AdamW8bit"),
        ({"optimizer_args": ["weight_decay=0.1", "betas=0.9,0.99"]}, "train.weight_decay", 0.1),
        ({"optimizer_args": ["weight_decay=0.1", "eps=1e-6"]}, "train.optimizer_options", {"eps": 1e-6}),
        ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 3}, "train.cycles", 3),
        ({"lr_scheduler": "polynomial", "lr_scheduler_power": 2}, "train.power", 2.0),
        ({"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_min_lr_ratio": 0.1}, "train.final_factor", 0.1),
        ({"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": 0.2}, "train.decay_from", 0.8),
        ({"lr_scheduler": "linear", "lr_warmup_steps": 0.05, "max_train_steps": 200}, "train.warmup_steps", 10),
        ({"save_state": True, "save_every_n_steps": 50}, "checkpoint.every_steps", 50),
        ({"save_every_n_steps": 50, "save_last_n_steps": 150}, "checkpoint.keep", 3),
        ({"sample_prompts": "p.txt", "sample_sampler": "k_euler_a"}, "preview.scheduler", "EulerAncestralDiscreteScheduler"),
        ({}, "preview.at_end", False),
        ({"console_log_level": "CRITICAL"}, "log.level", "error"),
        ({"output_name": "my lora"}, "run.name", "my-lora"),
        ({"resolution": "512,768"}, "data.resolution", 627),
        ({"train_batch_size": 3}, "train.batch_size", 3),
        ({}, "data.max_aspect", 1.0),
        ({"enable_bucket": True, "resolution": 512}, "data.max_aspect", 4.0),
        ({"enable_bucket": True, "resolution": 256}, "data.max_aspect", 1.0),
        ({"enable_bucket": True, "resolution": 512, "max_bucket_reso": 768}, "data.max_aspect", 3.0),
    ],
)  # fmt: skip
def test_an_argument_becomes_a_key_of_ours(given_there: dict[str, Any], key: str, value: Any) -> None:
    table, _, name = key.partition(".")
    assert tree_with(**given_there)[table][name] == value


@pytest.mark.parametrize(
    ("given_there", "plugin", "settings_of_it"),
    [
        ({"loss_type": "huber", "huber_c": 0.2, "huber_schedule": "constant"}, "huber.Huber", {"c": 0.2, "course": "constant"}),
        ({"multires_noise_iterations": 6}, "pyramid_noise.PyramidNoise", {"levels": 6, "discount": 0.3}),
        ({"ip_noise_gamma": 0.1}, "input_perturbation.InputPerturbation", {"strength": 0.1}),
        ({"min_timestep": 100}, "timesteps.Timesteps", {"low": 0.1, "high": 1.0}),
        ({"timestep_sampling": "sigmoid"}, "timesteps.Timesteps", {"kind": "logit_normal", "deviation": 1.0, "shift": 1.0}),
        ({"base_weights": "a", "base_weights_multiplier": 0.5}, "merge_lora.MergeLora", {"file": "a", "strength": 0.5}),
        ({"shuffle_caption": True, "keep_tokens": 2}, "captions.ShuffleTags", {"always": True, "keep": 2}),
        ({"caption_tag_dropout_rate": 0.1}, "captions.DropTags", {"probability": 0.1, "keep": 0}),
        ({"caption_prefix": "art", "caption_suffix": "by me"}, "captions.Affix", {"prefix": "art ", "suffix": " by me"}),
        ({"token_string": "me", "init_word": "girl"}, "textual_inversion.TextualInversion", {"words": {"me": "girl"}, "vectors": 1}),
        ({"logging_dir": "logs"}, "tensorboard.TensorBoard", {}),
    ],
)  # fmt: skip
def test_an_argument_is_taken_into_a_plugin(given_there: dict[str, Any], plugin: str, settings_of_it: Any) -> None:
    assert plugins_of(tree_with(**given_there))[plugin] == settings_of_it


@pytest.mark.parametrize("key", ["noise_offset", "min_snr_gamma", "multires_noise_iterations", "ip_noise_gamma"])
@pytest.mark.parametrize("off", [0, None])
def test_what_is_off_there_switches_no_plugin_on(key: str, off: Any) -> None:
    outcome = outcome_of(rows_of(**{key: off}), key)
    assert (outcome.kind, outcome.plugins) == ("already", {})


@pytest.mark.parametrize(
    ("script", "given_there", "modules"),
    [
        ("train_network", {}, ["unet", "text_encoder"]),
        ("train_network", {"network_train_unet_only": True}, ["unet"]),
        ("sdxl_train_network", {}, ["unet", "text_encoder", "text_encoder_2"]),
        ("flux_train_network", {"network_train_unet_only": True}, ["transformer"]),
        ("fine_tune", {}, ["unet"]),
        ("fine_tune", {"train_text_encoder": True}, ["unet", "text_encoder"]),
        ("train_db", {}, ["unet", "text_encoder"]),
        ("train_db", {"stop_text_encoder_training": -1}, ["unet"]),
        ("train_textual_inversion", {}, ["text_encoder"]),
        ("", {"network_module": "networks.lora"}, ["unet", "text_encoder"]),
        ("", {"train_text_encoder": False}, ["unet"]),
    ],
)
def test_what_is_trained_follows_from_the_script(script: str, given_there: dict[str, Any], modules: list[str]) -> None:
    assert tree_with(script, **given_there)["model"]["train"] == modules


def test_an_adapter_has_their_layers_their_alpha_and_no_model_beside_it() -> None:
    tree = tree_with("train_network", network_module="networks.lora", network_dim="8", network_train_unet_only=True)
    settings_of_it = plugins_of(tree)["lora.Lora"]
    assert (settings_of_it["rank"], settings_of_it["alpha"]) == (8, 1.0)
    assert "*.ff.net.2" in settings_of_it["targets"]
    assert "*.fc1" not in settings_of_it["targets"]
    assert tree["export"]["model"] is False


def test_an_adapter_that_is_no_lora_has_no_counterpart() -> None:
    rows = rows_of(network_module="lycoris.kohya", network_args=["algo=loha", "preset=full"], network_dim=4)
    assert outcome_of(rows, "network_module").kind == "none"
    assert "preset" in outcome_of(rows, "network_args").remark
    assert outcome_of(rows, "network_dim").kind == "already"


def test_a_rate_is_that_of_the_denoiser_unless_it_has_its_own() -> None:
    assert tree_with(learning_rate=1e-4)["train"]["learning_rate"] == 1e-4
    train = tree_with(learning_rate=1e-4, unet_lr=2e-4)["train"]
    assert (train["learning_rate"], train["text_encoder_learning_rate"]) == (2e-4, 1e-4)
    assert tree_with(text_encoder_lr=["5e-5", "1e-5"])["train"]["text_encoder_learning_rate"] == 5e-5


# pictures


def test_a_folder_of_repeats_is_read_by_its_names(write: Write) -> None:
    tree = tree_with("train_db", train_data_dir="pictures", reg_data_dir="regs")
    assert (tree["data"]["root"], tree["data"]["layout"]) == (["pictures", "regs"], "kohya")
    assert plugins_of(tree)["prior_preservation.PriorPreservation"] == {"folder": "regs"}


def test_folders_of_a_dataset_config_become_roots_and_what_differs_is_for_their_local_yaml(write: Write) -> None:
    files = write(
        d_toml=dataset(
            {"image_dir": HEARTS, "num_repeats": 10, "class_tokens": "sks heart"},
            {"image_dir": FRUIT, "keep_tokens": 3, "flip_aug": True},
            {"image_dir": BIRDS, "is_reg": True, "num_repeats": 1},
            general={"shuffle_caption": True, "keep_tokens": 1},
        )
    )
    migrated = imported(files)
    assert migrated.tree["data"]["root"] == [HEARTS, FRUIT, BIRDS]
    assert plugins_of(migrated.tree)["captions.ShuffleTags"] == {"always": True, "keep": 1}
    assert plugins_of(migrated.tree)["prior_preservation.PriorPreservation"] == {"folder": BIRDS}
    told = "\n".join(migrated.to_do)
    assert f"write `multiply: 10` into local.yaml in {HEARTS}" in told
    assert f"write `main_prompt: sks heart` into local.yaml in {HEARTS}" in told
    assert f"write `keep_tags: 3` into local.yaml in {FRUIT}" in told
    assert f"write `flip_p: 0.5` into local.yaml in {FRUIT}" in told


def test_what_local_yaml_is_told_is_what_it_reads(write: Write, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "fox.png").write_bytes((PICTURES / "animals" / "fox.png").read_bytes())
    values = {
        "image_dir": "own", "num_repeats": 4, "class_tokens": "sks fox", "flip_aug": True, "shuffle_caption": True,
        "caption_dropout_rate": 0.25, "keep_tokens": 2, "bucket_no_upscale": True,
    }  # fmt: skip
    files = write(d_toml=dataset({"image_dir": HEARTS}, values))
    lines = [note.split("`")[1] for note in imported(files).to_do if "local.yaml" in note]
    assert len(lines) == len(values) - 1
    (tmp_path / "own" / "local.yaml").write_text("\n".join(lines))
    config = config_of(files)
    with HeaderCache(None) as cache:
        (item,) = scan(config.data, cache, roots=[Path("own")], hashes=False).items
    own = item.settings
    assert (item.caption, own.multiply, own.flip_p, own.shuffle_tags) == ("sks fox", 4, 0.5, True)
    assert (own.cond_dropout, own.keep_tags, own.no_upscale) == (0.25, 2, True)


def test_a_value_that_every_folder_overrules_is_said_to_be_so(write: Write) -> None:
    files = write(d_toml=dataset({"image_dir": HEARTS, "keep_tokens": 2}, general={"keep_tokens": 1}))
    assert outcome_of(imported(files).rows, "general.keep_tokens").remark == "each folder says otherwise"


def test_several_resolutions_take_turns() -> None:
    sets = [
        {"resolution": 512, "subsets": [{"image_dir": "a"}]},
        {"resolution": [768, 768], "subsets": [{"image_dir": "a"}]},
    ]
    tree = tree_of(convert(Kohya(dataset_file="d", dataset={"datasets": sets})))
    assert (tree["data"]["resolution"], tree["data"]["root"]) == ([512, 768], "a")


def test_a_list_of_metadata_is_a_root() -> None:
    sets = [{"subsets": [{"metadata_file": "a/meta.json", "image_dir": "a"}]}]
    rows = convert(Kohya(dataset_file="d", dataset={"datasets": sets}))
    assert tree_of(rows)["data"]["root"] == "a/meta.json"
    assert outcome_of(rows, "datasets[0].subsets[0].image_dir").kind == "already"


# epochs become steps


def test_epochs_count_pictures_as_often_as_they_are_repeated(write: Write) -> None:
    count = len(list(Path(HEARTS).glob("*.png")))
    files = write(
        a_toml=arguments(
            max_train_epochs=3, gradient_accumulation_steps=2, save_every_n_epochs=1, dataset_config="d.toml"
        ),
        d_toml=dataset({"image_dir": HEARTS, "num_repeats": 5}, batch_size=4),
    )
    each = math.ceil(math.ceil(5 * count / 4) / 2)
    config = config_of(files[:1])
    assert config.train.steps == 3 * each
    assert config.export.every_steps == each


def test_regularization_pictures_count_as_often_as_the_others(write: Write) -> None:
    count = len(list(Path(HEARTS).glob("*.png")))
    subsets = ({"image_dir": HEARTS}, {"image_dir": BIRDS, "is_reg": True, "num_repeats": 7})
    files = write(a_toml=arguments(max_train_epochs=1), d_toml=dataset(*subsets, batch_size=1))
    assert config_of(files).train.steps == 2 * count


def test_steps_are_called_a_guess_where_the_pictures_cannot_be_counted(write: Write) -> None:
    migrated = imported(write(a_toml=arguments(max_train_epochs=4, save_every_n_epochs=1, train_data_dir="nowhere")))
    assert (migrated.tree["train"]["steps"], migrated.tree["export"]["every_steps"]) == (1000, 250)
    assert any("A GUESS" in note and "nowhere" in note for note in migrated.to_do)


# command lines


def test_a_command_line_is_taken_apart() -> None:
    text = (
        "#!/bin/sh\n# accelerate launch old.py --x\nsource venv/bin/activate\n"
        "accelerate launch --num_cpu_threads_per_process=1 --multi_gpu sdxl_train_network.py \\\n"
        '  --output_name "my lora" --network_args "a=1" b=2 --xformers --min-snr-gamma=5 \\\n  --seed -1 # end\n'
    )
    command = read_command("train.sh", text)
    assert command.script == "sdxl_train_network"
    assert command.launcher == {"num_cpu_threads_per_process": "1", "multi_gpu": True}
    assert command.arguments == {
        "output_name": "my lora", "network_args": ["a=1", "b=2"], "xformers": True, "min_snr_gamma": "5", "seed": "-1",
    }  # fmt: skip


def test_a_command_line_of_windows_keeps_its_backslashes() -> None:
    text = 'accelerate launch ^\r\n ".\\train_network.py" ^\r\n --output_dir="C:\\my out" --train_data_dir C:\\in\r\n'
    command = read_command("train.bat", text)
    assert command.script == "train_network"
    assert command.arguments == {"output_dir": "C:\\my out", "train_data_dir": "C:\\in"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no argument"),
        ("train_db.py --a 1\ntrain_db.py --b 2\n", "has 2 commands"),
        ("train_db.py stray --a 1\n", "'stray' stands where an argument"),
        ('train_db.py --a "1\n', "cannot be read as a command line"),
    ],
)
def test_a_command_line_that_is_none_is_one_clear_problem(write: Write, text: str, told: str) -> None:
    message = problems_of(write(train_sh=text))
    assert message.startswith("train.sh: 1 problem")
    assert told in message


# what is written and what is refused


def test_the_written_config_is_accepted_whole(write: Write, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a fox --n blurry --d 7\n")
    files = write(
        a_toml="[model]\n"
        + arguments(network_module="networks.lora", network_dim=4, sample_prompts="p.txt")
        + "\n[x]\nseed = 3\n",
        d_toml=dataset({"image_dir": HEARTS}, enable_bucket=True, resolution=512),
    )
    lines = list(import_config(files, Path("out.toml"), plugin_problems=plugin_problems))
    config = load_config(Path("out.toml"), (), plugin_problems)
    assert (config.run.seed, config.preview.prompts, config.data.max_aspect) == (3, Path("p.txt"), 4.0)
    assert "seed = 3  # x.seed\n" in Path("out.toml").read_text()
    assert not any(line.startswith("to do") for line in lines)
    assert tomli.loads(Path("out.toml").read_text())["train"]["steps"] == 1600


def test_what_no_file_names_is_told(write: Write) -> None:
    to_do = imported(write(a_toml="seed = 1\n")).to_do
    assert {note.split()[0] for note in to_do} >= {"model.path", "data.root"}


def test_bad_values_are_told_together_by_file_and_key(write: Write) -> None:
    text = problems_of(write(a_toml=arguments(train_batch_size=0, mixed_precision="fp8", learning_rate="fast")))
    assert text.startswith("a.toml: 3 problems")
    assert "train_batch_size  0 is not a whole number from 1" in text
    assert "mixed_precision  'fp8' is not no, fp16 or bf16" in text
    assert "learning_rate  'fast' is not a number" in text


def test_bad_values_of_a_dataset_config_are_told_with_their_place(write: Write) -> None:
    text = problems_of(write(d_toml=dataset({"image_dir": 3}, resolution="big")))
    assert "datasets[0].resolution  'big' is not a number" in text
    assert "datasets[0].subsets[0].image_dir  3 is not text" in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x", "is no TOML"),
        ("[[datasets]]\nresolution = 512\n", "has no [[datasets.subsets]]"),
        ("datasets = 3\n", "3 is not a table"),
        ("[a]\nx = 1\n[b]\nx = 2\n", "b.x  is there as a.x too"),
    ],
)
def test_a_toml_file_that_cannot_be_used_is_one_clear_problem(write: Write, text: str, told: str) -> None:
    message = problems_of(write(d_toml=text))
    assert message.startswith("d.toml: 1 problem")
    assert told in message


def test_two_dataset_configs_are_refused(write: Write) -> None:
    text = dataset({"image_dir": HEARTS})
    assert "second dataset_config" in problems_of(write(d_toml=text, e_toml=text))
