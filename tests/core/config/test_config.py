"""A config is refused with every problem at once, each with its key, what was found and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tomli

from core.config.file import load_config, to_toml, validate
from core.config.tables import Config, PluginEntry
from core.errors import ConfigError
from plugins.loading import tables_of
from tests.small_runs import ROOT


def problems_of(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, list(overrides))
    return str(caught.value)


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        '[run]\nname = "a/b"\n[model]\npath = "m"\n[data]\nroot = "d"\nresolution = "big"\n[train]\nstep = 3\n'
    )
    text = problems_of(path)
    assert "3 problems" in text
    assert "train.step" in text
    assert "did you mean 'steps'?" in text
    assert "data.resolution  'big'" in text
    assert "run.name" in text


def test_missing_tables_and_keys_are_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("[data]\n")
    text = problems_of(path)
    assert "data.root" in text
    assert "model" in text
    assert "is missing" in text


def test_paths_that_do_not_exist_are_named_with_their_key(write_config: Callable[..., Path]) -> None:
    text = problems_of(write_config(), "model.path=/nowhere/model", "data.root=/nowhere/data")
    assert "model.path  /nowhere/model does not exist" in text
    assert "data.root  /nowhere/data does not exist" in text


def test_a_file_that_is_missing_or_no_toml_is_one_clear_problem(tmp_path: Path) -> None:
    assert "there is no such file" in problems_of(tmp_path / "none.toml")
    path = tmp_path / "broken.toml"
    path.write_text("[run\n")
    assert "is no TOML" in problems_of(path)


def test_a_learning_rate_that_is_no_number_is_refused(write_config: Callable[..., Path]) -> None:
    assert "train.learning_rate" in problems_of(write_config(), "train.learning_rate=nan")


def test_overrides_reach_tables_and_nested_options(write_config: Callable[..., Path]) -> None:
    config = load_config(write_config(), ["train.steps=9", "train.optimizer_options.eps=1e-6", "run.name=other"])
    assert (config.train.steps, config.train.optimizer_options["eps"], config.run.name) == (9, 1e-6, "other")


def test_an_override_without_a_value_is_refused(write_config: Callable[..., Path]) -> None:
    assert "is not of the form table.key=value" in problems_of(write_config(), "train.steps")


def test_an_override_of_an_unknown_key_is_refused_with_a_hint(write_config: Callable[..., Path]) -> None:
    assert "did you mean 'batch_size'?" in problems_of(write_config(), "train.batchsize=3")


def test_weights_in_half_precision_need_a_forward_pass_in_it(write_config: Callable[..., Path]) -> None:
    said = problems_of(write_config(), "model.dtype=bf16")
    assert "model.dtype  'bf16' needs a forward pass in half precision; set train.precision = 'bf16'" in said
    assert load_config(write_config(), ["model.dtype=bf16", "train.precision=bf16"]).model.dtype == "bf16"


def test_the_resolved_config_reads_back_equal(write_config: Callable[..., Path]) -> None:
    plugins = '\n[[plugins]]\nuse = "a.B"\npriority = { "sample.caption" = 3 }\nwords = ["x", "ü \\"y\\""]\n'
    config = load_config(write_config(plugins), ["train.optimizer_options.betas=[0.9, 0.95]"])
    again, problems = validate(tomli.loads(to_toml(config)))
    assert problems == []
    assert again == config


def test_plugins_may_be_a_short_list_of_paths() -> None:
    config, problems = validate(
        {"model": {"path": "m"}, "data": {"root": "d"}, "plugins": ["a.B", {"use": "c.D", "k": 1}]}
    )
    assert problems == []
    assert config is not None
    assert [(entry.use, entry.settings) for entry in config.plugins] == [("a.B", {}), ("c.D", {"k": 1})]


def test_a_short_form_that_is_no_class_path_is_one_problem_with_its_place() -> None:
    _, problems = validate({"model": {"path": "m"}, "data": {"root": "d"}, "plugins": ["x y"]})
    assert len(problems) == 1
    assert problems[0].startswith("plugins[0].use  'x y'")


def test_a_wrong_priority_is_one_problem_that_shows_both_forms() -> None:
    _, problems = validate(
        {"model": {"path": "m"}, "data": {"root": "d"}, "plugins": [{"use": "a.B", "priority": "x"}]}
    )
    assert problems == [
        "plugins[0].priority  'x': expected a whole number, or whole numbers by signal, as in"
        ' { "sample.caption" = 40 }'
    ]


def test_a_disabled_plugin_is_left_out_and_the_others_keep_their_number() -> None:
    plugins = [{"use": "a.B", "enabled": False}, "c.D"]
    config, _ = validate({"model": {"path": "m"}, "data": {"root": "d"}, "plugins": plugins})
    assert config is not None
    assert [(table.use, table.position) for table in tables_of(config.plugins)] == [("c.D", 1)]


def test_the_shipped_config_loads_and_lists_every_key_with_its_meaning() -> None:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    tree = tomli.loads(text)
    validate(tree)
    documented: dict[str, dict[str, str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("[") and not line.startswith("[["):
            table = line.strip("[]")
        key, equals, rest = line.lstrip("# ").partition(" = ")
        if equals and "#" in rest and key.isidentifier():
            documented.setdefault(table, {})[key] = rest.partition("#")[2].strip()
    for name, field in Config.model_fields.items():
        if name == "plugins":
            continue
        keys = field.annotation.model_fields  # type: ignore[union-attr]  # every other field is a table
        assert set(keys) <= set(documented[name]), name
        for key in keys:
            assert len(documented[name][key]) > 5, f"{name}.{key} has no meaning beside it"
    assert {"use", "name", "priority", "on_error", "variations", "enabled"} == set(PluginEntry.model_fields)
    for key in PluginEntry.model_fields:
        assert f"{key} = " in text, f"[[plugins]] {key}"


def test_every_setting_of_items_can_be_ignored_and_no_other() -> None:
    from dataclasses import fields
    from typing import get_args

    from core.config.tables import ItemSetting
    from events.payloads import ItemSettings

    assert set(get_args(ItemSetting)) == {field.name for field in fields(ItemSettings)}
    tree = {"model": {"path": "."}, "data": {"root": ".", "ignore_settings": ["cond_droput"]}}
    _, problems = validate(tree)
    assert len(problems) == 1
    assert problems[0].startswith("data.ignore_settings[0]  'cond_droput': input should be 'multiply'")


@pytest.mark.parametrize("name", ["..", ".", "../x", "/x", "a/b", ".hidden", "a\0b", "x" * 65, "a b", "ä", "a\nb"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    for more in (
        {"run": {"name": name}},
        {"validation": {"sets": {name: "d"}}},
        {"plugins": [{"use": "a.B", "name": name}]},
    ):
        config, problems = validate({"model": {"path": "m"}, "data": {"root": "d"}} | more)
        assert config is None
        assert "is no name; use up to 64 letters" in problems[0]


@pytest.mark.parametrize("use", ["../x", "/abs/x.Y", "", "os ", "x.Y\0", "plugins/x.Y", "..x.Y", ".", "-x", "x-y.Z"])
def test_a_plugin_is_named_by_a_dotted_path_or_a_name_without_dots(use: str) -> None:
    config, problems = validate({"model": {"path": "m"}, "data": {"root": "d"}, "plugins": [use]})
    assert config is None
    assert "is no path of a class; write it with dots" in problems[0]


@pytest.mark.parametrize(
    "text", ["seed = " + "9" * 5000, "x = " + "[" * 3000, "x" + ".a" * 3000 + " = 1", "dir = ", "\ud800"]
)
def test_whatever_is_no_toml_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(f"[run]\n{text}\n", encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ConfigError, match="is no TOML in UTF-8"):
        load_config(tmp_path / "config.toml")


def test_a_path_that_no_file_can_have_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'[model]\npath = "{"x" * 5000}"\n[data]\nroot = "."\n')
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "config.toml")
