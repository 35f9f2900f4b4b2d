"""The original layout of Stable Diffusion 1.x, one file for all modules: its names beside those of diffusers.

Names as in CompVis' latent-diffusion (Rombach et al. 2022, arXiv:2112.10752): `openaimodel.UNetModel`,
`model.Encoder` and `model.Decoder`, and CLIP as transformers names it. Only names differ, and the shape of the four
matrices of each attention in the VAE, which are 1x1 convolutions there. diffusers keeps resnets, attentions and the
resampling of a level in lists of their own; the original numbers blocks in the order they are run.
"""

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT = "cond_stage_model.transformer.text_model."
BARE_TEXT = "cond_stage_model.transformer."
"""Some tools left `text_model.` out; consumers read both, and so do we."""

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_VAE_CONVOLUTIONS = tuple(f".attn_1.{name}.weight" for name in ("q", "k", "v", "proj_out"))


def to_single_file(modules: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of `unet`, `vae` and `text_encoder`, in diffusers' names, as the original file has them.

    Raises ValueError for a tensor that the original layout has no place for.
    """
    return {
        place: in_original_shape(place, modules[module][name])
        for module, names_of in NAMES.items()
        for name, place in names_of(modules[module]).items()
    }


def in_original_shape(place: str, tensor: Tensor) -> Tensor:
    """(C, C) of an attention in the VAE as (C, C, 1, 1); any other tensor as it is."""
    is_convolution = place.startswith(VAE) and place.endswith(_VAE_CONVOLUTIONS)
    return tensor[:, :, None, None] if is_convolution and tensor.ndim == 2 else tensor


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """Original names of a UNet2DConditionModel's tensors, by their own."""
    names = list(names)
    layers = 1 + max(
        (int(name.split(".")[3]) for name in names if name.startswith("down_blocks.0.resnets.")), default=0
    )
    attended = {name.split(".")[1] for name in names if name.startswith("up_blocks.") and ".attentions." in name}
    return {name: UNET + _unet_place(name, layers, attended) for name in names}


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """Original names of an AutoencoderKL's tensors, by their own."""
    names = list(names)
    levels = 1 + max((int(name.split(".")[2]) for name in names if name.startswith("decoder.up_blocks.")), default=0)
    return {name: VAE + _vae_place(name, levels) for name in names}


def text_names(names: Iterable[str]) -> dict[str, str]:
    """Original names of a CLIPTextModel's tensors, by their own, which may begin with `text_model.`"""
    return {name: TEXT + name.removeprefix("text_model.") for name in names}


def _unet_place(name: str, layers: int, attended: set[str]) -> str:
    """A level is `layers` blocks and one that resamples going down; going up, `layers` + 1 of which the last resamples."""
    match name.split("."):
        case ["conv_in", *rest]:
            return _join("input_blocks.0.0", rest)
        case ["time_embedding", "linear_1" | "linear_2" as layer, *rest]:
            return _join("time_embed.0" if layer == "linear_1" else "time_embed.2", rest)
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
    raise _no_place(name)


def _block(place: str, kind: str, rest: list[str]) -> str:
    """Within a numbered block: first the resnet, then the attention, whose inner names are the same."""
    if kind == "attentions":
        return _join(f"{place}.1", rest)
    if kind == "resnets" and rest[0] in _RESNET:
        return _join(f"{place}.0.{_RESNET[rest[0]]}", rest[1:])
    raise _no_place(_join(kind, rest))


def _vae_place(name: str, levels: int) -> str:
    """The decoder's levels are numbered by resolution, so against the order in which they are run."""
    match name.split("."):
        case ["quant_conv" | "post_quant_conv", *_]:
            return name
        case ["encoder" | "decoder", "conv_in" | "conv_out", *_]:
            return name
        case ["encoder" | "decoder" as half, "conv_norm_out", *rest]:
            return _join(f"{half}.norm_out", rest)
        case ["encoder" | "decoder" as half, "mid_block", "resnets", layer, part, *rest]:
            return _join(f"{half}.mid.block_{int(layer) + 1}.{_vae_part(part)}", rest)
        case ["encoder" | "decoder" as half, "mid_block", "attentions", "0", "to_out", "0", *rest]:
            return _join(f"{half}.mid.attn_1.{_VAE_ATTENTION['to_out.0']}", rest)
        case ["encoder" | "decoder" as half, "mid_block", "attentions", "0", part, *rest] if part in _VAE_ATTENTION:
            return _join(f"{half}.mid.attn_1.{_VAE_ATTENTION[part]}", rest)
        case ["encoder", "down_blocks", level, "resnets", layer, part, *rest]:
            return _join(f"encoder.down.{level}.block.{layer}.{_vae_part(part)}", rest)
        case ["encoder", "down_blocks", level, "downsamplers", "0", "conv", *rest]:
            return _join(f"encoder.down.{level}.downsample.conv", rest)
        case ["decoder", "up_blocks", level, "resnets", layer, part, *rest]:
            return _join(f"decoder.up.{levels - 1 - int(level)}.block.{layer}.{_vae_part(part)}", rest)
        case ["decoder", "up_blocks", level, "upsamplers", "0", "conv", *rest]:
            return _join(f"decoder.up.{levels - 1 - int(level)}.upsample.conv", rest)
    raise _no_place(name)


def _vae_part(part: str) -> str:
    return "nin_shortcut" if part == "conv_shortcut" else part


def _join(place: str, rest: list[str]) -> str:
    return ".".join([place, *rest])


def _no_place(name: str) -> ValueError:
    return ValueError(f"{name} has no place in the original layout of Stable Diffusion 1.x")


NAMES: dict[str, Callable[[Iterable[str]], dict[str, str]]] = {
    "unet": unet_names,
    "vae": vae_names,
    "text_encoder": text_names,
}
