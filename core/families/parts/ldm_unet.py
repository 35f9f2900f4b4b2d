"""Names of a UNet2DConditionModel's tensors in the original layout of Stable Diffusion 1, 2 and XL.

Names as in CompVis' latent-diffusion (Rombach et al. 2022, arXiv:2112.10752): `openaimodel.UNetModel`. diffusers keeps
resnets, attentions and the resampling of a level in lists of their own; the original numbers blocks in the order in
which they are run.
"""

from collections.abc import Iterable

from .original import Place, no_place

PREFIX = "model.diffusion_model."

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_LINEARS = {"linear_1": "0", "linear_2": "2"}


def unet_places(names: Iterable[str]) -> dict[str, Place]:
    names = list(names)
    layers = 1 + max(
        (int(name.split(".")[3]) for name in names if name.startswith("down_blocks.0.resnets.")), default=0
    )
    attended = {name.split(".")[1] for name in names if name.startswith("up_blocks.") and ".attentions." in name}
    return {name: Place(name=PREFIX + _place(name, layers, attended)) for name in names}


def _place(name: str, layers: int, attended: set[str]) -> str:
    """A level is `layers` blocks and one that resamples going down; going up, `layers` + 1 of which the last resamples."""
    match name.split("."):
        case ["conv_in", *rest]:
            return _join("input_blocks.0.0", rest)
        case ["time_embedding", "linear_1" | "linear_2" as layer, *rest]:
            return _join(f"time_embed.{_LINEARS[layer]}", rest)
        case ["add_embedding", "linear_1" | "linear_2" as layer, *rest]:
            return _join(f"label_emb.0.{_LINEARS[layer]}", rest)
        case ["conv_norm_out", *rest]:
            return _join("out.0", rest)
        case ["conv_out", *rest]:
            return _join("out.2", rest)
        case ["down_blocks", level, "downsamplers", "0", "conv", *rest]:
            return _join(f"input_blocks.{(int(level) + 1) * (layers + 1)}.0.op", rest)
        case ["down_blocks", level, kind, layer, *rest]:
            return _block(f"input_blocks.{1 + int(level) * (layers + 1) + int(layer)}", kind, rest)
        case ["mid_block", "attentions", "0", *rest]:
            return _join("middle_block.1", rest)
        case ["mid_block", "resnets", "0" | "1" as layer, part, *rest] if part in _RESNET:
            return _join(f"middle_block.{2 * int(layer)}.{_RESNET[part]}", rest)
        case ["up_blocks", level, "upsamplers", "0", "conv", *rest]:
            block = int(level) * (layers + 1) + layers
            return _join(f"output_blocks.{block}.{2 if level in attended else 1}.conv", rest)
        case ["up_blocks", level, kind, layer, *rest]:
            return _block(f"output_blocks.{int(level) * (layers + 1) + int(layer)}", kind, rest)
    raise no_place(name, "Stable Diffusion's UNet")


def _block(place: str, kind: str, rest: list[str]) -> str:
    """Within a numbered block: first the resnet, then the attention, whose inner names are the same."""
    if kind == "attentions":
        return _join(f"{place}.1", rest)
    if kind == "resnets" and rest[0] in _RESNET:
        return _join(f"{place}.0.{_RESNET[rest[0]]}", rest[1:])
    raise no_place(_join(kind, rest), "Stable Diffusion's UNet")


def _join(place: str, rest: list[str]) -> str:
    return ".".join([place, *rest])
