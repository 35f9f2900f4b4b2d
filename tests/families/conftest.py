"""One small model for all tests of the families, as stock pipeline, as folder and as single file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.config.tables import ModelTable
from core.families import Family, load_family, quiet_libraries
from tests.tiny_models import tiny_pipeline, write_folder, write_single_file


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "run" in item.fixturenames:
            tiny = item.callspec.params.get("tiny") if hasattr(item, "callspec") else None
            if tiny is not None and tiny.is_further:
                item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session", autouse=True)
def _quiet_and_single_threaded() -> None:
    torch.set_num_threads(1)
    quiet_libraries()


@pytest.fixture(scope="session")
def stock() -> Any:
    """The stock pipeline; its modules are never changed."""
    return tiny_pipeline()


@pytest.fixture(scope="session")
def folder(stock: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(stock, tmp_path_factory.mktemp("families") / "folder")


@pytest.fixture(scope="session")
def single_file(stock: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_single_file(stock, tmp_path_factory.mktemp("families") / "model.safetensors")


@pytest.fixture
def load() -> Callable[..., Family]:
    """`load(path, train=("unet",), ...)`, with the keys of [model]."""

    def from_table(path: Path, seed: int = 0, **keys: Any) -> Family:
        return load_family(ModelTable(path=path, **keys), seed=seed)

    return from_table


@pytest.fixture(scope="session")
def family(folder: Path) -> Any:
    """The model as the trainer sees it; its modules are never changed."""
    return load_family(ModelTable(path=folder), seed=0)
