"""Colours of any kind as 8-bit sRGB: palettes, grey, 16 bits, CMYK, transparency and colour profiles."""

from functools import lru_cache
from io import BytesIO

import numpy
from PIL import Image, ImageCms

PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
PROFILES_KEPT = 32


def eight_bits(image: Image.Image) -> Image.Image:
    """The same in mode L, RGB or CMYK, or LA or RGBA where it can be transparent; mode 1 and palettes are resolved."""
    if image.mode.startswith("I") or image.mode == "F":
        return _grey(image)
    if image.mode in PREMULTIPLIED:
        return image.convert(PREMULTIPLIED[image.mode])
    if image.mode == "PA" or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK") else image.convert("RGB")


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours of an 8-bit picture, and its alpha, or None when every pixel is opaque."""
    if image.mode not in ("LA", "RGBA"):
        return image, None
    alpha = image.getchannel("A")
    return image.convert(image.mode[:-1]), None if alpha.getextrema() == (255, 255) else alpha


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB of an L, RGB or CMYK picture by its colour profile; without one, or with a broken one, as the numbers stand."""
    transform = _transform(profile, image.mode) if profile else None
    if transform is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:  # pragma: no cover - only in place
        raise AssertionError("a transform not in place gives a picture")
    return converted


def over(image: Image.Image, alpha: Image.Image, colour: str) -> Image.Image:
    """An RGB picture laid over a page of one colour. Raises ValueError for a colour that Pillow does not know."""
    return Image.composite(image, Image.new("RGB", image.size, colour), alpha)


def _grey(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, 32 bits or floats as 8 bits.

    16 bits are scaled by 1/257. The range of the others is told by no header: floats up to 1 are taken for [0, 1], other
    values up to 255 for 8 bits and larger ones for 16 bits. A value declared transparent gives an alpha channel.
    """
    values = numpy.nan_to_num(numpy.asarray(image).astype(numpy.float64), posinf=65535.0, neginf=0.0)
    largest = float(values.max())
    if image.mode == "F" and largest <= 1:
        scaled = values * 255
    elif not image.mode.startswith("I;16") and largest <= 255:
        scaled = values
    else:
        scaled = values / 257  # 65535 / 255
    grey = Image.fromarray(scaled.round().clip(0, 255).astype(numpy.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(numpy.where(values == transparent, 0, 255).astype(numpy.uint8)))
    return grey


@lru_cache(maxsize=PROFILES_KEPT)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB, or None where there is nothing to do: it is broken, or as good as sRGB itself."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform
    except Exception:  # littlecms and Pillow raise several kinds for bad bytes
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether no colour of a fine grid moves by more than one of 255 steps, as with the many copies of sRGB."""
    if mode == "L":
        grid = Image.fromarray(numpy.arange(256, dtype=numpy.uint8)[None])
    else:
        steps = numpy.linspace(0, 255, 18).round().astype(numpy.uint8)
        grid = Image.fromarray(numpy.stack(numpy.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3))
    before = numpy.asarray(grid.convert("RGB"), dtype=numpy.int16)
    after = numpy.asarray(ImageCms.applyTransform(grid, transform), dtype=numpy.int16)
    return bool(numpy.abs(after - before).max() <= 1)
