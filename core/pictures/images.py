"""A picture file as upright sRGB, the part of it that its bucket shows, and that part as numbers."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple

import numpy
import torch
from PIL import Image, ImageFile
from torch import Tensor

from events.payloads import Mask

from . import colours
from .facts import FileFacts, has_changed
from .files import EXTENSIONS as EXTENSIONS
from .files import FORMATS as FORMATS
from .files import MAX_PIXELS as MAX_PIXELS
from .files import Contents, Refused, open_picture, read_contents, reason_of
from .orientation import orientation, upright, upright_size

Crop = Literal["centre", "random", "jitter"]
Size = tuple[int, int]
"""(width, height) in pixels."""
REDUCING_GAP = 2.0
"""Other pictures are averaged over whole blocks when that leaves this much for the fine filter to resize."""
ZOOM_DIGITS = 9
"""Of how much larger a smaller part is shown; with more, what rounding leaves of none would show."""
ASPECT_TOLERANCE = 0.02
"""By which a mask's aspect may differ from its picture's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A decoded file."""

    image: Image.Image
    """RGB, upright."""
    mask: Image.Image | None
    """Mode L, of the image's size; 255 where the loss counts."""
    size: Size
    """Of the file, upright; the image may have been decoded smaller."""


class Box(NamedTuple):
    """Part of a picture in fractions of its sides, so that it means the same at any scale, and for the mask."""

    left: float
    top: float
    right: float
    bottom: float


def read_picture(
    path: Path, *, transparent: str, mask: Mask, target: Size | None, known: FileFacts | None = None
) -> Picture:
    """The first frame as upright sRGB, over the colour `transparent` where it is not opaque.

    With a target (width, height) the picture may be decoded smaller, by a whole factor that follows from its size and
    the target alone; it stays large enough to cover the target. The mask "alpha" is None for an opaque picture.
    Files that are no longer what is `known` of them are refused.

    Raises files.Refused with a sentence about the file, ValueError for an unknown colour, and whatever Pillow raises
    for bad bytes; `files.reason_of` makes a sentence of it.
    """
    files = [read_contents(path)]
    if isinstance(mask, Path):
        files.append(_mask_contents(mask))
    if known is not None and has_changed(known, files):
        raise Refused("has changed since the run began")
    image, size, factor = _decode(files[0], target)
    profile = image.info.get("icc_profile")
    coloured, alpha = colours.split_alpha(image)
    rgb = colours.to_srgb(coloured, profile)
    if alpha is not None:
        rgb = colours.over(rgb, alpha, transparent)
    rgb.info = {}  # what else the file says, such as where it was taken, goes no further
    if isinstance(mask, Path):
        return Picture(image=rgb, mask=_read_mask(mask, files[1], size, factor), size=size)
    return Picture(image=rgb, mask=alpha if mask == "alpha" else None, size=size)


def crop_box(size: Size, target: Size, crop: Crop, random: Random) -> Box:
    """The part of a picture of this size that is shown when it is resized to cover the target, both (width, height).

    "random" is uniform over all places; "jitter" falls off linearly from the centre. "centre" draws nothing, the others
    two numbers always.
    """
    scale = max(target[0] / size[0], target[1] / size[1])
    width, height = (min(1.0, side / (whole * scale)) for side, whole in zip(target, size, strict=True))
    if crop == "centre":
        x = y = 0.5
    elif crop == "random":
        x, y = random.random(), random.random()
    else:
        x, y = random.triangular(), random.triangular()
    left, top = x * (1 - width), y * (1 - height)
    return Box(left, top, left + width, top + height)


def resize(
    image: Image.Image, box: Box, target: Size, *, mirror: bool, upside_down: bool = False, whole: Size | None = None
) -> Image.Image:
    """The part of an RGB picture or of a mask at the target's (width, height), antialiased and then turned over.

    Pictures by Lanczos' filter, masks by a linear one, which does not overshoot. `whole` is the size the picture had
    before it was decoded smaller: its last column and row then stand for less than the others, which the box minds.
    """
    width, height = image.size if whole is None else _extent(image.size, whole)
    part = (box.left * width, box.top * height, min(box.right * width, width), min(box.bottom * height, height))
    resample = Image.Resampling.BILINEAR if image.mode == "L" else Image.Resampling.LANCZOS
    resized = image.resize(target, resample, box=part, reducing_gap=REDUCING_GAP)
    resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else resized
    return resized.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if upside_down else resized


def corner(box: Box, size: Size, target: Size, *, mirrored: bool, upside_down: bool = False) -> tuple[int, int]:
    """(top, left) in pixels of the crop in the picture that was resized and turned over before it was cropped.

    What SDXL is told of a crop (Podell et al. 2023, arXiv:2307.01952, section 2.2).
    """
    scale = max(target[0] / size[0], target[1] / size[1])
    left = 1 - box.right if mirrored else box.left
    top = 1 - box.bottom if upside_down else box.top
    zoom_x, zoom_y = (
        round(min(1.0, target[axis] / (size[axis] * scale)) / (box[axis + 2] - box[axis]), ZOOM_DIGITS)
        for axis in (0, 1)
    )
    return round(top * size[1] * scale * zoom_y), round(left * size[0] * scale * zoom_x)


def to_pixels(image: Image.Image) -> Tensor:
    """(3, H, W) float32 in [-1, 1]: the fixed normalisation with mean 0.5 and deviation 0.5."""
    pixels = numpy.empty((3, image.height, image.width), dtype=numpy.float32)
    for plane, channel in zip(pixels, image.split(), strict=True):  # Pillow's planes come out faster than its pixels
        values = numpy.frombuffer(channel.tobytes(), dtype=numpy.uint8).reshape(plane.shape)
        numpy.divide(values, numpy.float32(127.5), out=plane, dtype=numpy.float32)
        plane -= 1
    return torch.from_numpy(pixels)


def mask_values(mask: Image.Image, latent_size: Size) -> Tensor:
    """(1, h, w) float32 in [0, 1]: the mean of the mask under each cell of a latent of this (width, height)."""
    values = torch.from_numpy(numpy.array(mask, dtype=numpy.float32))[None]
    width, height = latent_size
    return torch.nn.functional.adaptive_avg_pool2d(values, (height, width)).div_(255)


def _decode(file: Contents, target: Size | None) -> tuple[Image.Image, Size, int]:
    """The upright picture in 8 bits, its own upright size, and the factor by which it is smaller than that."""
    with open_picture(BytesIO(file.data)) as image:
        size, turn = upright_size(image), orientation(image)
        ratio = 1.0 if target is None else min(size[0] / target[0], size[1] / target[1])
        factor = _draft(image, ratio) if image.format in ("JPEG", "MPO") else 0
        image.load()
        decoded, profile = colours.eight_bits(image), image.info.get("icc_profile")
        if not factor:
            factor = max(1, int(ratio / REDUCING_GAP))
            decoded = decoded.reduce(factor) if factor > 1 else decoded
        decoded = decoded if image.format == "TIFF" else upright(decoded, turn)  # TIFF was turned while it was decoded
    if profile:
        decoded.info["icc_profile"] = profile
    return decoded, size, factor


def _draft(image: ImageFile.ImageFile, ratio: float) -> int:
    """Have a JPEG decoded at 1/8, 1/4 or 1/2 of its sides where that leaves enough; returns 8, 4, 2 or 1."""
    factor = next((factor for factor in (8, 4, 2) if ratio >= factor), 1)
    if factor > 1 and image.draft(None, (image.width // factor, image.height // factor)) is None:
        return 1
    return factor


def _mask_contents(path: Path) -> Contents:
    try:
        return read_contents(path)
    except (OSError, ValueError) as error:
        raise Refused(f"its mask {path} {reason_of(error)}") from error


def _read_mask(path: Path, file: Contents, size: Size, factor: int) -> Image.Image:
    """The grey of a mask file, upright, as large as the picture of this size that was decoded smaller by the factor."""
    try:
        image, own, _ = _decode(file, None)
    except Exception as error:  # Pillow raises many kinds for bad bytes
        raise Refused(f"its mask {path} {reason_of(error)}") from error
    if abs(own[0] * size[1] / (own[1] * size[0]) - 1) > ASPECT_TOLERANCE:
        shapes = f"{own[0]} x {own[1]} pixels, of another aspect than the picture's {size[0]} x {size[1]}"
        raise Refused(f"its mask {path} has {shapes}")
    coloured, alpha = colours.split_alpha(image)
    grey = coloured if coloured.mode == "L" else coloured.convert("RGB").convert("L")
    if alpha is not None:
        grey = Image.composite(grey, Image.new("L", grey.size, 0), alpha)
    if own != size:
        grey = grey.resize(size, Image.Resampling.BOX)
    return grey.reduce(factor) if factor > 1 else grey


def _extent(size: Size, whole: Size) -> tuple[float, float]:
    """How far into its pixels a picture reaches that was decoded smaller: its last column may be filled up."""
    factor = max(1, round(whole[0] / size[0]))
    if size == (-(-whole[0] // factor), -(-whole[1] // factor)):
        return whole[0] / factor, whole[1] / factor
    return size
