"""Give six of sixty emoji each other's captions, train on them, and see where LossByImage ranks these six.

    python examples/mislabelled.py work --seed 1
    python examples/mislabelled.py work --seed 1 --all-different

The sixty are ten emoji, each turned, moved and enlarged in six ways on a light ground, so that other pictures say what a
caption means. With `--all-different` they are sixty emoji of which no two have the same caption. The settings are those of
the demo with 300 steps of 16 pictures: a few minutes on one core.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parent.parent
EMOJI = ROOT / "examples" / "emoji" / "pictures"
KINDS = ("hearts/red-heart", "hearts/blue-heart", "hearts/yellow-heart", "circles/red-circle", "circles/green-circle",
         "squares/blue-square", "squares/brown-square", "animals/panda", "animals/fox", "birds/owl")  # fmt: skip
VIEWS, PAIRS, SIDE_PIXELS = 6, 3, 72
SETTINGS = ("train.steps=300", "train.batch_size=16", "checkpoint.every_steps=0", "preview.at_start=false",
            "preview.every_steps=0", "preview.at_end=false", "export.at_end=false", "log.every_steps=50")  # fmt: skip
PLUGINS = """
[[plugins]]
use = "plugins.captions.DropCaption"
probability = 0.1
[[plugins]]
use = "plugins.loss_by_image.LossByImage"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where pictures and runs are written")
    parser.add_argument("--seed", type=int, default=1, help="of the pictures, the exchange and the run")
    parser.add_argument("--all-different", action="store_true")
    arguments = parser.parse_args()
    name = f"{'different' if arguments.all_different else 'views'}-{arguments.seed}"
    folder, rng = arguments.folder / name, random.Random(arguments.seed)
    draw = draw_different if arguments.all_different else draw_views
    captions = draw(folder, rng)
    wrong = exchange(captions, rng)
    for file, caption in captions.items():
        (folder / f"{file}.txt").write_text(caption, encoding="utf-8")
    rows = train(folder, arguments.folder / "runs", name, arguments.seed)
    for rank, row in enumerate(rows, 1):
        if Path(row["id"]).stem in wrong:
            print(f"{rank:3}. {row['id']}: captioned {row['caption']}, lost {row['lost']:.0%} of {row['compared']}")
    ranks = [rank for rank, row in enumerate(rows, 1) if Path(row["id"]).stem in wrong]
    suspects = [Path(row["id"]).stem in wrong for row in rows if row["is_suspect"]]
    print(f"ranks of the six: {ranks}; {sum(suspects)} of {len(suspects)} suspects are among them")


def draw_views(folder: Path, rng: random.Random) -> dict[str, str]:
    """Ten emoji in six views each; returns their captions by file name."""
    captions = {}
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        emoji = Image.open(EMOJI / f"{kind}.png").convert("RGBA")
        for view in range(VIEWS):
            side = rng.choice((44, 48, 52, 56, 60, 64))
            ground = (rng.randint(180, 255), rng.randint(180, 255), rng.randint(180, 255))
            picture = Image.new("RGB", (SIDE_PIXELS, SIDE_PIXELS), ground)
            turned = emoji.resize((side, side)).rotate(rng.uniform(-25, 25), resample=Image.Resampling.BICUBIC)
            place = (rng.randint(0, SIDE_PIXELS - side), rng.randint(0, SIDE_PIXELS - side))
            picture.paste(turned, place, turned)
            name = f"{Path(kind).name}-{view}"
            picture.save(folder / f"{name}.png")
            captions[name] = (EMOJI / f"{kind}.txt").read_text(encoding="utf-8").strip()
    return captions


def draw_different(folder: Path, rng: random.Random) -> dict[str, str]:
    """Sixty emoji as they are, every heart, circle and square among them."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = [sorted((EMOJI / group).glob("*.png")) for group in ("hearts", "circles", "squares", "animals", "fruit")]
    paths = [path for group in groups for path in group][: len(KINDS) * VIEWS]
    for path in paths:
        Image.open(path).save(folder / path.name)
    return {path.stem: path.with_suffix(".txt").read_text(encoding="utf-8").strip() for path in paths}


def exchange(captions: dict[str, str], rng: random.Random) -> set[str]:
    """Exchange captions within three pairs of which no two words are the same; returns whose they are."""
    while True:
        chosen = rng.sample(sorted(captions), 2 * PAIRS)
        pairs = list(zip(chosen[::2], chosen[1::2], strict=True))
        if all(not set(captions[one].split()) & set(captions[other].split()) for one, other in pairs):
            break
    for one, other in pairs:
        captions[one], captions[other] = captions[other], captions[one]
    return set(chosen)


def train(folder: Path, runs: Path, name: str, seed: int) -> list[dict[str, Any]]:
    """The pictures of the plugin's report, the most suspect first."""
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    config = folder.parent / f"{name}.toml"
    config.write_text(text[: text.index("[[plugins]]\n")] + PLUGINS, encoding="utf-8")
    own = (f"run.dir={runs.resolve()}", f"run.name={name}", f"run.seed={seed}", f"data.root={folder.resolve()}",
           f"cache.dir={(runs.parent / 'cache').resolve()}")  # fmt: skip
    settings = [part for setting in (*SETTINGS, *own) for part in ("--set", setting)]
    command = [sys.executable, "run.py", "train", str(config.resolve()), *settings, "--fresh"]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603  # our own command
    newest = max(runs.glob(f"{name}*/loss_by_image.json"), key=lambda path: path.stat().st_mtime)
    rows: list[dict[str, Any]] = json.loads(newest.read_text(encoding="utf-8"))["pictures"]
    return rows


if __name__ == "__main__":
    main()
