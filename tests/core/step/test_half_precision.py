"""Weights that are not trained may be kept in half precision; those that are stay float32, and previews work all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.run.assembly import keep_in
from tests.small_runs import Run, assert_same_state
from tests.tiny_models import tiny_pipeline, write_folder

LORA = '[[plugins]]\nuse = "plugins.lora.Lora"\nrank = 2\n[[plugins]]\nuse = "tests.core.plugins_for_tests.Dtypes"\n'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tiny_pipeline(), tmp_path_factory.mktemp("half") / "model")


def test_only_frozen_weights_are_cast_and_not_those_that_their_library_keeps() -> None:
    module = nn.ModuleDict({"first": nn.Linear(2, 2), "kept": nn.Linear(2, 2), "trained": nn.Linear(2, 2)})
    module.requires_grad_(False)
    module["trained"].requires_grad_(True)
    module._keep_in_fp32_modules = ["kept"]  # type: ignore[assignment]  # as transformers says it
    keep_in(module, torch.bfloat16)
    dtypes = {name: module[name].weight.dtype for name in module}
    assert dtypes == {"first": torch.bfloat16, "kept": torch.float32, "trained": torch.float32}


@pytest.mark.parametrize("cached", ["true", "false"])
def test_an_adapter_trains_over_a_base_in_half_precision(train: Callable[..., Run], model: Path, cached: str) -> None:
    from tests.core.plugins_for_tests import Dtypes

    settings = (
        f"model.path={model}", "model.from_scratch=[]", 'model.train=["unet"]', "model.dtype=bf16",
        "model.vae_dtype=bf16", "train.precision=bf16", "data.resolution=64", "preview.at_end=true", "train.steps=4",
        f"cache.latents={cached}", f"cache.text={cached}",
    )  # fmt: skip
    whole = train("run.name=whole", *settings, plugins=LORA)
    assert Dtypes.seen == {
        "unet": {"torch.bfloat16", "torch.float32"}, "vae": {"torch.bfloat16"}, "text_encoder": {"torch.bfloat16"}
    }  # fmt: skip
    weights: Any = whole.state()["weights.safetensors"]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert list(whole.folder.glob("previews/*/grid.png"))
    train("run.name=broken", *settings, "train.steps=2", plugins=LORA)
    assert_same_state(whole, train("run.name=broken", *settings, plugins=LORA))
