"""Data found as `run.py data` finds them, in the test's own process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.report.effects import Effects
from core.report.survey import Survey, surveyed


def plugin(name: str, **settings: object) -> str:
    """A `[[plugins]]` table; names without a module are of plugins_for_report."""
    use = name if "." in name else f"tests.core.plugins_for_report.{name}"
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    return f'\n[[plugins]]\nuse = "{use}"\n{lines}'


@contextmanager
def survey_of(path: Path, *overrides: str, epoch: int = 0, effects: Effects | None = None) -> Iterator[Survey]:
    """What `run.py data` works with."""
    import run
    from core.run.session import configure

    config = run.load(path, list(overrides))
    bus, source = run.assemble_bus(config, path)
    try:
        config = configure(bus, config, str(path))
        if effects is not None:
            effects.watch_training(bus)
        with surveyed(config, bus, source, epoch) as survey:
            yield survey
    finally:
        bus.close()
