"""Small autoencoders of the classes that the real models have."""

from typing import Any

import torch


def kl_autoencoder(**settings: Any) -> Any:
    """Eight pixels a latent."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4, sample_size=64, latent_channels=4, **settings,
    )  # fmt: skip


def without_quantization() -> Any:
    """As newer models have it: latents are shifted too, and nothing stands between them and the encoder."""
    return kl_autoencoder(scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False)


def deep_compression_autoencoder() -> Any:
    """Eight pixels a latent, where the real one has 32; it gives no posterior."""
    from diffusers import AutoencoderDC

    return AutoencoderDC(
        latent_channels=4, attention_head_dim=4,
        encoder_block_types=("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 16, 16), decoder_block_out_channels=(8, 8, 16, 16),
        encoder_layers_per_block=(1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), (5,)), decoder_qkv_multiscales=((), (), (), (5,)),
        scaling_factor=0.41407,
    )  # fmt: skip


def normalising_autoencoder() -> Any:
    """That of Flux.2, with statistics that move and stretch each channel."""
    from diffusers import AutoencoderKLFlux2

    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, sample_size=64, latent_channels=4
    )
    vae.bn.running_mean.copy_(torch.randn(16))
    vae.bn.running_var.copy_(torch.rand(16) + 0.5)
    return vae


def film_autoencoder() -> Any:
    """That of Qwen-Image."""
    from diffusers import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, -0.4], latents_std=[1.5, 0.5, 1.2, 0.8],
    )  # fmt: skip
