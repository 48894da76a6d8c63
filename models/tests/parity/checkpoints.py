"""Tiny models of the classes that are served, each a function of what is to be different about its config."""

from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLFlux2,
    AutoencoderKLLTX2Video,
    AutoencoderKLLTXVideo,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLMochi,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    AutoencoderTiny,
)


def kl(**changes):
    n = len(changes.get("block_out_channels", (32, 64)))
    config = dict(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * n,
        up_block_types=("UpDecoderBlock2D",) * n,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
    )
    return AutoencoderKL(**{**config, **changes})


def tiny(**changes):
    config = dict(
        encoder_block_out_channels=(16, 16, 16),
        decoder_block_out_channels=(16, 16, 16),
        num_encoder_blocks=(1, 2, 1),
        num_decoder_blocks=(1, 1, 1),
    )
    return AutoencoderTiny(**{**config, **changes})


def flux2(**changes):
    n = len(changes.get("block_out_channels", (16, 32)))
    config = dict(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * n,
        up_block_types=("UpDecoderBlock2D",) * n,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
    )
    return AutoencoderKLFlux2(**{**config, **changes})


def wan(cls=AutoencoderKLWan, **changes):
    z = changes.get("z_dim", 4)
    config = dict(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1 * i - 0.2 for i in range(z)],
        latents_std=[0.5 + 0.3 * i for i in range(z)],
    )
    return cls(**{**config, **changes})


def wan22(**changes):
    config = dict(is_residual=True, patch_size=2, in_channels=12, out_channels=12)
    return wan(**{**config, **changes})


def ltx(**changes):
    n = len(changes.get("decoder_block_out_channels", (8, 16)))
    config = dict(
        latent_channels=8,
        block_out_channels=(8, 12, 12),
        down_block_types=("LTXVideoDownBlock3D",) * 3,
        layers_per_block=(1, 2, 1, 1),
        spatio_temporal_scaling=(True, True, False),
        downsample_type=("conv",) * 3,
        decoder_block_out_channels=(8, 16),
        decoder_layers_per_block=(1,) * (n + 1),
        decoder_spatio_temporal_scaling=(True,) * n,
        decoder_inject_noise=(False,) * (n + 1),
        upsample_residual=(False,) * n,
        upsample_factor=(1,) * n,
        patch_size=2,
        scaling_factor=0.8,
    )
    return AutoencoderKLLTXVideo(**{**config, **changes})


def ltx095(**changes):
    config = dict(
        block_out_channels=(8, 16, 16, 32),
        down_block_types=("LTXVideo095DownBlock3D",) * 3,
        layers_per_block=(1, 1, 2, 1),
        spatio_temporal_scaling=(True, True, True),
        downsample_type=("spatial", "temporal", "spatiotemporal"),
    )
    return ltx(**{**config, **changes})


def ltx2(**changes):
    config = dict(
        latent_channels=8,
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("LTX2VideoDownBlock3D",) * 4,
        layers_per_block=(1, 1, 2, 1, 1),
        spatio_temporal_scaling=(True, True, True, True),
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        decoder_block_out_channels=(8,),
        decoder_layers_per_block=(1, 1),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        upsample_type=("spatiotemporal",),
        upsample_residual=(True,),
        upsample_factor=(2,),
        patch_size=2,
        scaling_factor=1.3,
    )
    return AutoencoderKLLTX2Video(**{**config, **changes})


def svd(**changes):
    config = dict(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        layers_per_block=1,
    )
    return AutoencoderKLTemporalDecoder(**{**config, **changes})


def hunyuan(**changes):
    n = len(changes.get("block_out_channels", (8, 16, 16, 16)))
    config = dict(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("HunyuanVideoDownBlock3D",) * n,
        up_block_types=("HunyuanVideoUpBlock3D",) * n,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
    )
    return AutoencoderKLHunyuanVideo(**{**config, **changes})


def hunyuan15(**changes):
    config = dict(
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        spatial_compression_ratio=8,
    )
    return AutoencoderKLHunyuanVideo15(**{**config, **changes})


def cogvideox(**changes):
    n = len(changes.get("block_out_channels", (8, 16, 16, 16)))
    config = dict(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("CogVideoXDownBlock3D",) * n,
        up_block_types=("CogVideoXUpBlock3D",) * n,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
    )
    return AutoencoderKLCogVideoX(**{**config, **changes})


def mochi(**changes):
    z = changes.get("latent_channels", 4)
    config = dict(
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        layers_per_block=(1, 1, 1, 1),
        temporal_expansions=(2, 3),
        spatial_expansions=(2, 2),
        add_attention_block=(False, True, True, True),
        latent_channels=z,
        latents_mean=[0.1 * i - 0.2 for i in range(z)],
        latents_std=[0.5 + 0.3 * i for i in range(z)],
        scaling_factor=0.8,
    )
    return AutoencoderKLMochi(**{**config, **changes})


def dc(**changes):
    n = len(changes.get("encoder_block_out_channels", (8, 16)))
    config = dict(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 16),
        encoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_block_out_channels=(8,) * n,
        decoder_layers_per_block=(1,) * n,
        decoder_qkv_multiscales=((),) * n,
        scaling_factor=0.41407,
    )
    return AutoencoderDC(**{**config, **changes})
