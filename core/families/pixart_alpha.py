"""PixArt-alpha: as its successor Sigma, with shorter captions, and told sizes in its larger models (Chen et al. 2023, 2310.00426)."""

from .pixart import PixArtSigma


class PixArtAlpha(PixArtSigma):
    """The same modules under another pipeline."""

    pipelines = ("PixArtAlphaPipeline",)
    usual_tokens = 120


FAMILY = PixArtAlpha
