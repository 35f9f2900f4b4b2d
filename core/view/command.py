"""`run.py view`: a run's page served by this process."""

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import ConfigError
from ..history.facts import RECORD
from ..history.reading import CONFIG
from .address import Address, new_token

NEEDED = ("starlette", "uvicorn")


def view_run(folder: Path, *, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until interrupted; `tell` gets the address with its token.

    Raises ConfigError for a folder that holds no run, for an address that cannot be served, and where the packages are
    not installed.
    """
    if not (folder / CONFIG).is_file() and not (folder / RECORD).is_dir():
        raise ConfigError("view", [f"{folder} is no folder of a run: it holds no {CONFIG}"])
    if missing := missing_packages():
        raise ConfigError("view", [missing])
    from .serving import serve

    def tell_address(address: Address) -> None:
        tell(f"live view: {address.with_token}")

    try:
        with suppress(KeyboardInterrupt):
            serve(folder, host=host, port=port, token=new_token(), tell=tell_address)
    except OSError as error:
        raise ConfigError("view", [f"{host}:{port} cannot be served: {error.strerror or error}"]) from error


def missing_packages() -> str:
    """What to install before a page can be served; empty when all is there."""
    missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
    if not missing:
        return ""
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} not installed; pip install {' '.join(missing)}"
