"""EveryDream2's files become a config that says the same, with a word on each of their keys; nothing is dropped unseen."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config.file import load_config, validate
from core.config.tables import Config
from core.data.buckets import assign_sizes
from core.data.plan import PlanSettings, plan_epoch
from core.data.scan import scan
from core.errors import ConfigError
from core.migration.everydream import EveryDream, Named, convert, flat
from core.migration.everydream_files import OPTIMIZER_RULES, PROMPT_RULES, TABLES, VALIDATION_RULES
from core.migration.everydream_keys import RULES
from core.migration.migrate import Migrated, import_config, migrate
from core.migration.outcome import Row, tree_of
from core.pictures.header_cache import HeaderCache
from core.preview.prompts import read_prompts
from plugins.loading import plugin_problems
from tests.small_runs import PICTURES, STARTER

TRAIN: dict[str, Any] = {
    "amp": True, "attn_type": "sdp", "batch_size": 10, "ckpt_every_n_minutes": 20, "clip_grad_norm": 1.5, "clip_skip": 2,
    "cond_dropout": 0.04, "config": "train.json", "data_root": "pictures", "disable_amp": True,
    "disable_textenc_training": False, "disable_unet_training": False, "disable_xformers": True, "flip_p": 0.25,
    "gpuid": 1, "gradient_checkpointing": True, "grad_accum": 2, "hf_repo_subfolder": "x", "logdir": "logs",
    "log_step": 25, "lowvram": True, "lr": 1.5e-6, "lr_decay_steps": 300, "lr_scheduler": "cosine",
    "lr_warmup_steps": 20, "max_epochs": 30, "max_steps": 900, "no_prepend_last": True, "no_save_ckpt": True,
    "notebook": True, "optimizer_config": "optimizer.json", "plugins": ["plugins.accumulnator"],
    "project_name": "project abc", "resolution": [512, 768], "resume_ckpt": "models/sd15", "run_name": "one",
    "rated_dataset": True, "rated_dataset_target_dropout_percent": 50, "sample_prompts": "sample_prompts.txt",
    "sample_steps": 300, "save_ckpt_dir": "out", "save_every_n_epochs": 20, "save_ckpts_from_n_epochs": 3,
    "save_full_precision": True, "save_optimizer": True, "scale_lr": True, "seed": 555, "shuffle_tags": True,
    "keep_tags": 2, "train_sampler": "ddpm", "validation_config": "validation_default.json", "wandb": True,
    "write_schedule": True, "zero_frequency_noise_ratio": 0.02, "enable_zero_terminal_snr": True,
    "mix_zero_terminal_snr": True, "match_zero_terminal_snr": True, "load_settings_every_epoch": True,
    "min_snr_gamma": 5, "min_snr_alpha": 0.5, "debug_invert_min_snr_gamma": True, "loss_type": "huber",
    "loss_mode_scale": 1.0, "ema_decay_rate": 0.999, "ema_strength_target": 0.1, "ema_update_interval": 50,
    "ema_device": "cuda", "ema_sample_ema_model": True, "ema_sample_nonema_model": True, "ema_resume_model": "x",
    "pyramid_noise_discount": 0.3, "embedding_perturbation": 1.0, "timestep_start": 100, "timestep_end": 900,
    "timestep_curriculum_alpha": 1.0, "timestep_initial_start": 800, "batch_share_noise": True,
    "batch_share_timesteps": True, "negative_loss_margin": 1, "teacher": "models/big", "teacher_loss_scale": 1,
    "contrastive_learning_batch_ids": ["x"], "contrastive_learning_dropout_p": 0.1,
    "everything_contrastive_learning_p": 0.1, "caption_variants": ["x"], "all_caption_variants": True,
    "batch_id_dropout_p": 0.1, "cond_dropout_noise_p": 0.1, "jacobian_descent": True, "use_masks": True, "lora": True,
    "lora_resume": "adapters/one", "lora_rank": 16, "lora_alpha": 8, "test_images": True, "latents_device": "cpu",
    "tokens_75": True, "forward_slice_size": 2, "max_backward_slice_size": 2, "auto_decay_steps_multiplier": 1.5,
    "no_initial_validation": True, "useadam8bit": True, "timesteps_multirank_stratified": True,
}  # fmt: skip
"""Every key of train.json, each with a value that says something."""
OPTIMIZER: dict[str, Any] = {
    "doc": {"base": "words"},
    "base": {
        "optimizer": "adamw", "lr": 1e-6, "lr_scheduler": "constant", "lr_decay_steps": None, "lr_warmup_steps": None,
        "betas": [0.9, 0.99], "epsilon": 1e-8, "weight_decay": 0.02, "d0": 1e-6, "decouple": True, "momentum": 0.9,
    },
    "text_encoder_overrides": {"optimizer": "lion", "lr": 3e-7, "lr_scheduler": None, "weight_decay": 0.04},
    "text_encoder_lr_scale": 0.5,
    "text_encoder_freezing": {
        "freeze_embeddings": True, "freeze_front_n_layers": 2, "freeze_final_layer_norm": True,
        "unfreeze_last_n_layers": None,
    },
    "unet_freezing": {"freeze_in": True, "freeze_mid": True, "freeze_out": False},
    "unet_component_lr": {"mid": 1e-6},
    "apply_grad_scaler_step_tweaks": True, "use_grad_scaler": True, "log_grad_norm": True,
}  # fmt: skip
VALIDATION: dict[str, Any] = {
    "documentation": {"seed": "words"}, "validate_training": True, "val_split_mode": "automatic",
    "val_split_proportion": 0.15, "val_data_root": None, "extra_manual_datasets": {"faces": "faces"},
    "every_n_epochs": 1, "stabilize_training_loss": True, "stabilize_split_proportion": 0.15, "seed": 555,
    "use_relative_loss": True,
}  # fmt: skip
PROMPTS: dict[str, Any] = {
    "batch_size": 3, "seed": 555, "cfgs": [7, 4], "scheduler": "dpm++", "num_inference_steps": 15, "resolution": 512,
    "show_progress_bars": True, "generate_samples_every_n_steps": 100, "generate_pretrain_samples": True,
    "append_invocations": True, "samples": [{"prompt": "a fox"}],
}  # fmt: skip
PARTS = {
    "train": (TRAIN, RULES),
    "optimizer": (flat(OPTIMIZER, TABLES), OPTIMIZER_RULES),
    "validation": (VALIDATION, VALIDATION_RULES),
    "prompts": (PROMPTS, PROMPT_RULES),
}
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2000), st.floats(), st.sampled_from(["", "x", "constant", "1e-4", "0"]),
    st.lists(st.integers(0, 3), max_size=3), st.dictionaries(st.sampled_from("ab"), st.integers(), max_size=2),
)  # fmt: skip


class Refused(NamedTuple):
    source: str
    problems: tuple[str, ...]


Write = Callable[..., list[Path]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files of these names and objects into the folder that everything is seen from."""
    monkeypatch.chdir(tmp_path)

    def execute(**files: Any) -> list[Path]:
        for name, tree in files.items():
            text = tree if isinstance(tree, str) else json.dumps(tree)
            (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
        return [Path(f"{name}.json") for name in files]

    return execute


def small(**values: Any) -> dict[str, Any]:
    """A train.json for pictures and a model that are there."""
    return {
        "resume_ckpt": str(STARTER), "data_root": str(PICTURES), "resolution": 256, "batch_size": 4, "max_epochs": 3,
        "sample_prompts": None, **values,
    }  # fmt: skip


def imported(files: list[Path]) -> Migrated:
    return migrate(files, Path("config-prompts.toml"), plugin_problems)


def config_of(files: list[Path]) -> Config:
    config, problems = validate(imported(files).tree)
    assert config is not None, problems
    return config


def source_of(**files: Mapping[str, Any]) -> EveryDream:
    return EveryDream(**{part: Named(file=part, values=values) for part, values in files.items()})


def row_of(rows: tuple[Row, ...], key: str) -> Row:
    (found,) = (row for row in rows if row.is_given and row.key == key)
    return found


def refusal(convert_them: Callable[[], tuple[Row, ...]]) -> tuple[tuple[Row, ...], "Refused | None"]:
    """The rows, or what was refused."""
    try:
        return convert_them(), None
    except ConfigError as error:
        return (), Refused(str(error).partition(": ")[0], error.problems)


def problems_of(files: list[Path]) -> str:
    with pytest.raises(ConfigError) as caught:
        imported(files)
    return str(caught.value)


# every key has a word said about it


@pytest.mark.parametrize("part", PARTS)
def test_each_rule_is_tried_by_a_key_of_these_tests(part: str) -> None:
    values, rules = PARTS[part]
    assert {key for key in rules if "*" not in key} - set(TABLES) <= set(values)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_key_of_every_file_is_reported_once_and_in_its_order(data: st.DataObject) -> None:
    files = {}
    for part, (values, _) in PARTS.items():
        keys = data.draw(st.lists(st.sampled_from(sorted(values)), unique=True), label=part)
        files[part] = {key: values[key] for key in keys} | {"not_theirs": 1}
    rows = convert(source_of(**files), data.draw(st.none() | st.integers(1, 99)))
    for part, values in files.items():
        assert [row.key for row in rows if row.is_given and row.file == part] == list(values)
    assert validate({"model": {"path": "m"}, "data": {"root": "d"}} | tree_of(rows))[1] == []


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_the_values_are_they_are_reported_or_refused_by_file_and_key(data: st.DataObject) -> None:
    files: dict[str, dict[str, Any]] = {}
    for part, (values, _) in PARTS.items():
        wild = data.draw(st.dictionaries(st.sampled_from(sorted(values)), VALUES, max_size=3), label=part)
        files[part] = values | wild
    rows, refused = refusal(lambda: convert(source_of(**files), 10))
    if refused is None:
        counts = Counter(row.file for row in rows if row.is_given)
        assert counts == {part: len(values) for part, values in files.items()}
    else:
        assert all(problem.split()[0] in files[refused.source] for problem in refused.problems)


def test_a_key_that_is_not_known_is_named(write: Write) -> None:
    lines = list(import_config(write(train=small(banana=3)), Path("out.toml"), plugin_problems=plugin_problems))
    place = lines.index("  not known")
    assert lines[place + 1].split() == ["banana", "=", "3", "is", "left", "out"]


def test_what_the_files_leave_out_counts_as_there_by_default(write: Write) -> None:
    migrated = imported(write(train=small()))
    told = {row.key: row.outcome for row in migrated.rows if not row.is_given}
    assert told["cond_dropout"].plugins == {"plugins.captions.DropCaption": {"probability": 0.04}}
    assert told["base.lr"].keys == {"train.learning_rate": 1e-6}
    assert migrated.tree["run"]["seed"] == 555


def test_a_default_never_has_the_say_over_what_a_file_says() -> None:
    tree = tree_of(convert(source_of(train={}, prompts={"seed": 3})))
    assert (tree["run"]["seed"], tree["preview"]["seed"]) == (555, 3)


# what the keys become


@pytest.mark.parametrize(
    ("given_there", "key", "value"),
    [
        ({"batch_size": 6}, "train.batch_size", 6),
        ({"disable_amp": True}, "train.precision", "fp32"),
        ({"disable_amp": False}, "train.precision", "fp16"),
        ({"disable_textenc_training": True}, "model.train", ["unet"]),
        ({"disable_unet_training": True}, "model.train", ["text_encoder"]),
        ({"clip_grad_norm": None}, "train.clip_norm", 0.0),
        ({"grad_accum": 3, "sample_steps": 300}, "preview.every_steps", 100),
        ({"sample_steps": 0}, "preview.every_steps", 0),
        ({"seed": -1}, "run.seed", 0),
        ({"project_name": "a b/c"}, "run.name", "a-b-c"),
        ({"save_full_precision": True}, "export.dtype", "fp32"),
        ({"no_save_ckpt": True}, "export.single_file", False),
        (
            {"lr": 2e-6, "scale_lr": True, "batch_size": 4, "grad_accum": 2},
            "train.learning_rate",
            float(f"{2e-6 * 8**0.55:.6g}"),
        ),
        ({"lowvram": True, "batch_size": 8, "grad_accum": 4}, "train.batch_size", 1),
        ({"lowvram": True, "batch_size": 8, "grad_accum": 4}, "train.accumulate", 1),
        ({"max_steps": 7, "grad_accum": 2}, "train.steps", 4),
        ({"useadam8bit": True}, "train.optimizer", "bitsandbytes.optim.AdamW8bit"),
    ],
)
def test_a_key_becomes_one_of_ours(given_there: dict[str, Any], key: str, value: Any) -> None:
    tree = tree_of(convert(source_of(train=given_there)))
    table, _, name = key.partition(".")
    assert tree[table][name] == value


@pytest.mark.parametrize(
    ("given_there", "plugin", "settings_of_it"),
    [
        ({"shuffle_tags": True, "keep_tags": 2}, "captions.ShuffleTags", {"always": True, "keep": 2}),
        ({"zero_frequency_noise_ratio": 0.05}, "noise_offset.NoiseOffset", {"strength": 0.05}),
        ({"timestep_start": 200}, "timesteps.Timesteps", {"low": 0.2, "high": 1.0}),
        ({"ema_decay_rate": 0.99, "ema_update_interval": 5}, "ema.Ema", {"every_steps": 5, "device": "cpu", "decay": 0.99}),
        ({"lora": True, "lora_rank": 4, "lora_alpha": 2}, "lora.Lora", {"rank": 4, "alpha": 2.0}),
        ({"use_masks": True}, "masked_loss.MaskedLoss", {}),
    ],
)  # fmt: skip
def test_a_key_is_taken_into_a_plugin(given_there: dict[str, Any], plugin: str, settings_of_it: dict[str, Any]) -> None:
    entries = {entry.pop("use"): entry for entry in tree_of(convert(source_of(train=given_there)))["plugins"]}
    assert entries[f"plugins.{plugin}"] == settings_of_it


@pytest.mark.parametrize(
    "key", ["zero_frequency_noise_ratio", "min_snr_gamma", "ema_decay_rate", "pyramid_noise_discount"]
)
@pytest.mark.parametrize("off", [0, None])
def test_what_is_off_there_switches_no_plugin_on(key: str, off: Any) -> None:
    row = row_of(convert(source_of(train={key: off})), key)
    assert (row.outcome.kind, row.outcome.plugins) == ("already", {})


def test_a_strength_of_the_average_leaves_that_share_of_the_first_weights() -> None:
    train = {"ema_strength_target": 0.1, "ema_update_interval": 10, "max_epochs": 10}
    settings_of_it = row_of(convert(source_of(train=train), 100), "ema_strength_target").outcome.plugins[
        "plugins.ema.Ema"
    ]
    updates = 1000 / 10
    assert settings_of_it["decay"] ** updates == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize(("name", "left"), [("cosine", (1 + math.cos(math.pi / 1.5)) / 2), ("linear", 1 / 3)])
def test_a_schedule_ends_where_theirs_is_after_two_thirds_of_its_course(name: str, left: float) -> None:
    outcome = row_of(convert(source_of(train={"lr_scheduler": name, "max_epochs": 10}), 60), "lr_scheduler").outcome
    assert outcome.keys["train.final_factor"] == pytest.approx(left, abs=1e-6)
    assert outcome.keys["train.warmup_steps"] == round(600 * 1.5 / 50)


def test_the_optimizers_file_has_the_say_on_the_schedule_and_train_json_on_the_rate() -> None:
    files = {"train": {"lr": 3e-6, "lr_scheduler": "linear"}, "optimizer": flat(OPTIMIZER, TABLES)}
    rows = convert(source_of(**files))
    tree = tree_of(rows)
    assert (tree["train"]["schedule"], tree["train"]["learning_rate"]) == ("constant", 3e-6)
    assert "lr of train.json" in row_of(rows, "base.lr").outcome.remark
    assert row_of(rows, "lr_scheduler").outcome.remark == "the optimizer's file has the say"
    assert tree["train"]["text_encoder_learning_rate"] == 3e-7
    assert tree["train"]["optimizer_options"] == {"betas": [0.9, 0.99], "eps": 1e-8}


def test_freezing_becomes_rules_for_weights_or_a_count_of_layers() -> None:
    frozen = {"freeze_embeddings": True, "freeze_front_n_layers": 2}
    tree = tree_of(convert(source_of(train={}, optimizer=flat({"text_encoder_freezing": frozen}, TABLES))))
    assert [rule["match"] for rule in tree["train"]["parameters"]] == [
        "text_encoder.*embeddings.*", "text_encoder.*encoder.layers.0.*", "text_encoder.*encoder.layers.1.*",
    ]  # fmt: skip
    values = {"text_encoder_freezing.freeze_front_n_layers": -6}
    plugins = row_of(convert(source_of(train={}, optimizer=values)), "text_encoder_freezing.freeze_front_n_layers")
    assert plugins.outcome.plugins["plugins.last_layers.LastLayers"]["layers"] == 6


def test_nothing_is_said_of_a_text_encoder_that_is_not_trained() -> None:
    files = {"train": {"disable_textenc_training": True}, "optimizer": flat(OPTIMIZER, TABLES)}
    tree = tree_of(convert(source_of(**files)))
    assert all(rule["match"].startswith("unet.") for rule in tree["train"]["parameters"])
    assert "text_encoder_learning_rate" not in tree["train"]


# epochs become steps


def test_epochs_become_the_steps_that_our_own_plan_has(write: Write) -> None:
    config = config_of(write(train=small(grad_accum=2, max_epochs=5, save_every_n_epochs=2)))
    with HeaderCache(None) as cache:
        items = scan(config.data, cache, hashes=False).items
    plan = plan_epoch(items, assign_sizes(items, 64, config.data), PlanSettings(seed=0, batch_size=4, fill=True), 0)
    each = math.ceil(len(plan) / 2)
    assert config.train.steps == 5 * each
    assert config.export.every_steps == 2 * each


def test_pictures_held_out_for_validation_make_epochs_shorter(write: Write) -> None:
    whole = config_of(write(train=small()))
    held_out = config_of(write(train=small(validation_config="v.json"), v={"val_split_proportion": 0.5})[:1])
    assert held_out.validation.fraction == 0.5
    assert held_out.train.steps < whole.train.steps


def test_steps_are_called_a_guess_where_the_pictures_cannot_be_counted(write: Write) -> None:
    migrated = imported(write(train=small(data_root="nowhere", save_every_n_epochs=1)))
    assert migrated.tree["train"]["steps"] == 1000
    assert migrated.tree["export"]["every_steps"] == 333
    (told,) = (note for note in migrated.to_do if "A GUESS" in note)
    assert "nowhere" in told
    assert "A GUESS" in row_of(migrated.rows, "max_epochs").outcome.remark


# files beside, paths and what is written


def test_files_that_train_json_names_are_read_from_beside_it(write: Write) -> None:
    train = small(optimizer_config="o.json", validation_config="v.json", sample_prompts="p.json")
    files = write(train=train, o=OPTIMIZER, v=VALIDATION, p=PROMPTS)
    rows = imported(files[:1]).rows
    assert {row.file for row in rows if row.is_given} == {"train.json", "o.json", "v.json", "p.json"}


def test_a_named_file_that_is_not_there_is_told(write: Write) -> None:
    (told,) = imported(write(train=small(optimizer_config="gone.json"))).to_do[:1]
    assert told.startswith("gone.json, which optimizer_config of train.json names, is not there")


def test_paths_are_found_from_the_folder_of_train_json_too(write: Write, tmp_path: Path) -> None:
    write(train=small(data_root="data"))
    (tmp_path / "there" / "data").mkdir(parents=True)
    (tmp_path / "train.json").rename(tmp_path / "there" / "train.json")
    assert imported([Path("there/train.json")]).tree["data"]["root"] == "there/data"


def test_a_model_of_the_hub_is_not_downloaded_but_told(write: Write) -> None:
    to_do = imported(write(train=small(resume_ckpt="panopstor/EveryDream"))).to_do
    assert any("hf download panopstor/EveryDream --local-dir models/EveryDream" in note for note in to_do)


@pytest.mark.parametrize(("value", "told"), [("sd.ckpt", "convert sd.ckpt"), ("findlast", "name the model itself")])
def test_a_model_that_cannot_be_read_is_for_the_user_to_mend(value: str, told: str) -> None:
    outcome = row_of(convert(source_of(train={"resume_ckpt": value})), "resume_ckpt").outcome
    assert (outcome.kind, told in outcome.remark) == ("by hand", True)


def test_prompts_in_lines_are_named_and_prompts_in_json_are_written_anew(write: Write, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a fox\na hen --d 7\n")
    assert imported(write(train=small(sample_prompts="p.txt"))).tree["preview"]["prompts"] == "p.txt"
    samples = '{"cfgs": [5], # scale\n"samples": [{"prompt": "a # fox", "seed": 3, "size": [256, 512], "cfgs": [1, 9]},'
    files = write(train=small(sample_prompts="p.json"), p=samples + '{"random_caption": true}]}')
    lines = list(import_config(files[:1], Path("out.toml"), plugin_problems=plugin_problems))
    config = load_config(Path("out.toml"), (), plugin_problems)
    prompts = read_prompts(Path("out-prompts.toml"), config.preview, 256)
    assert [(one.text, one.seed, one.width, one.height, one.guidance) for one in prompts] == [
        ("a # fox", 3, 256, 512, 1.0), ("a # fox", 3, 256, 512, 9.0),
    ]  # fmt: skip
    assert any("1 samples of random captions are left out" in line for line in lines)


def test_settings_of_single_pictures_bring_the_plugin_that_reads_them(write: Write, tmp_path: Path) -> None:
    pictures = tmp_path / "own"
    pictures.mkdir()
    (pictures / "fox.png").write_bytes((PICTURES / "animals" / "fox.png").read_bytes())
    (pictures / "shuffle_tags.txt").touch()
    entries = {entry["use"]: entry for entry in imported(write(train=small(data_root="own"))).tree["plugins"]}
    assert entries["plugins.captions.ShuffleTags"]["always"] is False


def test_the_written_config_is_accepted_and_says_where_each_key_comes_from(write: Write) -> None:
    files = write(train=small(lr=1e-5, min_snr_gamma=5), optimizer=OPTIMIZER)
    lines = list(import_config(files[:1], Path("new/out.toml"), plugin_problems=plugin_problems))
    config = load_config(Path("new/out.toml"), (), plugin_problems)
    assert config.train.learning_rate == 1e-5
    text = Path("new/out.toml").read_text(encoding="utf-8")
    assert tomli.loads(text)["train"]["batch_size"] == 4
    assert "learning_rate = 1e-05  # lr\n" in text
    assert 'dtype = "fp16"  # save_full_precision by default there\n' in text
    assert lines[-1].startswith("wrote new/out.toml")


def test_a_file_that_is_there_is_replaced_by_force_alone(write: Write, tmp_path: Path) -> None:
    out = tmp_path / "out.toml"
    out.write_text("mine")
    files = write(train=small())
    with pytest.raises(ConfigError, match="--force replaces it"):
        list(import_config(files, out))
    assert out.read_text() == "mine"
    list(import_config(files, out, force=True))
    assert "Written by" in out.read_text()


# what cannot be read


def test_bad_values_are_told_together_by_file_and_key(write: Write) -> None:
    text = problems_of(write(train=small(batch_size="many", grad_accum=1.5, flip_p=True, cond_dropout=2)))
    assert text.startswith("train.json: 4 problems")
    assert "batch_size  'many' is not a number" in text
    assert "grad_accum  1.5 is not a whole number" in text
    assert "flip_p  True is not a number" in text
    assert "cond_dropout  2 is not a number from 0 to 1" in text


def test_what_our_schema_refuses_is_told_with_the_key_it_comes_from(write: Write) -> None:
    assert "from lr of train.json" in problems_of(write(train=small(lr=-1)))


def test_a_table_that_is_none_is_refused(write: Write) -> None:
    text = problems_of(write(train=small(), optimizer={"base": 3}))
    assert "optimizer.json" in text
    assert "base  3 is not a table" in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("[1]", "holds no object"),
        ('{"lr": 1, "lr": 2}', "lr  is there twice"),
        ('{"x": 1}', "one train.json of EveryDream2 is needed"),
    ],
)
def test_a_file_that_is_no_train_json_is_one_clear_problem(write: Write, text: str, told: str) -> None:
    message = problems_of(write(train=text))
    assert message.startswith("train.json: 1 problem")
    assert told in message


def test_files_of_two_trainers_are_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text("[[datasets]]\n")
    assert "is of another trainer than d.toml" in problems_of([*write(train=small()), Path("d.toml")])


def test_a_file_that_is_not_there_is_named() -> None:
    assert problems_of([Path("/nowhere/train.json")]).startswith(
        "/nowhere/train.json: 1 problem\n  there is no such file"
    )
