"""Which way up a picture is: read from its header alone, so that scan and decoder always agree."""

from typing import IO

from PIL import ExifTags, Image, ImageFile

ORIENTATION = ExifTags.Base.Orientation
SIDEWAYS = frozenset({5, 6, 7, 8})
"""Orientations that exchange width and height."""
EXIF_BYTES = 1 << 20
"""Read of an eXIf chunk at most; the orientation stands near its beginning."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1 to 8, of an opened picture whose pixels have not been read; 1 where it is not sensible.

    Pillow decodes a whole PNG to see whether its EXIF follows the pixels; here the chunks are only skipped over.
    """
    try:
        if image.format == "PNG" and "exif" not in image.info and image.fp is not None:
            late = _exif_chunk(image.fp)
            if late:
                image.info["exif"] = b"Exif\0\0" + late
        value = Image.Image.getexif(image).get(ORIENTATION)  # the plain one: PNG's own decodes the picture
    except Exception:  # damaged metadata is no reason to lose a picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """(width, height) once upright, of an opened picture whose pixels have not been read."""
    width, height = image.size
    sideways = orientation(image) in SIDEWAYS
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(ORIENTATION) in SIDEWAYS:
        sideways = False  # Pillow has exchanged them
    return (height, width) if sideways else (width, height)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The decoded picture, turned and mirrored as its orientation asks. Pillow turns TIFF pictures while it decodes."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _exif_chunk(file: IO[bytes]) -> bytes:
    """The content of a PNG's eXIf chunk wherever it stands, or nothing; the file is left where it was."""
    before = file.tell()
    at = 8  # after the signature
    try:
        while True:
            file.seek(at)
            head = file.read(8)
            length, name = int.from_bytes(head[:4]), head[4:]
            if name == b"eXIf":
                return file.read(min(length, EXIF_BYTES))
            if len(head) < 8 or name == b"IEND":
                return b""
            at += length + 12  # length, name and checksum
    finally:
        file.seek(before)
