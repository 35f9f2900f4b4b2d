"""Train the small `AutoencoderKL` of the demo's starter model; its quality is the ceiling of the demo.

    python examples/emoji/make_pictures.py package --all all_emoji
    python examples/train_vae.py all_emoji --out examples/starter/vae --iterations 12000

It sees every named emoji but the last 128 of a fixed shuffle (and never the demo's held-out three), shifted, mirrored
and with exchanged colour channels, and reports the PSNR on the unseen ones. About 0.3 CPU seconds an iteration. The
loss is mean |e| + 4 mean e^2 + 0.5 mean |gradient difference| + 1e-6 KL on pictures in [-1, 1].
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

SIDE_PIXELS = 32
UNSEEN = 128
HELD_OUT = {"green-heart", "orange-circle", "purple-square"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=12_000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    seen, unseen = load_pictures(arguments.pictures)
    vae = build_vae()
    averaged = train(vae, seen, unseen, arguments.iterations, arguments.out)
    write(averaged, seen, unseen, arguments.out)


def load_pictures(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (N, 3, 32, 32) in [-1, 1] to train on, and those never trained on."""
    paths = sorted(folder.glob("*.png"))
    random.Random(0).shuffle(paths)
    paths.sort(key=lambda path: path.stem in HELD_OUT)  # stable: the held-out three go to the end
    stack = np.stack([np.asarray(small(path), dtype=np.float32) for path in paths])
    pictures = torch.from_numpy(stack).permute(0, 3, 1, 2) / 127.5 - 1
    return pictures[:-UNSEEN], pictures[-UNSEEN:]


def small(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB").resize((SIDE_PIXELS, SIDE_PIXELS), Image.Resampling.LANCZOS)


def build_vae() -> AutoencoderKL:
    """32 px to 4 x 8 x 8, 1.45 M parameters."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 48, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIDE_PIXELS,
        mid_block_add_attention=False,
    )


def augment(pictures: torch.Tensor) -> torch.Tensor:
    """Shift by up to 3 px (the border is repeated), mirror half, exchange colour channels in a quarter."""
    count, _, side, _ = pictures.shape
    padded = torch.nn.functional.pad(pictures, (3, 3, 3, 3), mode="replicate")
    dy, dx = random.randrange(7), random.randrange(7)
    shifted = padded[:, :, dy : dy + side, dx : dx + side].clone()
    mirrored = torch.rand(count) < 0.5
    shifted[mirrored] = shifted[mirrored].flip(-1)
    exchanged = torch.rand(count) < 0.25
    shifted[exchanged] = shifted[exchanged][:, torch.randperm(3)]
    return shifted


def loss_of(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    posterior = vae.encode(pictures).latent_dist
    error = vae.decode(posterior.sample()).sample - pictures
    gradients = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 4 * error.square().mean() + 0.5 * gradients + 1e-6 * posterior.kl().mean()


def train(vae: AutoencoderKL, seen: torch.Tensor, unseen: torch.Tensor, iterations: int, out: Path) -> AutoencoderKL:
    averaged = build_vae()
    averaged.load_state_dict(vae.state_dict())
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1, (i + 1) / 100) * (0.01 + 0.99 * (1 + math.cos(math.pi * i / iterations)) / 2)
    )
    started = time.process_time()
    for iteration in range(1, iterations + 1):
        loss = loss_of(vae, augment(seen[torch.randint(len(seen), (16,))]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        decay = min(0.999, (1 + iteration) / (10 + iteration))
        with torch.no_grad():
            for mean, value in zip(averaged.parameters(), vae.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        if iteration % 500 == 0:
            cpu_seconds = time.process_time() - started
            print(
                f"{iteration:6d} loss {loss.item():.4f} psnr {psnr(averaged, unseen):.2f} dB, {cpu_seconds:.0f} CPU s",
                flush=True,
            )
            if iteration % 2000 == 0:
                write(averaged, seen, unseen, out)
    return averaged


@torch.no_grad()
def psnr(vae: AutoencoderKL, pictures: torch.Tensor) -> float:
    """Mean over pictures of 10 log10(1 / MSE) on values in [0, 1], the posterior's mode decoded."""
    decoded = vae.decode(vae.encode(pictures).latent_dist.mode()).sample.clamp(-1, 1)
    mse = ((decoded - pictures) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * mse.log10()).mean())


@torch.no_grad()
def write(vae: AutoencoderKL, seen: torch.Tensor, unseen: torch.Tensor, out: Path) -> None:
    """Save as fp16 safetensors with the scaling factor that gives latents of unit deviation, and a picture to look at."""
    deviation = vae.encode(seen[:512]).latent_dist.sample().std().item()
    vae.register_to_config(scaling_factor=round(1 / deviation, 5))
    vae.save_pretrained(out)
    half = AutoencoderKL.from_pretrained(out, torch_dtype=torch.float16)
    half.save_pretrained(out)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)  # a folder of the machine it was made on
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shown = unseen[-24:]
    decoded = vae.decode(vae.encode(shown).latent_dist.mode()).sample
    rows = torch.cat([torch.cat(list(shown), dim=2), torch.cat(list(decoded), dim=2)], dim=1).clamp(-1, 1)
    array = ((rows + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(array).resize((24 * 96, 2 * 96), Image.Resampling.NEAREST).save(out.parent / "vae_unseen.png")


if __name__ == "__main__":
    main()
