"""Names of an AutoencoderKL's tensors in the original layout of Stable Diffusion 1, 2 and XL.

Names as in CompVis' latent-diffusion (Rombach et al. 2022, arXiv:2112.10752): `model.Encoder` and `model.Decoder`. The
four matrices of each attention are 1x1 convolutions there.
"""

from collections.abc import Iterable

from .original import Place, no_place

PREFIX = "first_stage_model."

_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_CONVOLUTIONS = tuple(f".attn_1.{name}.weight" for name in ("q", "k", "v", "proj_out"))


def vae_places(names: Iterable[str]) -> dict[str, Place]:
    names = list(names)
    levels = 1 + max((int(name.split(".")[2]) for name in names if name.startswith("decoder.up_blocks.")), default=0)
    places = {name: PREFIX + _place(name, levels) for name in names}
    return {name: Place(name=place, convolution=place.endswith(_CONVOLUTIONS)) for name, place in places.items()}


def _place(name: str, levels: int) -> str:
    """The decoder's levels are numbered by resolution, so against the order in which they are run."""
    match name.split("."):
        case ["quant_conv" | "post_quant_conv", *_]:
            return name
        case ["encoder" | "decoder", "conv_in" | "conv_out", *_]:
            return name
        case ["encoder" | "decoder" as half, "conv_norm_out", *rest]:
            return _join(f"{half}.norm_out", rest)
        case ["encoder" | "decoder" as half, "mid_block", "resnets", layer, part, *rest]:
            return _join(f"{half}.mid.block_{int(layer) + 1}.{_part(part)}", rest)
        case ["encoder" | "decoder" as half, "mid_block", "attentions", "0", "to_out", "0", *rest]:
            return _join(f"{half}.mid.attn_1.{_ATTENTION['to_out.0']}", rest)
        case ["encoder" | "decoder" as half, "mid_block", "attentions", "0", part, *rest] if part in _ATTENTION:
            return _join(f"{half}.mid.attn_1.{_ATTENTION[part]}", rest)
        case ["encoder", "down_blocks", level, "resnets", layer, part, *rest]:
            return _join(f"encoder.down.{level}.block.{layer}.{_part(part)}", rest)
        case ["encoder", "down_blocks", level, "downsamplers", "0", "conv", *rest]:
            return _join(f"encoder.down.{level}.downsample.conv", rest)
        case ["decoder", "up_blocks", level, "resnets", layer, part, *rest]:
            return _join(f"decoder.up.{levels - 1 - int(level)}.block.{layer}.{_part(part)}", rest)
        case ["decoder", "up_blocks", level, "upsamplers", "0", "conv", *rest]:
            return _join(f"decoder.up.{levels - 1 - int(level)}.upsample.conv", rest)
    raise no_place(name, "Stable Diffusion's autoencoder")


def _part(part: str) -> str:
    return "nin_shortcut" if part == "conv_shortcut" else part


def _join(place: str, rest: list[str]) -> str:
    return ".".join([place, *rest])
