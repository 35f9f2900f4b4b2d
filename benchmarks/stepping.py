"""Run a training script as it is, and note when each optimizer step was done: `python stepping.py TIMES SCRIPT WORD...`.

TIMES gets a line a step: the seconds of `perf_counter`, which all processes of a machine share, and those of CPU that this
process has used. The note comes from a hook that torch offers; the script is run unchanged, and torch is imported when
the script imports it.
"""

import os
import runpy
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from time import perf_counter, process_time
from types import ModuleType
from typing import Any

OPTIMIZERS = "torch.optim.optimizer"


class Noting(MetaPathFinder):
    """Finds the module of torch's optimizers where it is, and adds the hook when that has been imported."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != OPTIMIZERS:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_hook(module: ModuleType) -> None:
            execute(module)
            module.register_optimizer_step_post_hook(self._note)

        spec.loader.exec_module = execute_and_hook  # type: ignore[method-assign]  # of this one loader, for this module
        return spec

    def _note(self, *of_the_step: object) -> None:
        os.write(self._descriptor, f"{perf_counter()!r} {process_time()!r}\n".encode())


def main() -> None:
    times, script, *words = sys.argv[1:]
    sys.argv = [script, *words]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    sys.meta_path.insert(0, Noting(os.open(times, os.O_WRONLY | os.O_CREAT | os.O_APPEND)))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
