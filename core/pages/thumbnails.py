"""Small pictures as data URIs, so that a page is one file."""

from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from .document import Thumbnail

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 160
"""In pixels, of the longer side at most."""
LOSSLESS = 128
"""Up to this side a picture is kept as it is; larger ones become JPEG."""


def thumbnail(image: Image.Image, title: str, side: int = SIDE) -> Thumbnail:
    """A picture, made smaller where it is larger than `side`, never larger."""
    small = image
    if max(image.size) > side:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
    kind = "PNG" if max(small.size) <= LOSSLESS else "JPEG"
    file = BytesIO()
    small.convert("RGB").save(file, kind, **({"quality": 88} if kind == "JPEG" else {"optimize": True}))
    source = f"data:image/{kind.lower()};base64,{b64encode(file.getvalue()).decode()}"
    return Thumbnail(source=source, width=small.width, height=small.height, title=title)


def picture_of(pixels: "Tensor") -> Image.Image:
    """(3, H, W) in [-1, 1] -> the picture; values beyond are clipped."""
    import numpy

    values = ((pixels.detach().float() + 1) * 127.5).round().clamp(0, 255).byte()
    return Image.fromarray(numpy.ascontiguousarray(values.permute(1, 2, 0).numpy()))
