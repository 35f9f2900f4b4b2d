"""The original single-file layouts hold a model whole, under the names and in the shapes that are known of the originals."""

from typing import Any

import pytest
import torch

from core.families.parts.ldm_clip import openai_places, openclip_places
from core.families.parts.ldm_unet import unet_places
from core.families.parts.ldm_vae import vae_places
from core.families.parts.original import Place, to_original
from core.families.parts.standard import STANDARD
from core.families.parts.weights import from_config, library_of, new_transformer


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("conv_in.weight", "input_blocks.0.0.weight"),
        ("time_embedding.linear_2.bias", "time_embed.2.bias"),
        ("down_blocks.0.downsamplers.0.conv.bias", "input_blocks.3.0.op.bias"),
        ("down_blocks.1.attentions.0.norm.weight", "input_blocks.4.1.norm.weight"),
        ("down_blocks.2.resnets.0.conv_shortcut.bias", "input_blocks.7.0.skip_connection.bias"),
        ("mid_block.resnets.1.time_emb_proj.weight", "middle_block.2.emb_layers.1.weight"),
        ("up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight"),
        ("up_blocks.1.upsamplers.0.conv.weight", "output_blocks.5.2.conv.weight"),
        ("up_blocks.3.attentions.2.proj_out.bias", "output_blocks.11.1.proj_out.bias"),
        ("conv_norm_out.weight", "out.0.weight"),
    ],
)
def test_the_unet_is_named_as_in_sd_1_5(stock: Any, name: str, original: str) -> None:
    """Origin: keys of v1-5-pruned-emaonly.safetensors."""
    assert unet_places(stock.unet.state_dict())[name].name == "model.diffusion_model." + original


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("add_embedding.linear_1.weight", "label_emb.0.0.weight"),
        ("add_embedding.linear_2.bias", "label_emb.0.2.bias"),
        ("down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k.weight",
         "input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight"),
        ("up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.2.conv.weight"),
        ("up_blocks.2.resnets.2.conv_shortcut.weight", "output_blocks.8.0.skip_connection.weight"),
    ],
)  # fmt: skip
def test_the_unet_is_named_as_in_sdxl(name: str, original: str) -> None:
    """Origin: keys of sd_xl_base_1.0.safetensors."""
    with torch.device("meta"):
        unet = from_config(library_of("UNet2DConditionModel"), STANDARD / "sdxl/unet")
    assert unet_places(unet.state_dict())[name].name == "model.diffusion_model." + original


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("encoder.down_blocks.2.resnets.0.conv_shortcut.weight", "encoder.down.2.block.0.nin_shortcut.weight"),
        ("encoder.mid_block.resnets.0.norm1.weight", "encoder.mid.block_1.norm1.weight"),
        ("encoder.mid_block.attentions.0.to_out.0.bias", "encoder.mid.attn_1.proj_out.bias"),
        ("decoder.up_blocks.0.upsamplers.0.conv.weight", "decoder.up.3.upsample.conv.weight"),
        ("decoder.up_blocks.3.resnets.2.conv2.bias", "decoder.up.0.block.2.conv2.bias"),
        ("decoder.conv_norm_out.bias", "decoder.norm_out.bias"),
        ("post_quant_conv.weight", "post_quant_conv.weight"),
    ],
)
def test_the_vae_is_named_as_in_sd_1_5(stock: Any, name: str, original: str) -> None:
    """Origin: keys of v1-5-pruned-emaonly.safetensors."""
    assert vae_places(stock.vae.state_dict())[name].name == "first_stage_model." + original


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_openais_text_encoder_is_named_alike_with_and_without_its_prefix(prefix: str) -> None:
    name = prefix + "final_layer_norm.bias"
    place = openai_places("cond_stage_model.transformer.")([name])[name]
    assert place.name == "cond_stage_model.transformer.text_model.final_layer_norm.bias"
    assert place.also == "cond_stage_model.transformer.final_layer_norm.bias"


@pytest.mark.parametrize("prefix", ["", "text_model."])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("embeddings.position_embedding.weight", Place(name="positional_embedding")),
        ("embeddings.token_embedding.weight", Place(name="token_embedding.weight")),
        ("final_layer_norm.bias", Place(name="ln_final.bias")),
        ("encoder.layers.30.layer_norm2.weight", Place(name="transformer.resblocks.30.ln_2.weight")),
        ("encoder.layers.3.mlp.fc1.bias", Place(name="transformer.resblocks.3.mlp.c_fc.bias")),
        ("encoder.layers.3.mlp.fc2.weight", Place(name="transformer.resblocks.3.mlp.c_proj.weight")),
        ("encoder.layers.3.self_attn.k_proj.weight", Place(name="transformer.resblocks.3.attn.in_proj_weight", part=1)),
        ("encoder.layers.3.self_attn.v_proj.bias", Place(name="transformer.resblocks.3.attn.in_proj_bias", part=2)),
        ("encoder.layers.3.self_attn.out_proj.weight", Place(name="transformer.resblocks.3.attn.out_proj.weight")),
    ],
)
def test_openclips_text_encoder_is_named_as_in_sd_2_1(prefix: str, name: str, place: Place) -> None:
    """Origin: keys of v2-1_768-ema-pruned.safetensors."""
    assert openclip_places("")([prefix + name]) == {prefix + name: place}


def test_the_projection_of_openclip_is_the_other_way_around() -> None:
    name, weight = "text_projection.weight", torch.arange(6.0).reshape(2, 3)
    written = to_original({"text": {name: weight}}, {"text": openclip_places("model.")})
    assert torch.equal(written["model.text_projection"], weight.T)


def test_queries_keys_and_values_are_joined_in_that_order() -> None:
    start = "encoder.layers.0.self_attn"
    state = {f"{start}.{matrix}.bias": torch.full((2,), number) for number, matrix in
             ((2, "v_proj"), (0, "q_proj"), (1, "k_proj"))}  # fmt: skip
    written = to_original({"text": state}, {"text": openclip_places("")})
    assert written["transformer.resblocks.0.attn.in_proj_bias"].tolist() == [0, 0, 1, 1, 2, 2]


def test_attention_matrices_of_the_vae_are_convolutions_there(stock: Any) -> None:
    written = to_original({"vae": stock.vae.state_dict()}, {"vae": vae_places})
    assert written["first_stage_model.encoder.mid.attn_1.proj_out.weight"].shape == (16, 16, 1, 1)


@pytest.mark.parametrize(
    ("places_of", "name"),
    [
        (unet_places, "encoder_hid_proj.weight"),
        (unet_places, "down_blocks.0.motion_modules.0.norm.weight"),
        (vae_places, "decoder.time_conv_out.weight"),
        (openclip_places(""), "visual.conv1.weight"),
    ],
)
def test_a_tensor_of_another_kind_of_model_is_refused(places_of: Any, name: str) -> None:
    with pytest.raises(ValueError, match="has no place in the original layout"):
        to_original({"part": {name: torch.zeros(1)}}, {"part": places_of})


def test_a_whole_sdxl_file_has_as_many_tensors_as_the_original() -> None:
    """Origin: sd_xl_base_1.0.safetensors has 2515, with `position_ids` and `logit_scale`, which no module has."""
    places: set[str] = set()
    for part, kind, places_of in (
        ("unet", "UNet2DConditionModel", unet_places),
        ("vae", "AutoencoderKL", vae_places),
        ("text_encoder", "CLIPTextModel", openai_places("conditioner.embedders.0.transformer.")),
        ("text_encoder_2", "CLIPTextModelWithProjection", openclip_places("conditioner.embedders.1.model.")),
    ):
        made = from_config if part in ("unet", "vae") else new_transformer
        with torch.device("meta"):
            module = made(library_of(kind), STANDARD / "sdxl" / part)
        places |= {place.name for place in places_of(module.state_dict()).values()}
    assert len(places) == 2515 - 2
