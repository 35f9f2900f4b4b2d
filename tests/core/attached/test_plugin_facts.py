"""Which code the plugins of a run are can be told from a checkpoint and from the log."""

import hashlib
import json
from pathlib import Path

import plugins.ema
from core.attached.facts import code_lines, fact_lines, plugin_facts
from events import Plugin
from events.bus import Bus
from events.plugin import PluginTable
from plugins.ema import Ema


def facts_of(plugin: Plugin) -> list[dict[str, object]]:
    bus = Bus()
    bus.attach([(plugin, PluginTable(use="x.Y", name="mine", position=0, settings={}))])
    return plugin_facts(bus)


def test_a_plugin_is_named_with_its_class_version_file_and_digest() -> None:
    file = Path(str(plugins.ema.__file__))
    facts = facts_of(Ema())
    assert facts == json.loads(json.dumps(facts))
    assert facts == [
        {
            "name": "mine",
            "use": "plugins.ema.Ema",
            "version": Ema.version,
            "file": str(file.resolve()),
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
    ]
    assert next(fact_lines(facts)).startswith(f"mine: plugins.ema.Ema version {Ema.version}, {file.resolve()}, sha256 ")


def test_the_same_code_in_another_place_has_the_same_line() -> None:
    """By which several processes, on several machines, are compared."""
    (facts,) = facts_of(Ema())
    moved, other = facts | {"file": "/elsewhere/ema.py"}, facts | {"sha256": "0" * 64}
    assert list(code_lines([facts])) == list(code_lines([moved])) != list(code_lines([other]))


def test_a_class_that_no_file_defines_has_no_digest() -> None:
    made = type("Made", (Plugin,), {"__module__": "nowhere.at.all"})
    (facts,) = facts_of(made())
    assert (facts["file"], facts["sha256"]) == ("", "")
