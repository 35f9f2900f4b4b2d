"""A picture file as upright RGB, fitted to its bucket, as a tensor in [-1, 1]."""

from pathlib import Path
from random import Random
from typing import Literal

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "AVIF")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif"})
EXIF_ORIENTATION = 0x0112
SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""
Crop = Literal["centre", "random"]


MAX_PIXELS = 64_000_000
"""More than any camera in common use takes; a small file can claim far more and fill the memory."""


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF orientation; reads the header only.

    Raises whatever Pillow finds wrong with the file, and ValueError for more than MAX_PIXELS.
    """
    with _open(path) as image:
        width, height = image.size
        sideways = image.getexif().get(EXIF_ORIENTATION) in SIDEWAYS
    return (height, width) if sideways else (width, height)


def read_upright(path: Path, transparent: str) -> Image.Image:
    """The first frame as upright RGB, transparency over the given colour, 16 bits scaled to 8. Raises as `upright_size`."""
    with _open(path) as image:
        image.load()
        return to_rgb(ImageOps.exif_transpose(image), transparent)


def _open(path: Path) -> Image.Image:
    image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{image.width} x {image.height} pixels, more than the {MAX_PIXELS:,} that are read")
    return image


def to_rgb(image: Image.Image, transparent: str) -> Image.Image:
    """RGB of any mode."""
    if image.mode.startswith("I") or image.mode == "F":
        scaled = numpy.asarray(image, dtype=numpy.float64) / 257  # 65535 / 255
        image = Image.fromarray(scaled.round().clip(0, 255).astype(numpy.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        page = Image.new("RGBA", image.size, transparent)
        page.alpha_composite(image.convert("RGBA"))
        image = page
    return image if image.mode == "RGB" else image.convert("RGB")


def fit(image: Image.Image, target: tuple[int, int], crop: Crop, random: Random) -> Image.Image:
    """Resize so that the target (width, height) is covered, antialiased, and crop what stands over."""
    width, height = target
    scale = max(width / image.width, height / image.height)
    over_x, over_y = image.width - width / scale, image.height - height / scale
    left, top = (over_x / 2, over_y / 2) if crop == "centre" else (random.random() * over_x, random.random() * over_y)
    box = (left, top, left + width / scale, top + height / scale)
    return image.resize(target, Image.Resampling.LANCZOS, box=box)


def to_pixels(image: Image.Image) -> Tensor:
    """(3, H, W) float32 in [-1, 1]: the fixed normalisation with mean 0.5 and deviation 0.5."""
    array = numpy.array(image, dtype=numpy.uint8)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous().to(torch.float32).div_(127.5).sub_(1.0)
