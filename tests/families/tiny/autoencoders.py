"""Small autoencoders of the classes that the real models have."""

from typing import Any


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
