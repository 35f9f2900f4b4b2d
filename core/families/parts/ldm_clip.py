"""Names of a CLIP text encoder's tensors in the original layouts: as OpenAI's, which transformers keeps, and as OpenCLIP's.

OpenCLIP (Cherti et al. 2022, arXiv:2212.07143) keeps the three matrices of an attention's queries, keys and values as
one, and its projection the other way around.
"""

from collections.abc import Callable, Iterable
from functools import partial

from .original import Place, Places, no_place

PREFIX = "text_model."
_SINGLE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_LAYER = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
_JOINED = ("q_proj", "k_proj", "v_proj")


def openai_places(within: str) -> Places:
    """For a text encoder under `within`; some tools left `text_model.` out there, and both are read."""

    def place(name: str) -> Place:
        inner = name.removeprefix(PREFIX)
        return Place(name=f"{within}{PREFIX}{inner}", also=f"{within}{inner}")

    return partial(_each, place)


def openclip_places(within: str) -> Places:
    """For a text encoder under `within`, whose last layers and projection the file may hold beside what is read."""
    return partial(_each, partial(_openclip_place, within))


def _each(place: Callable[[str], Place], names: Iterable[str]) -> dict[str, Place]:
    return {name: place(name) for name in names}


def _openclip_place(within: str, name: str) -> Place:
    inner = name.removeprefix(PREFIX)
    if inner in _SINGLE:
        return Place(name=within + _SINGLE[inner])
    match inner.split("."):
        case ["text_projection", "weight"]:
            return Place(name=within + "text_projection", transposed=True)
        case ["encoder", "layers", layer, "self_attn", matrix, kind] if matrix in _JOINED:
            return Place(name=f"{within}transformer.resblocks.{layer}.attn.in_proj_{kind}", part=_JOINED.index(matrix))
        case ["encoder", "layers", layer, *rest, kind] if ".".join(rest) in _LAYER:
            return Place(name=f"{within}transformer.resblocks.{layer}.{_LAYER['.'.join(rest)]}.{kind}")
    raise no_place(name, "OpenCLIP")
