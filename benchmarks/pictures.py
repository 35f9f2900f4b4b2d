"""Pictures to measure with: like photographs, made anew from seeds, so that none has to be kept."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

QUALITY = 92
SOURCES = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "retina")
"""Of scikit-image, a photograph each."""


def sources() -> tuple[str, list[Image.Image]]:
    """What the pictures are made of, and those pictures: photographs where scikit-image is there, else textures."""
    if importlib.util.find_spec("skimage"):
        data: Any = importlib.import_module("skimage.data")
        return "photographs of scikit-image", [Image.fromarray(getattr(data, name)()) for name in SOURCES]
    random = numpy.random.default_rng(0)
    grids = (random.integers(0, 256, (9, 12, 3), dtype=numpy.uint8) for _ in SOURCES)
    return "textures", [Image.fromarray(grid).resize((640, 480), Image.Resampling.BICUBIC) for grid in grids]


def write_pictures(folder: Path, name: str, sizes: Sequence[tuple[int, int]]) -> list[Path]:
    """A JPEG of each source, the sizes taking turns."""
    paths = []
    for number, source in enumerate(sources()[1]):
        paths.append(folder / f"{name} {number}.jpg")
        photograph(source, sizes[number % len(sizes)], number).save(paths[-1], quality=QUALITY)
    return paths


def photograph(source: Image.Image, size: tuple[int, int], seed: int) -> Image.Image:
    """The source enlarged, with detail in the octaves that this leaves empty and the grain of a sensor."""
    random = numpy.random.default_rng(seed)
    factor = max(size[0] / source.width, size[1] / source.height)
    width, height = min(source.width, size[0] / factor), min(source.height, size[1] / factor)
    values = numpy.asarray(
        source.convert("RGB").resize(size, Image.Resampling.BICUBIC, box=(0, 0, width, height)), dtype=numpy.float32
    )
    coarseness = 1
    while coarseness < factor * 1.5:  # amplitudes grow with wavelength, as in photographs
        shape = (size[1] // coarseness + 1, size[0] // coarseness + 1)
        detail = Image.fromarray(random.standard_normal(shape).astype(numpy.float32))
        enlarged = numpy.asarray(detail.resize(size, Image.Resampling.BICUBIC))
        values = values + 2.5 * coarseness**0.5 * enlarged[..., None]
        coarseness *= 2
    values += random.standard_normal(values.shape).astype(numpy.float32)
    return Image.fromarray(values.round().clip(0, 255).astype(numpy.uint8))
