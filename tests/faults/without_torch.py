"""`python -m tests.faults.without_torch CONFIG...`: trains each in a forked process in which nobody may import torch.

Prints (exit code, output) of each as JSON. With `--order` instead of configs: in which order equal handlers run.
"""

import importlib
import json
import os
import sys
import tempfile
from importlib.abc import MetaPathFinder
from typing import Any

from events.bus import Bus
from events.catalogue import STEP_END
from events.plugin import PluginTable

from .plugins_for_misbehaviour import Misbehaving

LIGHT = ("run", "core.config.file", "core.attached.guards", "core.log.lines", "plugins.loading")
HEAVY = ("torch", "diffusers", "transformers")


class Refusing(MetaPathFinder):
    """Ends the process with code 99 when one of the heavy libraries is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in HEAVY:
            print(f"{name} was imported", flush=True)
            os._exit(99)


def outcome(config: str) -> tuple[int, str]:
    with tempfile.TemporaryFile("w+") as log:
        pid = os.fork()
        if not pid:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            sys.meta_path.insert(0, Refusing())
            sys.argv = ["run.py", "train", config]
            run = importlib.import_module("run")
            code = 1
            try:
                code = run.main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        log.seek(0)
        return code, log.read()


def order() -> list[str]:
    """Of handlers with one priority."""
    names = [f"plugin-{number}" for number in range(20)]
    bus = Bus()
    bus.attach(
        [
            (
                Misbehaving(Misbehaving.Settings(signal="step.end"), name=name),
                PluginTable(use="x.X", name=name, position=position, settings={}),
            )
            for position, name in enumerate(names)
        ]
    )
    return [handler.plugin for handler in bus[STEP_END].handlers]


def import_what_is_light() -> None:
    """So that it is not imported anew in each fork."""
    for name in LIGHT:
        importlib.import_module(name)
    assert not set(HEAVY) & set(sys.modules), "this process has torch already"


if __name__ == "__main__":
    if sys.argv[1:] == ["--order"]:
        print(json.dumps(order()))
    else:
        import_what_is_light()
        print(json.dumps([outcome(config) for config in sys.argv[1:]]))
