"""The original single-file layout holds a model whole, under the names that the stock loader looks for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.families.parts.ldm_layout import text_names, to_single_file, unet_names, vae_names
from tests.families.comparing import MODULES, assert_same_weights


def test_the_stock_loader_gives_equal_weights_back(stock: Any, folder: Path, single_file: Path) -> None:
    from diffusers import StableDiffusionPipeline

    again = StableDiffusionPipeline.from_single_file(str(single_file), config=str(folder), local_files_only=True)
    for name in MODULES:
        assert_same_weights(getattr(again, name), getattr(stock, name))


def test_every_tensor_has_a_place_of_its_own(stock: Any, single_file: Path) -> None:
    count = sum(len(getattr(stock, name).state_dict()) for name in MODULES)
    assert len(load_file(single_file)) == count


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
    assert unet_names(stock.unet.state_dict())[name] == "model.diffusion_model." + original


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
    assert vae_names(stock.vae.state_dict())[name] == "first_stage_model." + original


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_the_text_encoder_is_named_alike_with_and_without_its_prefix(prefix: str) -> None:
    name = prefix + "final_layer_norm.bias"
    assert text_names([name]) == {name: "cond_stage_model.transformer.text_model.final_layer_norm.bias"}


def test_attention_matrices_of_the_vae_are_convolutions_there(stock: Any, single_file: Path) -> None:
    assert load_file(single_file)["first_stage_model.encoder.mid.attn_1.proj_out.weight"].shape == (16, 16, 1, 1)


def test_a_tensor_of_another_kind_of_model_is_refused() -> None:
    modules: dict[str, dict[str, torch.Tensor]] = {"unet": {"add_embedding.linear_1.weight": torch.zeros(1)}}
    with pytest.raises(ValueError, match=r"add_embedding\.linear_1\.weight has no place"):
        to_single_file({"vae": {}, "text_encoder": {}} | modules)
