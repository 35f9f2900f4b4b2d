"""A Stable Diffusion 1.5 model, from a folder or from one file, is trained, previewed, exported and resumed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.small_runs import Run, assert_same_state

COMMON = (
    "model.from_scratch=[]", "data.resolution=64", "train.batch_size=2", "train.steps=2", "train.warmup_steps=0",
    "preview.at_end=true", "export.at_end=true", "export.dtype=fp32",
)  # fmt: skip


@pytest.fixture
def keys_of(folder: Path, single_file: Path) -> Callable[[str], tuple[str, ...]]:
    """The overrides that name the model in one of its two forms."""

    def keys(form: str) -> tuple[str, ...]:
        if form == "folder":
            return (f"model.path={folder}", *COMMON)
        return (f"model.path={single_file}", f"model.base_config={folder}", *COMMON)

    return keys


@pytest.mark.parametrize("form", ["folder", "file"])
def test_unet_and_text_encoder_move_and_the_export_is_what_was_trained(
    train: Callable[..., Run], keys_of: Callable[[str], tuple[str, ...]], folder: Path, form: str
) -> None:
    from diffusers import StableDiffusionPipeline

    run = train(*keys_of(form), 'model.train=["unet", "text_encoder"]')
    exported = StableDiffusionPipeline.from_pretrained(run.folder / "exports/test-step-000002", local_files_only=True)
    before = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    trained = run.state()["weights.safetensors"]
    for name in ("unet", "text_encoder"):
        state, old = getattr(exported, name).state_dict(), getattr(before, name).state_dict()
        assert all(torch.equal(tensor, trained[f"{name}.{key}"]) for key, tensor in state.items())  # type: ignore[index]
        assert any(not torch.equal(tensor, old[key]) for key, tensor in state.items())
    vae, old = exported.vae.state_dict(), before.vae.state_dict()
    assert all(torch.equal(tensor, old[key]) for key, tensor in vae.items())
    exported.set_progress_bar_config(disable=True)
    picture = exported("red heart", num_inference_steps=2, width=64, height=64).images[0]
    assert picture.size == (64, 64)
    assert (run.folder / "previews/step-000002/grid.png").is_file()


def test_only_what_is_named_is_trained(train: Callable[..., Run], keys_of: Callable[[str], tuple[str, ...]]) -> None:
    run = train(*keys_of("folder"), 'model.train=["unet"]', "preview.at_end=false", "export.at_end=false")
    assert {name.partition(".")[0] for name in run.state()["weights.safetensors"]} == {"unet"}  # type: ignore[attr-defined]


QUICK = ("preview.at_end=false", "export.at_end=false")


def test_folder_and_file_train_alike(train: Callable[..., Run], keys_of: Callable[[str], tuple[str, ...]]) -> None:
    """Up to rounding: the tensors of the two lie differently in memory."""
    one, other = (train(f"run.name={form}", *keys_of(form), *QUICK) for form in ("folder", "file"))
    left, right = one.state()["weights.safetensors"], other.state()["weights.safetensors"]
    for name, tensor in left.items():  # type: ignore[attr-defined]
        torch.testing.assert_close(right[name], tensor, rtol=0, atol=1e-4)  # type: ignore[index]


@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_resumed_run_ends_as_the_unbroken_one(
    train: Callable[..., Run], keys_of: Callable[[str], tuple[str, ...]], form: str
) -> None:
    whole = train("run.name=whole", *keys_of(form), *QUICK)
    train("run.name=parts", *keys_of(form), *QUICK, "train.steps=1")
    assert_same_state(train("run.name=parts", *keys_of(form), *QUICK), whole)
