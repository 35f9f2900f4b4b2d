"""Two processes train, render and save a model of every family as one process does, also where weights lie idle."""

import json
import shutil
from pathlib import Path

import pytest

from tests.core.ranks.conftest import NewRoom
from tests.core.ranks.launching import train_here, train_in_processes
from tests.core.ranks.test_equality import assert_equal
from tests.families.test_every_family import MODELS
from tests.families.tiny.kind import SIDES, Tiny
from tests.small_runs import NAMES, PICTURES
from tests.tiny_models import write_folder

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning:diffusers"),  # its arithmetic of numpy and torch
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),  # which its own Chroma uses
    pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning"),  # torch's, of speed alone
]

UNLIKE = ("sdxl", "sd3", "qwen-image")
"""A UNet with two text encoders, a transformer with three, and one whose last stream lies idle; the others are like them."""


@pytest.mark.parametrize("tiny", [
    pytest.param(tiny, id=tiny.name, marks=() if tiny.name in UNLIKE else pytest.mark.long) for tiny in MODELS
])  # fmt: skip
def test_its_modules_are_trained_to_the_same_bits_and_rendered(tiny: Tiny, new_room: NewRoom) -> None:
    """SDXL leaves the last layer of each text encoder idle, Qwen-Image the last stream of its words."""
    room = new_room(tiny.name)
    settings = (
        f"model.path={write_folder(tiny.make(), room.parent / 'model')}", "model.from_scratch=[]",
        f"model.train={json.dumps(tiny.train)}", f"data.root={pictures(room.parent)}", f"data.resolution={SIDES[0]}",
        f"data.max_tokens={tiny.max_tokens}", "train.batch_size=1", "train.steps=2", "train.warmup_steps=0",
        "checkpoint.every_steps=0", "preview.count=1",
    )  # fmt: skip
    two = train_in_processes(room, "run.name=two", "preview.at_end=true", *settings)
    assert two.exit_code == 0, two.output
    assert (two.folder / "previews/step-000002/grid.png").is_file()
    assert_equal(two, train_here(room, "run.name=one", "train.accumulate=2", *settings))


def pictures(room: Path) -> Path:
    """Three, so that a step has one for each process and the next has one that stands in."""
    folder = room / "pictures"
    folder.mkdir()
    for name in NAMES[:3]:
        for suffix in (".png", ".txt"):
            shutil.copy((PICTURES / name).with_suffix(suffix), folder)
    return folder
