"""The caption of a picture: the text file beside it, else its file name."""

from pathlib import Path
from typing import Literal

CaptionSource = Literal["sidecar", "filename"]


def caption_of(picture: Path, source: CaptionSource) -> str:
    """The first line of `name.txt`, or the file's stem up to the first underscore.

    Raises ValueError naming the text file when it is not UTF-8 (a byte order mark is tolerated).
    """
    sidecar = picture.with_suffix(".txt")
    if source == "sidecar" and sidecar.is_file():
        try:
            text = sidecar.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{sidecar}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
            ) from None
        lines = text.strip().splitlines()
        return lines[0].strip() if lines else ""
    return picture.stem.partition("_")[0].strip()
