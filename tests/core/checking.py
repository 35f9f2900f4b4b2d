"""`run.py check` in the test's own process: what it says, and what it finds wrong."""

from pathlib import Path

from core.errors import ConfigError


def checked(path: Path, *overrides: str, processes: int = 1) -> tuple[list[str], list[str]]:
    """(lines on what is in order, problems); there are lines only when there is no problem."""
    import run
    from core.checks import check
    from core.run.session import configure

    config = run.load(path, list(overrides))
    bus, source = run.assemble_bus(config, path)
    try:
        return list(check(configure(bus, config, str(path)), bus, source, processes=processes)), []
    except ConfigError as error:
        return [], list(error.problems)
