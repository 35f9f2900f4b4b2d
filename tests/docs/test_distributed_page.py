"""The sums on docs/distributed.md are what the script makes of the trainer's own formulas, and its counts are the models'."""

import json
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import nn

from benchmarks.page import block_in
from core.ranks.sharding import repeated_layers
from tests.small_runs import ROOT

PAGE = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
NAMES = ("memory", "exchange", "step", "data", "messages", "host")


@pytest.fixture(scope="module")
def make() -> Iterator[ModuleType]:
    before = list(sys.path)
    sys.path.insert(0, str(ROOT / "docs"))
    import make_distributed

    yield make_distributed
    sys.path[:] = before


def test_every_table_of_the_script_is_tried(make: ModuleType) -> None:
    assert tuple(make.BLOCKS) == NAMES
    assert PAGE.count(":begin -->") == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_what_the_script_makes_of_the_formulas(make: ModuleType, name: str) -> None:
    assert block_in(PAGE, name).strip() == make.BLOCKS[name](), "python docs/make.py distributed"


def test_weights_layers_and_rest_are_those_of_the_models(make: ModuleType) -> None:
    from diffusers import FluxTransformer2DModel, UNet2DConditionModel

    table = json.loads((ROOT / "core" / "families" / "standard" / "sdxl" / "unet" / "config.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel(**{key: value for key, value in table.items() if not key.startswith("_")})
        models = {make.SDXL: unet, make.FLUX: FluxTransformer2DModel(guidance_embeds=True)}
    for said, model in models.items():
        layers, rest = divided(model)
        assert (said.weights, said.layer, said.rest) == (sum(layers) + rest, max(layers), rest)


def divided(model: nn.Module) -> tuple[list[int], int]:
    """Weights of each layer that is gathered by itself, without those of layers within it, and of what is in none."""
    kinds, taken, layers = set(repeated_layers(model)), set[int](), list[int]()
    for part in reversed([part for part in model.modules() if type(part).__name__ in kinds]):
        own = [weight for weight in part.parameters() if id(weight) not in taken]
        taken |= {id(weight) for weight in own}
        layers.append(sum(weight.numel() for weight in own))
    return layers, sum(weight.numel() for weight in model.parameters() if id(weight) not in taken)


def test_the_figures_that_were_measured_are_those_of_the_page_on_performance(make: ModuleType) -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert f"| 1,000,000 items: plan in memory | {make.PLAN_BYTES:.1f} |" in page
    assert f"| 12 MP: ours, CPU | {make.PHOTOGRAPHS} |" in page
    with pytest.raises(ValueError, match="no figure '13 MP: ours, CPU'"):
        make.measured("13 MP: ours, CPU")
    two = make.SIZE_BYTES + make.NO_WISHES + 2 * make.AROUND  # without numbers, which come one report later
    assert f"| a step that logs | {two:,} | {3 * two:,} |" in page


def test_numbers_have_two_or_three_digits(make: ModuleType) -> None:
    assert [make.number(value) for value in (0.0047, 0.31, 4.1, 41.08, 1234.5, 0)] == [
        "0.005", "0.31", "4.1", "41", "1,234", "0"
    ]  # fmt: skip
