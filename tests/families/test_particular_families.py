"""Where one family of transformers differs from the others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core.config.tables import ModelTable
from core.errors import ConfigError
from core.families import Family, float_state, load_family
from tests.families.comparing import copy_with
from tests.families.tiny import flux, flux2_klein, pixart, sana
from tests.families.tiny.kind import Tiny
from tests.tiny_models import write_folder


def load(tiny: Tiny, folder: Path) -> Family:
    return load_family(ModelTable(path=folder), seed=0, max_tokens=tiny.max_tokens)


def test_the_index_names_a_tokenizer_as_the_models_own_does(tmp_path: Path) -> None:
    """The fast class of older releases, whose files are the same and which newer ones call otherwise."""
    tiny = flux.MODELS[0]
    named = {"tokenizer_2": ["transformers", "T5TokenizerFast"]}
    model = copy_with(write_folder(tiny.make(), tmp_path / "made"), tmp_path / "model", "model_index.json", **named)
    family = load(tiny, model)
    export = tmp_path / "export"
    export.mkdir()
    tensors = {name: float_state(module, torch.float32) for name, module in family.modules.items()}
    family.write(export, tensors, {name: {} for name in tensors})
    index = json.loads((export / "model_index.json").read_text())
    assert {"tokenizer_2": index["tokenizer_2"]} == named


def test_pixart_alpha_is_told_the_size_of_the_bucket(tmp_path: Path) -> None:
    (tiny,) = (one for one in pixart.MODELS if one.family == "pixart_alpha")
    family = load(tiny, write_folder(tiny.make(), tmp_path / "model"))
    one, smaller, wider = (
        predicted(family, sizes) for sizes in ((64, 64, 0, 0, 64, 64), (50, 40, 7, 9, 64, 64), (64, 64, 0, 0, 64, 128))
    )
    assert torch.equal(one, smaller)
    assert not torch.equal(one, wider)


def test_sana_has_no_posterior_to_draw_from(tmp_path: Path) -> None:
    family = load(sana.SANA, write_folder(sana.make(), tmp_path / "model"))
    with torch.no_grad():
        _, deviation = family.encode_images(torch.rand(1, 3, 64, 64))
    assert not deviation.any()


def test_klein_without_the_words_of_a_chat_is_refused(tmp_path: Path) -> None:
    pipeline = flux2_klein.make()
    pipeline.tokenizer.chat_template = None
    with pytest.raises(ConfigError, match=r"tokenizer: .*chat"):
        load(flux2_klein.KLEIN, write_folder(pipeline, tmp_path / "model"))


@pytest.mark.parametrize("distilled", [True, False])
def test_klein_stays_distilled_or_not(tmp_path: Path, distilled: bool) -> None:
    model = write_folder(flux2_klein.make(), tmp_path / "made")
    family: Any = load(
        flux2_klein.KLEIN, copy_with(model, tmp_path / "model", "model_index.json", is_distilled=distilled)
    )
    assert family.pipeline().config.is_distilled is distilled
    assert family.index_entries() == {"is_distilled": distilled}


def predicted(family: Family, sizes: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        conditioning = family.encode_text(family.tokenize(["a red heart"]))
        return family.predict(torch.ones(1, 4, 8, 8), torch.tensor([500]), conditioning, torch.tensor([sizes]))
