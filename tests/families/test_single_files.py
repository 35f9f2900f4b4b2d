"""A model that is one file is read whole or refused, says itself what it is, and is written as the stock loader reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.config.tables import ModelTable
from core.errors import ConfigError
from core.families import Family, load_data_side, load_family, name_of
from core.families.parts.folder import ModelFolder
from core.families.parts.standard import STANDARD, standard_of
from tests.families.comparing import assert_same_weights
from tests.families.tiny import sd2, sdxl
from tests.small_runs import Run
from tests.tiny_models import tiny_pipeline, write_folder, write_single_file

KINDS: dict[str, Callable[[], Any]] = {"sd1": tiny_pipeline, "sd2": sd2.make, "sdxl": sdxl.make}
TITLES = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}


@dataclass(frozen=True)
class Model:
    """One small model in all its forms."""

    kind: str
    stock: Any
    folder: Path
    file: Path

    def parts(self) -> list[str]:
        return [name for name in ("unet", "vae", "text_encoder", "text_encoder_2") if hasattr(self.stock, name)]


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    place, stock = tmp_path_factory.mktemp(request.param), KINDS[request.param]()
    folder, file = write_folder(stock, place / "folder"), write_single_file(stock, place / "model.safetensors")
    return Model(request.param, stock, folder, file)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """`save(tensors)` as a file of its own, with a header."""

    def to_file(tensors: dict[str, torch.Tensor], **header: str) -> Path:
        path = tmp_path / "changed.safetensors"
        save_file(tensors, path, header or None)
        return path

    return to_file


def load(path: Path, **keys: Any) -> Family:
    return load_family(ModelTable(path=path, **keys), seed=0)


def test_the_stock_loader_gives_equal_weights_back(model: Model) -> None:
    loader = type(model.stock)
    again = loader.from_single_file(str(model.file), config=str(model.folder), local_files_only=True)
    for name in model.parts():
        assert_same_weights(getattr(again, name), getattr(model.stock, name))


def test_we_give_equal_weights_back(model: Model) -> None:
    loaded = load(model.file, base_config=model.folder)
    for name in model.parts():
        assert_same_weights(loaded.modules[name], getattr(model.stock, name))


def test_what_is_read_is_written_again_as_it_was(model: Model) -> None:
    loaded = load(model.file, base_config=model.folder)
    written = loaded.single_file({name: module.state_dict() for name, module in loaded.modules.items()})
    before = load_file(model.file)
    assert written.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in written.items())


def test_half_precision_is_read_as_float32(model: Model, save: Any) -> None:
    halves = {name: tensor.half() for name, tensor in load_file(model.file).items()}
    loaded = load(save(halves), base_config=model.folder)
    for name in model.parts():
        expected = {key: weight.half().float() for key, weight in getattr(model.stock, name).state_dict().items()}
        state = loaded.modules[name].state_dict()
        assert all(torch.equal(state[key], weight) for key, weight in expected.items())


def test_weights_do_not_share_memory(model: Model) -> None:
    """Queries, keys and values were one tensor in the file."""
    for module in load(model.file, base_config=model.folder).modules.values():
        places = [weight.untyped_storage().data_ptr() for weight in module.parameters()]
        assert len(set(places)) == len(places)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_the_name_text_model_may_be_left_out(kind: str, tmp_path: Path, save: Any) -> None:
    stock = KINDS[kind]()
    folder, file = write_folder(stock, tmp_path / "folder"), write_single_file(stock, tmp_path / "model.safetensors")
    bare = {name.replace(".transformer.text_model.", ".transformer."): part for name, part in load_file(file).items()}
    path = save(bare)
    assert_same_weights(load(path, base_config=folder).modules["text_encoder"], stock.text_encoder)
    assert standard_of(path).title == TITLES[kind]


MISSING = [
    ("sd2", "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight"),
    ("sd2", "cond_stage_model.model.positional_embedding"),
    ("sdxl", "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias"),
    ("sdxl", "conditioner.embedders.1.model.text_projection"),
    ("sdxl", "model.diffusion_model.label_emb.0.2.weight"),
]


@pytest.mark.parametrize(("kind", "name"), MISSING)
@pytest.mark.parametrize("change", ["missing", "of another shape"])
def test_a_tensor_that_is_missing_or_of_another_shape_is_refused_by_name(
    kind: str, name: str, change: str, tmp_path: Path, save: Any
) -> None:
    stock = KINDS[kind]()
    folder, file = write_folder(stock, tmp_path / "folder"), write_single_file(stock, tmp_path / "model.safetensors")
    tensors = load_file(file)
    shape = tuple(tensors.pop(name).shape)
    if change != "missing":
        tensors[name] = torch.zeros(7, 5)
    with pytest.raises(ConfigError) as refused:
        load(save(tensors), base_config=folder)
    (problem,) = refused.value.problems
    expected = f"holds no value of {name}" if change == "missing" else f"{name}, (7, 5) against {shape}"
    assert expected in problem


def test_layers_that_are_not_read_may_be_there(tmp_path: Path, save: Any) -> None:
    """The files of 2.x hold a last layer and a projection that the model was trained without."""
    stock = sd2.make()
    folder, file = write_folder(stock, tmp_path / "folder"), write_single_file(stock, tmp_path / "model.safetensors")
    more = {f"cond_stage_model.model.{name}": torch.zeros(2) for name in
            ("transformer.resblocks.2.ln_1.weight", "text_projection", "logit_scale")}  # fmt: skip
    loaded = load(save(load_file(file) | more), base_config=folder)
    assert_same_weights(loaded.modules["text_encoder"], stock.text_encoder)


def test_a_file_alone_says_of_what_kind_it_is(model: Model) -> None:
    """Its tensors' names do, and tokens are read without any other file."""
    side: Any = load_data_side(ModelTable(path=model.file), 0)
    assert name_of(type(side)) == ("sdxl" if model.kind == "sdxl" else "sd")
    assert (side.token_limit, side.latent_scale) == (75, 8)
    ids = side.tokenize(["a photo of a cat"])["text_encoder"][0].tolist()
    assert ids[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert set(ids[7:]) == {0 if model.kind == "sd2" else 49407}


def test_a_file_that_does_not_fit_the_shipped_configs_is_refused_with_what_to_do(model: Model) -> None:
    with pytest.raises(ConfigError) as refused:
        load(model.file)
    name = "model.diffusion_model.input_blocks.0.0.bias"
    assert any(f"the shape of {name}, (8,) against (320,)" in problem for problem in refused.value.problems)
    advice = f"if it is no usual {TITLES[model.kind]}, name a diffusers folder with its configs as model.base_config"
    assert any(problem.endswith(advice) for problem in refused.value.problems)


def test_a_file_of_no_known_kind_is_refused_with_those_that_are(save: Any) -> None:
    path = save({"joint_blocks.0.weight": torch.zeros(1)})
    with pytest.raises(ConfigError) as refused:
        load(path)
    (problem,) = refused.value.problems
    assert problem.startswith(f"model.path  {path} is no single file of ")
    assert all(title in problem for title in TITLES.values())
    assert problem.endswith("name a diffusers folder with its configs as model.base_config")


def notes_of(path: Path, **keys: Any) -> tuple[str, tuple[str, ...]]:
    found = ModelFolder.of(ModelTable(path=path, **keys))
    return found.prediction, found.notes


def test_the_log_tells_which_configs_are_taken(model: Model) -> None:
    _, notes = notes_of(model.file)
    told = f"model.safetensors is a single file of {TITLES[model.kind]}, read with the configs that are shipped for it"
    assert told in notes


def test_what_a_file_of_2x_predicts_is_v_unless_something_says_otherwise() -> None:
    """As diffusers' own loader decides; the shipped scheduler predicts v, and `auto` leaves it so."""
    from core.families.parts.scheduler import load_scheduler

    folder = ModelFolder("model.path", STANDARD / "sd21")
    assert load_scheduler(folder, ("epsilon", "v_prediction"), "auto").config.prediction_type == "v_prediction"
    assert load_scheduler(folder, ("epsilon", "v_prediction"), "epsilon").config.prediction_type == "epsilon"


def test_that_v_was_only_assumed_is_told(tmp_path: Path) -> None:
    file = write_single_file(sd2.make(), tmp_path / "model.safetensors")
    prediction, notes = notes_of(file)
    assert prediction == "auto"
    assert "nothing says whether it predicts v" in notes[-1]
    prediction, notes = notes_of(file, prediction="epsilon")
    assert (prediction, len(notes)) == ("epsilon", 1)


@pytest.mark.parametrize(("said", "prediction"), [("epsilon", "epsilon"), ("v", "v_prediction"), ("odd", "auto")])
def test_a_header_that_says_what_is_predicted_is_believed(
    tmp_path: Path, save: Any, said: str, prediction: str
) -> None:
    tensors = load_file(write_single_file(sd2.make(), tmp_path / "model.safetensors"))
    path = save(tensors, **{"modelspec.prediction_type": said})
    assert notes_of(path)[0] == prediction
    assert notes_of(path, prediction="sample")[0] == "sample"


def test_a_file_that_is_marked_as_predicting_v_is_believed(tmp_path: Path, save: Any) -> None:
    tensors = load_file(write_single_file(sdxl.make(), tmp_path / "model.safetensors"))
    assert notes_of(save(tensors | {"v_pred": torch.zeros(0)}))[0] == "v_prediction"


@pytest.mark.parametrize(("made", "expected"), [("epsilon", "epsilon"), ("v_prediction", "v_prediction")])
def test_a_file_that_we_export_says_what_its_model_predicts(
    train: Callable[..., Run], tmp_path: Path, made: str, expected: str
) -> None:
    folder = write_folder(sd2.make(made), tmp_path / "model")
    run = train(
        f"model.path={folder}", "model.from_scratch=[]", "data.resolution=64", "train.steps=1", "train.batch_size=1",
        "export.at_end=true", "export.single_file=true",
    )  # fmt: skip
    assert notes_of(run.folder / "exports/test-step-000001.safetensors")[0] == expected


def test_a_family_that_is_never_one_file_says_so_before_anything_is_trained(tmp_path: Path) -> None:
    from core.config.tables import ExportTable
    from core.families import require_exportable
    from tests.families.tiny.flux import MODELS

    table = ModelTable(path=write_folder(MODELS[0].make(), tmp_path / "flux"))
    with pytest.raises(ConfigError, match=r"export\.single_file  a flux model has no single-file layout"):
        require_exportable(table, ExportTable(single_file=True))
    require_exportable(table, ExportTable(single_file=True, model=False))
