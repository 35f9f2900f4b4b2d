"""The JSON schema accepts what the trainer accepts of tables, types, ranges and settings, and refuses what it refuses."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli

import plugins
from core.config.file import validate
from core.config.json_schema import config_schema, schema_text
from core.config.tables import Config, PluginEntry
from core.migration.migrate import schema_seen_from
from core.migration.writing import config_text
from plugins.loading import bundled_classes
from tests.small_runs import ROOT
from tests.warm import run_py

FILE = ROOT / "docs" / "config.schema.json"
SCHEMA = json.loads(FILE.read_text(encoding="utf-8"))
CHECKER = jsonschema.Draft202012Validator(SCHEMA)
RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.toml"))
Change = Callable[[dict[str, Any]], object]


def tree_of(path: Path) -> dict[str, Any]:
    return tomli.loads(path.read_text(encoding="utf-8"))


def problems(change: Change) -> list[str]:
    """What the schema says of the demo's config with a change."""
    tree = copy.deepcopy(tree_of(ROOT / "config.toml"))
    change(tree)
    return [error.message for error in CHECKER.iter_errors(tree)]


def add(entry: object) -> Change:
    return lambda tree: tree["plugins"].append(entry)


def test_the_file_in_the_tree_is_what_the_command_writes(tmp_path: Path) -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(config_schema(bundled_classes())), (
        "run `python run.py schema --write docs/config.schema.json`"
    )
    target = tmp_path / "schema.json"
    assert run_py("schema", "--write", str(target)).returncode == 0
    assert target.read_bytes() == FILE.read_bytes()
    assert run_py("schema").stdout == FILE.read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = run_py("schema", "--write", str(tmp_path / "nowhere" / "schema.json"))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", [ROOT / "config.toml", *RECIPES], ids=lambda path: path.stem)
def test_shipped_configs_are_accepted_and_name_it(path: Path) -> None:
    assert [error.message for error in CHECKER.iter_errors(tree_of(path))] == []
    named = re.match(r"#:schema (\S+)\n", path.read_text(encoding="utf-8"))
    assert named is not None, "the first line names the schema"
    assert (path.parent / named[1]).resolve() == FILE


def test_an_imported_config_names_it_where_both_lie_in_one_tree(tmp_path: Path) -> None:
    schema = tmp_path / "docs" / FILE.name
    schema.parent.mkdir()
    schema.write_text("{}")
    assert schema_seen_from(tmp_path / "config.toml", schema) == "docs/config.schema.json"
    assert schema_seen_from(tmp_path / "mine" / "new.toml", schema) == "../docs/config.schema.json"
    for out, none in ((tmp_path.parent / "new.toml", schema), (tmp_path / "new.toml", tmp_path / "no.json")):
        assert schema_seen_from(out, none) == ""
    assert config_text({}, (), "command", (), "docs/config.schema.json").startswith(
        "#:schema docs/config.schema.json\n"
    )
    assert config_text({}, (), "command", ()).startswith("# Written by")


# what is refused, and accepted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree["train"].update(stepz=3), "'stepz' was unexpected"),
        (lambda tree: tree.update(trian={}), "'trian' was unexpected"),
        (lambda tree: tree["plugins"][2].update(probabilty=0.2), "'probabilty' was unexpected"),
        (lambda tree: tree["train"].update(steps="3"), "'3' is not of type 'integer'"),
        (lambda tree: tree["train"].update(steps=0), "0 is less than or equal to the minimum of 0"),
        (lambda tree: tree["data"].update(flip_p=1.5), "1.5 is greater than the maximum of 1"),
        (lambda tree: tree["plugins"][2].update(probability=2), "2 is greater than the maximum of 1"),
        (lambda tree: tree["plugins"][2].update(on_error="shrug"), "'shrug' is not one of"),
        (lambda tree: tree["data"].update(crop="center"), "'center' is not one of"),
        (lambda tree: tree["data"].update(resolution=[]), "is not valid under any"),
        (lambda tree: tree["run"].update(name="../x"), "does not match"),
        (lambda tree: tree["validation"].update(sets={"a b": "x"}), "does not match"),
        (lambda tree: tree["train"].update(parameters=[{"match": "*", "lr": 0}]), "0 is less than or equal"),
        (lambda tree: tree.pop("model"), "'model' is a required property"),
        (add({"keep": 1}), "'use' is a required property"),
        (add({"use": "plugins.captions.DropCaptions"}), "is not valid under any"),
        (add({"use": "no path"}), "is not valid under any"),
        (add({"use": "plugins.rhythm.Rhythm"}), "'what' is a required property"),
        (add("plugins.rhythm.Rhythm"), "should not be valid under"),
        (add(3), "is not of type 'string', 'object'"),
    ],
)  # fmt: skip
def test_it_refuses(change: Change, said: str) -> None:
    found = problems(change)
    assert len(found) == 1, found
    assert said in found[0]


@pytest.mark.parametrize(
    "change",
    [
        add("plugins.min_snr.MinSnr"),
        add("my_plugins.of_mine.Mine"),
        add({"use": "plugins.my_own_file.Mine", "whatever": {"a": [1, "b"]}, "priority": {"sample.caption": 3}}),
        add({"use": "plugins.rhythm.Rhythm", "enabled": False}),
        lambda tree: tree["data"].update(resolution=[512, 768], root=["a", "b"]),
        lambda tree: tree["preview"].update(guidance=[1, 3.5]),
        lambda tree: tree["train"].update(optimizer_options={"betas": [0.9, 0.99], "anything": True}),
        lambda tree: tree.update(plugins=["plugins.progress_bar.ProgressBar"]),
        lambda tree: tree.pop("cache"),
    ],
)
def test_it_accepts(change: Change) -> None:
    assert problems(change) == []


def test_it_refuses_nothing_that_the_trainer_takes_and_the_other_way_round() -> None:
    """Of each key its default, and a value of no type at all."""
    least: dict[str, Any] = {"model": {"path": "m"}, "data": {"root": "d"}}
    for table, schema in SCHEMA["properties"].items():
        for key, one in schema.get("properties", {}).items():
            for value in ([one["default"]] if "default" in one else []) + [object_of_no_type()]:
                tree = {name: dict(values) for name, values in least.items()}
                tree.setdefault(table, {})[key] = value
                assert CHECKER.is_valid(tree) == (validate(tree)[0] is not None), f"{table}.{key} = {value!r}"


def object_of_no_type() -> list[Any]:
    return [[[]]]


# what is in it


def test_every_key_is_in_it_with_its_description() -> None:
    for table, field in Config.model_fields.items():
        schema = SCHEMA["properties"][table]
        assert schema["description"], table
        if table == "plugins":
            continue
        keys = field.annotation.model_fields  # type: ignore[union-attr]  # every other field is a table
        assert schema["additionalProperties"] is False
        assert {name: one["description"] for name, one in schema["properties"].items()} == {
            name: one.description for name, one in keys.items()
        }


def test_every_bundled_plugin_is_in_it_with_what_it_does_and_its_settings() -> None:
    kinds = bundled_classes()
    assert {"plugins.captions.DropCaption", "plugins.example_plugin.ExampleLoggingPlugin"} <= kinds.keys()
    assert "plugins.plugins.BasePlugin" not in kinds
    for use, kind in kinds.items():
        table = SCHEMA["$defs"][use]
        assert table["description"], use
        assert set(table["properties"]) == {*PluginEntry.model_fields, *kind.Settings.model_fields}
        assert all(one.get("description") for one in table["properties"].values()), use


def test_plugins_beside_a_config_are_none_of_the_bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside.py").write_text("from events import Plugin\n\n\nclass Beside(Plugin):\n    pass\n")
    monkeypatch.setattr(plugins, "__path__", [*plugins.__path__, str(tmp_path)])
    assert not any("beside" in use for use in bundled_classes())


def test_descriptions_stand_where_editors_look() -> None:
    """Not beside a reference, and what could be completed within a choice, never behind a condition."""
    entry = SCHEMA["properties"]["plugins"]["items"]
    assert {one.get("$ref") for one in entry["anyOf"]} == {*(f"#/$defs/{use}" for use in bundled_classes()), None}
    for schema in SCHEMA["properties"].values():
        assert "$ref" not in json.dumps(schema) or schema is SCHEMA["properties"]["plugins"]
