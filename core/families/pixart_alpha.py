"""PixArt-alpha: as its successor Sigma, with shorter captions (Chen et al. 2023, 2310.00426).

Its larger models are told the sizes of pictures.
"""

from .pixart import PixArtSigma


class PixArtAlpha(PixArtSigma):
    """The same modules under another pipeline."""

    pipelines = ("PixArtAlphaPipeline",)
    usual_tokens = 120


FAMILY = PixArtAlpha
