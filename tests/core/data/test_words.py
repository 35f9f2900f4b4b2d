"""A run says where its captions came from and which are cut; longer ones can be read in chunks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.config.tables import ModelTable
from core.families import load_data_side, load_family
from core.families.parts.tokenizers import AT_ONCE, load_tokenizer, plain_ids
from tests.small_runs import STARTER, Run, assert_same

LONG = "red " * 40
VERY_LONG = ", ".join(map(str, range(9000)))


@pytest.fixture
def pictures(picture_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(picture_folder, tmp_path / "set")
    return tmp_path / "set"


def test_a_very_long_caption_is_read_in_pieces_as_the_whole_is() -> None:
    tokenizer = load_tokenizer(STARTER / "tokenizer", "CLIPTokenizer")
    captions = ["", "a red heart", VERY_LONG, "x" * (AT_ONCE + 9), "red " * AT_ONCE]
    whole = tokenizer(captions, add_special_tokens=False, truncation=False, verbose=False).input_ids
    assert [whole[place] == ids for place, ids in enumerate(plain_ids(tokenizer, captions))] == [True] * 3 + [
        False,
        True,
    ]
    few = plain_ids(tokenizer, captions, 75)
    assert [ids[:75] for ids in few] == [ids[:75] for ids in whole]
    assert len(few[2]) < len(whole[2])


def test_a_run_says_where_captions_came_from(
    train: Callable[..., Run], pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "birds" / "owl.txt").unlink()
    (pictures / "birds" / "duck.txt").write_text("")
    train(f"data.root={pictures}", "train.steps=1")
    assert "captions: 9 from .txt, 1 from file name; 1 are empty" in caplog.text


def test_captions_that_are_cut_are_counted_and_one_is_named(
    train: Callable[..., Run], pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "birds" / "owl.txt").write_text(LONG)
    train(f"data.root={pictures}", "train.steps=1")
    (warning,) = [record for record in caplog.records if "tokens that are read" in record.getMessage()]
    assert warning.levelname == "WARNING"
    assert "1 captions have more than the 22 tokens" in warning.getMessage()
    assert "set/birds/owl.png" in warning.getMessage()
    caplog.clear()
    train(f"data.root={pictures}", "train.steps=1", "data.max_tokens=150", "run.name=longer")
    assert "tokens that are read" not in caplog.text


def test_what_stands_behind_the_first_chunk_changes_the_run_only_when_it_is_read(
    train: Callable[..., Run], pictures: Path
) -> None:
    for ending, name in (("owl", "one"), ("fox", "other")):
        for caption in pictures.rglob("*.txt"):
            caption.write_text(LONG + ending)
        for tokens in (75, 225):
            train(f"data.root={pictures}", "train.steps=2", f"data.max_tokens={tokens}", f"run.name={name}-{tokens}")

    def trained(name: str) -> dict[str, object]:
        state = Run(folder=pictures.parent / "runs" / name, exit_code=0).state()
        return {part: tensors for part, tensors in state.items() if part != "data.safetensors"}

    assert_same(trained("one-75"), trained("other-75"))
    with pytest.raises(AssertionError):
        assert_same(trained("one-225"), trained("other-225"))


def test_chunks_are_encoded_each_on_its_own_and_joined(model_folder: Path) -> None:
    family = load_family(ModelTable(path=model_folder, from_scratch=("unet", "text_encoder")), seed=0)
    caption = "red heart " * 15
    length = family.tokenizers["text_encoder"].model_max_length
    family.max_tokens = 150
    ids = family.tokenize([caption])["text_encoder"]
    assert ids.shape == (1, 2 * length)
    with torch.no_grad():
        whole = family.encode_text({"text_encoder": ids})
        parts = [family.encode_text({"text_encoder": ids[:, start : start + length]}) for start in (0, length)]
    assert torch.equal(whole["embeddings"], torch.cat([part["embeddings"] for part in parts], dim=1))
    words = "".join(
        family.tokenizers["text_encoder"].decode(part, skip_special_tokens=True) for part in ids.view(2, -1)
    )
    assert words.replace(" ", "") == caption.replace(" ", "")


def test_a_short_caption_has_the_ids_that_the_stock_tokenizer_gives() -> None:
    side = load_data_side(ModelTable(path=STARTER), 75)
    captions = ["a red heart, emoji", LONG, ""]
    tokenizer = load_family(ModelTable(path=STARTER, from_scratch=("unet", "text_encoder")), seed=0).tokenizers[
        "text_encoder"
    ]
    stock = tokenizer(captions, padding="max_length", truncation=True, max_length=24, return_tensors="pt").input_ids
    assert torch.equal(side.tokenize(captions)["text_encoder"], stock)
    assert side.count_tokens(captions)[1:] == [40, 0]
