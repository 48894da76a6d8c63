"""Makes the configs, lists of tensors and the golden beside this file.

    python make.py [NAME...]

Made with diffusers 0.40.0, torch 2.15.0 (CPU) and safetensors 0.8.0. The tests need none of them.

Each folder has the `config.json` of a published model and `tensors.txt`: what diffusers' class of
that config has for the encoder, one tensor a line, `name dtype shape`. `sd` also has a golden: its
encoder at full size, with weights by the recipe below instead of a file of 137 MB.
"""

import json
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
ENCODER = ("encoder.", "quant_conv.", "bn.")
DTYPES = {torch.float32: "F32", torch.int64: "I64"}

KL = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
WAN = {
    "_class_name": "AutoencoderKLWan",
    "attn_scales": [],
    "base_dim": 96,
    "dim_mult": [1, 2, 4, 4],
    "dropout": 0.0,
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
    "z_dim": 16,
}
DC_BLOCKS = ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3
DC_SCALES = [[], [], [], [5], [5], [5]]
DC_CHANNELS = [128, 256, 512, 512, 1024, 1024]

# As published: files leave out what their version of diffusers did not know yet.
CONFIGS = {
    "sd": KL,
    "flux-1": KL
    | {
        "force_upcast": True,
        "latent_channels": 16,
        "latents_mean": None,
        "latents_std": None,
        "mid_block_add_attention": True,
        "sample_size": 1024,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_post_quant_conv": False,
        "use_quant_conv": False,
    },
    "flux-2": KL
    | {
        "_class_name": "AutoencoderKLFlux2",
        "batch_norm_eps": 0.0001,
        "force_upcast": True,
        "latent_channels": 32,
        "mid_block_add_attention": True,
        "patch_size": [2, 2],
        "sample_size": 1024,
        "use_post_quant_conv": True,
        "use_quant_conv": True,
    },
    "qwen-image": WAN | {"_class_name": "AutoencoderKLQwenImage"},
    "wan-2.1": WAN,
    "wan-2.2": WAN
    | {
        "base_dim": 160,
        "clip_output": False,
        "decoder_base_dim": 256,
        "in_channels": 12,
        "is_residual": True,
        # The published constants do not bear on the tensors.
        "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
        "scale_factor_temporal": 4,
        "z_dim": 48,
    },
    "hunyuan-video": {
        "_class_name": "AutoencoderKLHunyuanVideo",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["HunyuanVideoDownBlock3D"] * 4,
        "in_channels": 3,
        "latent_channels": 16,
        "layers_per_block": 2,
        "mid_block_add_attention": True,
        "norm_num_groups": 32,
        "out_channels": 3,
        "scaling_factor": 0.476986,
        "spatial_compression_ratio": 8,
        "temporal_compression_ratio": 4,
        "up_block_types": ["HunyuanVideoUpBlock3D"] * 4,
    },
    "hunyuan-video-1.5": {
        "_class_name": "AutoencoderKLHunyuanVideo15",
        "block_out_channels": [128, 256, 512, 1024, 1024],
        "downsample_match_channel": True,
        "in_channels": 3,
        "latent_channels": 32,
        "layers_per_block": 2,
        "out_channels": 3,
        "scaling_factor": 1.03682,
        "spatial_compression_ratio": 16,
        "temporal_compression_ratio": 4,
        "upsample_match_channel": True,
    },
    "cogvideox": {
        "_class_name": "AutoencoderKLCogVideoX",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 256, 512],
        "down_block_types": ["CogVideoXDownBlock3D"] * 4,
        "force_upcast": True,
        "in_channels": 3,
        "latent_channels": 16,
        "latents_mean": None,
        "latents_std": None,
        "layers_per_block": 3,
        "norm_eps": 1e-06,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_height": 480,
        "sample_width": 720,
        "scaling_factor": 0.7,
        "shift_factor": None,
        "temporal_compression_ratio": 4,
        "up_block_types": ["CogVideoXUpBlock3D"] * 4,
        "use_post_quant_conv": False,
        "use_quant_conv": False,
    },
    "mochi": {
        "_class_name": "AutoencoderKLMochi",
        "act_fn": "silu",
        "add_attention_block": [False, True, True, True, True],
        "decoder_block_out_channels": [128, 256, 512, 768],
        "encoder_block_out_channels": [64, 128, 256, 384],
        "in_channels": 15,
        "latent_channels": 12,
        "layers_per_block": [3, 3, 4, 6, 3],
        "out_channels": 3,
        "scaling_factor": 1.0,
        "spatial_expansions": [2, 2, 2],
        "temporal_expansions": [1, 2, 3],
    },
    "dc-f32c32": {
        "_class_name": "AutoencoderDC",
        "attention_head_dim": 32,
        "decoder_act_fns": "silu",
        "decoder_block_out_channels": DC_CHANNELS,
        "decoder_block_types": DC_BLOCKS,
        "decoder_layers_per_block": [3] * 6,
        "decoder_norm_types": "rms_norm",
        "decoder_qkv_multiscales": DC_SCALES,
        "downsample_block_type": "Conv",
        "encoder_block_out_channels": DC_CHANNELS,
        "encoder_block_types": DC_BLOCKS,
        "encoder_layers_per_block": [2, 2, 2, 3, 3, 3],
        "encoder_qkv_multiscales": DC_SCALES,
        "in_channels": 3,
        "latent_channels": 32,
        "scaling_factor": 0.41407,
        "upsample_block_type": "interpolate",
    },
    "svd": {
        "_class_name": "AutoencoderKLTemporalDecoder",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "force_upcast": True,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "out_channels": 3,
        "sample_size": 768,
        "scaling_factor": 0.18215,
    },
    "tiny": {"_class_name": "AutoencoderTiny", "latent_channels": 4},
}


def model(config):
    return getattr(diffusers, config["_class_name"]).from_config(config)


def tensors(config):
    with torch.device("meta"):
        state = model(config).state_dict()
    for name, value in sorted(state.items()):
        if name.startswith(ENCODER):
            shape = "x".join(map(str, value.shape)) or "scalar"
            yield f"{name} {DTYPES[value.dtype]} {shape}\n"


def mix(x):
    """The finaliser of splitmix64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(name, n):
    """`n` values in [-1, 1): of FNV-1a of the name, plus the index, mixed, the upper 24 bits."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    bits = mix(np.arange(n, dtype=np.uint64) + np.uint64(seed)) >> np.uint64(40)
    return bits.astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def weights(name, shape):
    """Norm scales 1 +- 0.2, biases +- 0.2, everything else of variance 1 / inputs. All operations
    are exact or exactly rounded in float32, so that any language makes the same bits."""
    if len(shape) == 1:
        centre, spread = (1, 0.2) if name.endswith(".weight") else (0, 0.2)
    else:
        centre, spread = 0, np.sqrt(np.float32(3) / np.float32(np.prod(shape[1:])))
    values = uniform(name, np.prod(shape)) * np.float32(spread) + np.float32(centre)
    return torch.from_numpy(values.reshape(shape))


@torch.no_grad()
def golden():
    vae = model(KL).eval()
    for name, value in vae.state_dict().items():
        if name.startswith(ENCODER):
            value.copy_(weights(name, tuple(value.shape)))
    pixels = torch.from_numpy(uniform("pixels", 3 * 64 * 64).reshape(1, 3, 64, 64))
    posterior = vae.encode(pixels).latent_dist
    print("mean", posterior.mean.std(), "logvar", posterior.logvar.std())
    conv_in = vae.state_dict()["encoder.conv_in.weight"]
    return {
        "mean": posterior.mean.contiguous(),
        "logvar": posterior.logvar.contiguous(),
        # To tell a slip in the recipe from one in the network.
        "pixels": pixels,
        "encoder.conv_in.weight": conv_in.clone(),
    }


def main(names):
    torch.use_deterministic_algorithms(True)
    for name in names or CONFIGS:
        config = CONFIGS[name]
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        lines = list(tensors(config))
        (folder / "tensors.txt").write_text("".join(lines))
        print(name, len(lines))
        if name == "sd":
            save_file(golden(), folder / "golden.safetensors")


if __name__ == "__main__":
    main(sys.argv[1:])
