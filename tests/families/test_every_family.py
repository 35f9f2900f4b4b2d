"""A model of every family is read, encodes captions, predicts, trains and is written as the stock pipeline has it.

Each is a small model of random weights, made of its real classes, in `tests/families/tiny/`.
"""

import importlib
import json
import pkgutil
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import tests.families.tiny
from core.config.tables import ModelTable
from core.data import padding
from core.errors import ConfigError
from core.families import Family, float_state, known_families, load_family, name_of
from core.step.closed import Rounds, Step
from events.payloads import Conditioning, Prompt
from tests.families.comparing import assert_same_weights
from tests.families.tiny.kind import SIDES, Tiny
from tests.small_runs import NAMES, PICTURES, Run, assert_same_state
from tests.tiny_models import write_folder

CAPTIONS = ["a red heart", "", "3 OWLS' nest, Ünïcode!", "very " * 40]
ROOMS = [importlib.import_module(f"{tests.families.tiny.__name__}.{found.name}")
         for found in pkgutil.iter_modules(tests.families.tiny.__path__)]  # fmt: skip
MODELS: list[Tiny] = [model for room in ROOMS for model in getattr(room, "MODELS", ())]
Train = Callable[..., Run]
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning:diffusers"),  # its arithmetic of numpy and torch
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),  # which its own Chroma uses
    pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning"),  # torch's, of speed alone
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda tiny: tiny.name)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    model: Tiny = request.param
    return model


@pytest.fixture(scope="module")
def stock(tiny: Tiny) -> Any:
    """The stock pipeline; its modules are never changed."""
    pipeline = tiny.make()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def folder(tiny: Tiny, stock: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(stock, tmp_path_factory.mktemp(tiny.name) / "model")


@pytest.fixture(scope="module")
def family(tiny: Tiny, folder: Path) -> Family:
    """The model as the trainer sees it; its modules are never changed."""
    return load_family(ModelTable(path=folder), seed=0, max_tokens=tiny.max_tokens)


@pytest.fixture(scope="module")
def export(tiny: Tiny, family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp(tiny.name) / "export"
    place.mkdir()
    tensors = {name: float_state(module, torch.float32) for name, module in family.modules.items()}
    family.write(place, tensors, {name: {"signalbox.step": "7"} for name in tensors})
    return place


@pytest.fixture(scope="module")
def reloaded(tiny: Tiny, stock: Any, family: Family, export: Path) -> Any:
    """Frozen as the family's modules are: torch multiplies in another order where a weight may want a gradient."""
    pipeline = type(stock).from_pretrained(export, local_files_only=True, **tiny.absent)
    pipeline.set_progress_bar_config(disable=True)
    for name in family.modules:
        getattr(pipeline, name).requires_grad_(False)
    return pipeline


@pytest.fixture
def run(train: Train, tiny: Tiny, folder: Path, tmp_path: Path) -> Train:
    """Train it on four pictures: `run("train.steps=3")`."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in NAMES[:4]:
        for suffix in (".png", ".txt"):
            shutil.copy((PICTURES / name).with_suffix(suffix), pictures)
    settings = (
        f"model.path={folder}", "model.from_scratch=[]", f"model.train={json.dumps(tiny.train)}",
        f"data.root={pictures}", f"data.resolution={SIDES[0]}", f"data.max_tokens={tiny.max_tokens}",
        "train.batch_size=2", "train.warmup_steps=0", "export.dtype=fp32", "preview.count=1",
    )  # fmt: skip
    return lambda *overrides, **more: train(*settings, *overrides, **more)


def test_every_family_is_tried() -> None:
    assert {tiny.family for tiny in MODELS} == {name_of(kind) for kind in known_families()}


def test_its_folder_is_known_and_gives_the_stock_pipelines_weights(tiny: Tiny, stock: Any, family: Family) -> None:
    assert name_of(type(family)) == tiny.family  # type: ignore[arg-type]  # a Family of ours is a PipelineFamily
    for name, module in family.modules.items():
        assert_same_weights(module, getattr(stock, name))


def test_captions_are_encoded_as_by_the_stock_encode_prompt(tiny: Tiny, stock: Any, family: Family) -> None:
    """Where there is a mask, what it hides does not matter."""
    with torch.no_grad():
        expected, found = tiny.encode(stock, CAPTIONS), family.encode_text(family.tokenize(CAPTIONS))
    assert found.keys() == expected.keys()
    counts = expected["mask"].bool()[..., None] if "mask" in expected else torch.tensor(True)
    for name, part in expected.items():
        ours = found[name].where(counts, 0) if name == "embeddings" else found[name]
        theirs = part.where(counts, 0) if name == "embeddings" else part
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_long_caption_is_read_as_far_as_the_limit_says(family: Family) -> None:
    """One token less is another text, one more is the same."""
    words = " ".join("a" * family.token_limit)
    assert family.count_tokens([words]) == [family.token_limit]
    some, less, more = (ids_of(family, text) for text in (words, words[2:], words + " a"))
    assert some != less
    assert some == more


def test_more_tokens_than_it_reads_are_refused_with_the_key(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.max_tokens  10007"):
        load_family(ModelTable(path=folder), seed=0, max_tokens=10007)


def test_the_denoiser_is_called_as_by_the_stock_pipeline(tiny: Tiny, stock: Any, family: Family) -> None:
    """What its scheduler is given at each step is what we predict for the same latents and time."""
    captions = CAPTIONS[0], CAPTIONS[2]
    seen: list[tuple[Any, ...]] = []
    stock.scheduler = recording(family.sampler(tiny.sampler), seen)  # type: ignore[attr-defined]  # of PipelineFamily
    render(tiny, stock, [prompt(text, seed=seed, guidance=1.0) for seed, text in enumerate(captions)])
    geometry = torch.tensor([[*SIDES, 0, 0, *SIDES]] * 2)
    with torch.no_grad():
        conditioning = family.encode_text(family.tokenize(captions))
        for output, t, sample in seen:
            found = family.predict(tiny.unpack(sample).float(), t.expand(2), conditioning, geometry)
            torch.testing.assert_close(found, tiny.unpack(output), rtol=1e-4, atol=1e-5)
    assert len(seen) == 2


def test_padding_that_it_looks_away_from_can_be_cut_off(
    tiny: Tiny, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly the families that say so predict the same without it, and with anything else in its place."""
    monkeypatch.setattr(padding, "STEP", 1)
    with torch.no_grad():
        whole = family.encode_text(family.tokenize(CAPTIONS[:2]))
        if padding.MASK not in whole:
            assert not family.ignores_padding
            return
        entries = [{name: part[row] for name, part in whole.items()} for row in range(2)]
        short = {name: torch.stack([entry[name] for entry in padding.without_padding(entries)]) for name in whole}
        assert short["embeddings"].shape[1] < whole["embeddings"].shape[1]
        predictions = [predicted(family, conditioning) for conditioning in (whole, short, refilled(whole))]
    is_same = all(torch.allclose(one, predictions[0], rtol=1e-4, atol=1e-5) for one in predictions[1:])
    assert is_same == family.ignores_padding


def predicted(family: Family, conditioning: Conditioning) -> torch.Tensor:
    """For latents of zeros, at the same time."""
    latents, _ = family.encode_images(torch.zeros(2, 3, *SIDES))
    t = torch.full((2,), 500.0) if family.schedule.prediction == "flow" else torch.full((2,), 500)
    return family.predict(latents, t, conditioning, torch.tensor([[*SIDES, 0, 0, *SIDES]] * 2))


def refilled(conditioning: Conditioning) -> Conditioning:
    """Other numbers where the mask hides them."""
    counts = conditioning[padding.MASK].bool()[..., None]
    return {**conditioning, "embeddings": conditioning["embeddings"].where(counts, 0.5)}


def test_nothing_is_read_from_the_device_while_predicting(tiny: Tiny, folder: Path) -> None:
    """Tensors without values stand in for those of a device that must not be waited for."""
    family = load_family(ModelTable(path=folder), seed=0, max_tokens=tiny.max_tokens)
    for module in family.modules.values():
        module.to("meta")
    tokens = {name: ids.to("meta") for name, ids in family.tokenize(CAPTIONS[:2]).items()}
    mean, _ = family.encode_images(torch.zeros(2, 3, *SIDES, device="meta"))
    t, geometry = torch.zeros(2, device="meta"), torch.zeros(2, 6, dtype=torch.int64, device="meta")
    assert family.predict(mean, t, family.encode_text(tokens), geometry).shape == mean.shape


@pytest.mark.parametrize("deviations", [0.0, 1.0])
def test_latents_are_what_the_stock_pipeline_decodes(tiny: Tiny, stock: Any, family: Family, deviations: float) -> None:
    """It shows the same for them as its autoencoder for the picture that they are of."""
    pixels = torch.rand(1, 3, *SIDES, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        mean, deviation = family.encode_images(pixels)
        expected = (tiny.reconstruct(stock.vae, pixels, deviations) / 2 + 0.5).clamp(0, 1)
    assert mean.shape == deviation.shape
    assert mean.shape[2:] == tuple(side // family.latent_scale for side in SIDES)
    assert (mean.dtype, deviation.dtype) == (torch.float32, torch.float32)
    latents = tiny.pack(mean + deviations * deviation)
    stock.scheduler = arriving_at(family.sampler(tiny.sampler), latents)  # type: ignore[attr-defined]  # of PipelineFamily
    found = render(tiny, stock, [prompt("", seed=0, guidance=1.0)], output_type="pt")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_export_gives_the_stock_pipeline_equal_weights(reloaded: Any, family: Family) -> None:
    for name, module in family.modules.items():
        assert_same_weights(getattr(reloaded, name), module)


def test_an_export_renders_the_picture_of_the_live_modules(tiny: Tiny, reloaded: Any, family: Family) -> None:
    one = prompt("a red heart", seed=5, guidance=3.0)
    reloaded.scheduler = family.sampler("")  # type: ignore[attr-defined]  # of PipelineFamily
    with torch.no_grad():
        (live,) = family.render((one,))
    assert np.array_equal(np.asarray(render(tiny, reloaded, [one])[0]), np.asarray(live))


def test_an_export_keeps_the_models_own_scheduler(folder: Path, export: Path) -> None:
    written, own = (json.loads((place / "scheduler/scheduler_config.json").read_text()) for place in (export, folder))
    assert written == own


def test_text_encoders_are_written_under_their_long_standing_names(tiny: Tiny, family: Family, export: Path) -> None:
    assert set(tiny.text_keys) == set(family.text_encoders)
    for name, key in tiny.text_keys.items():
        with safe_open(export / name / "model.safetensors", framework="pt") as opened:
            assert key in opened.keys()  # noqa: SIM118  # safe_open is no mapping
            assert opened.metadata() == {"format": "pt", "signalbox.step": "7"}


def test_an_export_has_the_parts_of_the_model(folder: Path, export: Path) -> None:
    """In the index everything but the versions, and the configs of what diffusers made."""
    written, own = (json.loads((place / "model_index.json").read_text()) for place in (export, folder))
    assert {key: value for key, value in written.items() if value != [None, None]} == {
        key: value for key, value in own.items() if value != [None, None]
    }
    for path in folder.glob("*/config.json"):
        if not path.parent.name.startswith("text_encoder"):
            assert json.loads((export / path.relative_to(folder)).read_text()) == json.loads(path.read_text())


def test_an_export_is_a_model_to_train_on(tiny: Tiny, family: Family, export: Path) -> None:
    again = load_family(ModelTable(path=export), seed=0, max_tokens=tiny.max_tokens)
    assert again.tokenizer_identity == family.tokenizer_identity
    for name, module in family.modules.items():
        assert_same_weights(again.modules[name], module)


@pytest.fixture
def same_pictures(tmp_path: Path) -> Path:
    """Those four in other files, since what is trained on is refused for validation."""
    place = tmp_path / "same"
    place.mkdir()
    for number, name in enumerate(NAMES[:4]):
        Image.open((PICTURES / name).with_suffix(".png")).save(place / f"{number}.png", compress_level=1)
        shutil.copy((PICTURES / name).with_suffix(".txt"), place / f"{number}.txt")
    return place


def test_the_loss_on_four_pictures_falls_as_they_are_learned(run: Train, same_pictures: Path) -> None:
    trained = run(
        "train.steps=12", "train.batch_size=4", "train.learning_rate=1e-2", "checkpoint.every_steps=0",
        f'validation.sets={{same="{same_pictures}"}}', "validation.every_steps=0", "validation.repeats=4",
        plugins='[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n',
    )  # fmt: skip
    values = [json.loads(line)["values"] for line in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [each["validation/same"] for each in values if "validation/same" in each]
    assert losses[-1] < 0.9 * losses[0]


def test_a_run_renders_previews_and_exports_what_was_trained(run: Train, tiny: Tiny, stock: Any) -> None:
    trained = run("train.steps=1", "preview.at_end=true", "export.at_end=true")
    place = trained.folder / "exports/test-step-000001"
    exported = type(stock).from_pretrained(place, local_files_only=True, **tiny.absent)
    weights: Any = trained.state()["weights.safetensors"]
    for name in tiny.train:
        before = getattr(stock, name).state_dict()
        state = getattr(exported, name).state_dict()
        assert any(not torch.equal(tensor, before[key]) for key, tensor in state.items())
        assert all(torch.equal(state[key.removeprefix(f"{name}.")], tensor) for key, tensor in weights.items()
                   if key.startswith(f"{name}."))  # fmt: skip
    assert (trained.folder / "previews/step-000001/grid.png").is_file()


def test_it_trains_in_half_precision_from_caches_with_recomputed_activations(run: Train, tiny: Tiny) -> None:
    """Nothing of it fails where tensors of several types meet."""
    trained = run(
        f"model.train={json.dumps(tiny.train[:1])}", "model.dtype=bf16", "model.vae_dtype=bf16", "train.steps=1",
        "train.precision=bf16", "train.gradient_checkpointing=true", "cache.latents=true", "cache.text=true",
        "preview.at_end=true", plugins='[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n',
    )  # fmt: skip
    (line,) = (trained.folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["values"]["loss"] > 0
    assert (trained.folder / "previews/step-000001/grid.png").is_file()


@pytest.mark.parametrize("compiled", [False, True])
def test_training_from_cached_captions_leaves_out_the_padding_it_looks_away_from(
    run: Train, family: Family, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    """All of it is there for a step that is compiled, for one length."""
    lengths: list[int] = []
    take = Step.take

    def look(self: Step, rounds: Rounds, steps_taken: int) -> dict[str, float]:
        lengths.append(rounds.batches[0].embeddings["embeddings"].shape[1])
        return take(self, rounds, steps_taken)

    monkeypatch.setattr(padding, "STEP", 1)
    monkeypatch.setattr(Step, "take", look)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    run(
        "train.steps=1",
        f"model.train={json.dumps([family.denoiser])}",
        "cache.text=true",
        f"train.compile={json.dumps(compiled)}",
    )
    whole = family.encode_text(family.tokenize(CAPTIONS[:1]))["embeddings"].shape[1]
    assert (lengths[0] < whole) == (family.ignores_padding and not compiled)


def test_a_resumed_run_ends_as_the_unbroken_one(run: Train) -> None:
    whole = run("run.name=whole", "train.steps=3")
    run("run.name=parts", "train.steps=2")
    assert_same_state(run("run.name=parts", "train.steps=3"), whole)


def prompt(text: str, *, seed: int, guidance: float) -> Prompt:
    return Prompt(text=text, negative="blue", seed=seed, height=SIDES[0], width=SIDES[1], steps=2, guidance=guidance)


def render(tiny: Tiny, pipeline: Any, prompts: Sequence[Prompt], **more: Any) -> Any:
    """By the stock pipeline itself."""
    words = {"prompt": [one.text for one in prompts]}
    if tiny.takes_negative:
        words["negative_prompt"] = [one.negative for one in prompts]
    return pipeline(
        **words, **tiny.call, **{tiny.guidance: prompts[0].guidance}, height=SIDES[0], width=SIDES[1],
        num_inference_steps=prompts[0].steps, generator=[torch.Generator().manual_seed(one.seed) for one in prompts], **more,
    ).images  # fmt: skip


def recording(scheduler: Any, seen: list[tuple[Any, ...]]) -> Any:
    """The scheduler, keeping (the denoiser's output, t, latents) of each of its steps."""
    step = scheduler.step

    def kept(output: Any, t: Any, sample: Any, **more: Any) -> Any:
        seen.append((output, t, sample))
        return step(output, t, sample, **more)

    scheduler.step = kept
    return scheduler


def arriving_at(scheduler: Any, latents: torch.Tensor) -> Any:
    """The scheduler, whose every step ends at these."""
    scheduler.step = lambda *_, **__: (latents,)
    return scheduler


def ids_of(family: Family, text: str) -> list[int]:
    """As the encoder that reads most is given them."""
    ids: list[int] = family.tokenize([text])[family.text_encoders[-1]][0].tolist()
    return ids
