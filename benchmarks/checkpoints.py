"""What a checkpoint costs training: how long it is held up, and how much slower it gets, beside a save in the foreground.

Three runs take turns in one process, on a model of about 26 million trained weights (over 300 MB a checkpoint): without
checkpoints, with each one written before training goes on, and as Signalbox does it. Run it alone on the machine:

    python -m benchmarks.checkpoints
"""

import json
import logging
import shutil
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

from tests.small_runs import CONFIG, NAMES, PICTURES, STARTER

STEPS, EVERY, ROUNDS = 48, 8, 3
Times = dict[str, list[float]]


def main() -> int:
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    held: Times = {"foreground": [], "background": []}
    seconds: Times = {"none": [], "foreground": [], "background": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_config(folder)
        for number in range(ROUNDS):
            for kind in seconds:
                seconds[kind].append(train(config, kind, number, held.get(kind, [])))
    report(held, seconds)
    return 0


def train(config: Path, kind: str, number: int, held: list[float]) -> float:
    """One run; returns the seconds of its steps, and adds how long each save held it up, the first of a run left out."""
    import run
    from core.artefacts import Artefacts
    from core.run_folder import find_run
    from core.session import Session, configure
    from core.trainer import Trainer

    every = 0 if kind == "none" else EVERY
    loaded = run.load(config, [f"run.name={kind}-{number}", f"checkpoint.every_steps={every}"])
    bus, source = run.assemble_bus(loaded, config)
    loaded = configure(bus, loaded, str(config))
    save, act = Artefacts.save, Trainer._act_on_requests
    saves: list[float] = []
    span = {"begun": 0.0, "ended": 0.0}

    def timed_save(self: Artefacts, *arguments: object) -> None:
        begun = perf_counter()
        save(self, *arguments)  # type: ignore[arg-type]
        if kind == "foreground":
            self.settle(wait=True)
        saves.append(perf_counter() - begun)

    def note_begin(self: Trainer) -> None:
        span["begun"] = span["begun"] or perf_counter()
        act(self)

    def note_end(self: Artefacts, *arguments: object, **options: object) -> None:
        span["ended"] = perf_counter()
        self.settle(wait=True)

    with (
        patch.object(Artefacts, "save", timed_save),
        patch.object(Trainer, "_act_on_requests", note_begin),
        patch.object(Artefacts, "at_end", note_end),
    ):
        folder = find_run(loaded, fresh=False)
        Session(loaded, bus, source, folder).execute()
    shutil.rmtree(folder.path)
    held += saves[1:]
    return span["ended"] - span["begun"]


def report(held: Times, seconds: Times) -> None:
    front, back = (statistics.median(held[kind]) for kind in ("foreground", "background"))
    print(
        f"held up by a save, median of {len(held['background'])}: foreground {front * 1e3:.0f} ms, background {back * 1e3:.0f} ms"
    )
    print(f"ratio {front / back:.1f}")
    bare = statistics.median(seconds["none"])
    for kind in ("foreground", "background"):
        share = statistics.median(seconds[kind]) / bare - 1
        print(f"{STEPS} steps with a checkpoint every {EVERY}, {kind}: {share:+.1%} of {bare:.1f} s")


def write_config(folder: Path) -> Path:
    from diffusers import UNet2DConditionModel

    model, data = folder / "model", folder / "pictures"
    shutil.copytree(STARTER, model)
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(128, 256), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=2, cross_attention_dim=64,
        attention_head_dim=64, norm_num_groups=8,
    ).save_config(model / "unet")  # fmt: skip
    for name in NAMES:
        for suffix in (".png", ".txt"):
            target = (data / name).with_suffix(suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy((PICTURES / name).with_suffix(suffix), target)
    values = {"dir": folder / "runs", "model": model, "data": data, "cache": folder / "cache"}
    config = folder / "config.toml"
    text = CONFIG.format(**{key: json.dumps(str(value)) for key, value in values.items()})
    text = text.replace('train = ["unet", "text_encoder"]', 'train = ["unet"]').replace("steps = 7", f"steps = {STEPS}")
    config.write_text(text)
    return config


if __name__ == "__main__":
    sys.exit(main())
