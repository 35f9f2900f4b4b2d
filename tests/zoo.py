"""Files as they turn up among real ones: pictures and captions that cannot be used, odd ones that can, and odd names."""

import io
import os
import struct
import zlib
from collections.abc import Callable

import numpy
from PIL import Image


def grainy(mode: str = "RGB", size: tuple[int, int] = (96, 64), seed: int = 0) -> Image.Image:
    values = numpy.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8)
    return Image.fromarray(values).convert(mode)


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (image or grainy()).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)


def png(*chunks: bytes, size: tuple[int, int] = (8, 8)) -> bytes:
    """A grey PNG with further chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 9 * 8))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def with_corrupt_pixels(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 4
    return data[:at] + b"\xff" * 40 + data[at + 40 :]


def text_bomb(count: int, megabytes: int) -> bytes:
    packed = zlib.compress(b"a" * (megabytes << 20), 9)
    return png(*(chunk(b"zTXt", b"k%d\0\0" % number + packed) for number in range(count)))


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def animated(kind: str) -> bytes:
    return encoded(kind, save_all=True, append_images=[grainy(seed=1), grainy(seed=2)])


def with_a_flipped_bit(data: bytes, at: int | None = None) -> bytes:
    """In the middle, where nothing else is asked for."""
    changed = bytearray(data)
    changed[len(data) // 2 if at is None else at] ^= 4
    return bytes(changed)


UNUSABLE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zero bytes": ("a.png", lambda: b"", "is empty"),
    "text": ("a.png", lambda: b"not a picture", "no picture of a format that is read"),
    "half a JPEG": ("a.jpg", lambda: half(encoded("JPEG")), "truncated"),
    "half a progressive JPEG": ("a.jpg", lambda: half(encoded("JPEG", progressive=True)), "truncated"),
    "a JPEG without its last bytes": ("a.jpg", lambda: encoded("JPEG")[:-40], "truncated"),
    "half a PNG": ("a.png", lambda: half(encoded("PNG")), "truncated"),
    "half a WebP": ("a.webp", lambda: half(encoded("WEBP")), "cannot be decoded"),
    "half a TIFF": ("a.tif", lambda: half(encoded("TIFF")), "cannot be decoded"),
    "half a BMP": ("a.bmp", lambda: half(encoded("BMP")), "truncated"),
    "half a GIF": ("a.gif", lambda: half(encoded("GIF")), "truncated"),
    "half an AVIF": ("a.avif", lambda: half(encoded("AVIF")), "is damaged"),
    "corrupt IDAT": ("a.png", lambda: with_corrupt_pixels(encoded("PNG")), "broken data stream"),
    "100 million pixels": ("a.png", lambda: encoded("PNG", Image.new("1", (10_000, 10_000))), "64,000,000 pixels"),
    "81 million pixels": ("a.png", lambda: encoded("PNG", Image.new("1", (9_000, 9_000))), "more than the 64,000,000"),
    "a header of 20000 x 20000": ("a.png", lambda: png(size=(20_000, 20_000)), "64,000,000 pixels"),
    "a header of 65535 x 65535": ("a.png", lambda: png(size=(65_535, 65_535)), "64,000,000 pixels"),
    "50 MB of zTXt": ("a.png", lambda: text_bomb(1, 50), "too large"),
    "80 times 1 MB of zTXt": ("a.png", lambda: text_bomb(80, 1), "Too much memory"),
    "EPS": ("a.png", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of a format"),
    "Lab colours": ("a.tif", lambda: encoded("TIFF", Image.new("LAB", (8, 8))), "has LAB colours"),
}
"""By kind: a name for the file, what makes its bytes, and words of the reason why it cannot be used."""

ODD: dict[str, tuple[str, Callable[[], bytes], tuple[int, int], float | None]] = {
    "one flipped bit in a JPEG": ("a.jpg", lambda: with_a_flipped_bit(encoded("JPEG")), (96, 64), None),
    "CMYK": ("a.jpg", lambda: encoded("JPEG", Image.new("CMYK", (96, 64), (0, 0, 0, 0))), (96, 64), 255.0),
    "grey with alpha": ("a.png", lambda: encoded("PNG", Image.new("LA", (96, 64), (0, 0))), (96, 64), 255.0),
    "a palette with a transparent colour": (
        "a.png", lambda: encoded("PNG", Image.new("P", (96, 64)), transparency=0), (96, 64), 255.0,
    ),
    "a transparent red": ("a.png", lambda: encoded("PNG", Image.new("RGBA", (96, 64), (255, 0, 0, 0))), (96, 64), 255.0),
    "an animated GIF": ("a.gif", lambda: animated("GIF"), (96, 64), None),
    "an animated WebP": ("a.webp", lambda: animated("WEBP"), (96, 64), None),
    "an animated PNG": ("a.png", lambda: animated("PNG"), (96, 64), None),
    "16 bits of grey": (
        "a.png", lambda: encoded("PNG", Image.fromarray(numpy.full((64, 96), 0x8000, dtype=numpy.uint16))), (96, 64), 128.0,
    ),
    "one that lies on its side": ("a.jpg", lambda: encoded("JPEG", exif=with_orientation(6)), (64, 96), None),
}  # fmt: skip
"""By kind: likewise, the size that it has when it is read, and the mean of its values where that tells."""

REFUSED_CAPTIONS: dict[str, tuple[bytes, str]] = {
    "Latin-1": ("größe".encode("latin-1"), "is not UTF-8 (invalid start byte at byte 2); save it as UTF-8"),
    "Latin-1 after a mark": (b"\xef\xbb\xbfab\xff", "is not UTF-8 (invalid start byte at byte 5)"),
    "UTF-16": ("cat".encode("utf-16"), "is not UTF-8 (invalid start byte at byte 0)"),
    "NUL": ("cat".encode("utf-16-le"), "it has a NUL character at character 1"),
    "half of a surrogate pair": (b"a\xed\xa0\xbd", "is not UTF-8 (invalid continuation byte at byte 1)"),
    "10 MB": (b"x" * 10_000_000, "has more than 4,000,000 bytes, which is no caption"),
    "a million characters and one": (b"x" * 1_000_001, "it has 1,000,001 characters; at most 1,000,000 are read"),
}
"""By kind: the bytes of a .txt, and how the reason begins why it cannot be used."""

KEPT_CAPTIONS: dict[str, tuple[bytes, str]] = {
    "none at all": (b"", ""),
    "a byte order mark": ("\ufeffred heart".encode(), "red heart"),
    "a hundred thousand tags": (", ".join(map(str, range(100_000))).encode(), ", ".join(map(str, range(100_000)))),
    "line ends of Windows": (b"one\r\ntwo", "one"),
    "commas alone": (b", ,, ,", ", ,, ,"),
    "right to left": ("שלום, עולם".encode(), "שלום, עולם"),
    "joined emoji": ("👩\u200d🚀".encode(), "👩\u200d🚀"),
    "two ways to write one letter": ("e\u0301 and é".encode(), "e\u0301 and é"),
    "a line separator": ("a\u2028b".encode(), "a"),
}
"""By kind: the bytes of a .txt, and the caption that they are."""

NAMES = (
    "x.jpg", "x.png", "X.png", "e\u0301.png", "\u00e9.png", "👩‍🚀.png", "a\nb.png", "n" * 251 + ".png", " .png",
    os.fsdecode(b"gr\xfc\xdf_1.png"), "'\".png", "%s{0}.png",
)  # fmt: skip
"""Of pictures: twins in case and in spelling, 255 bytes, bytes that are not UTF-8."""
