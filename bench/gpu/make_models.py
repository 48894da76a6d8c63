"""Writes full-size VAE checkpoints with random weights, in the diffusers layout: speed and parity do
not depend on training, and nothing is downloaded. Usage: make_models.py FOLDER [NAME ...]
"""

import pathlib
import sys

import diffusers
import torch

KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
FLUX = {
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
}
# SANA's f32c32.
DC = {
    "latent_channels": 32,
    "encoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
    "decoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
    "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
    "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
    "encoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "decoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "downsample_block_type": "Conv",
    "upsample_block_type": "interpolate",
    "scaling_factor": 0.41407,
}

MODELS = {
    "sd15": lambda: diffusers.AutoencoderKL(**KL, sample_size=512),
    "sdxl": lambda: diffusers.AutoencoderKL(**KL, sample_size=1024, scaling_factor=0.13025),
    "flux1": lambda: diffusers.AutoencoderKL(**KL, **FLUX, sample_size=1024),
    "dc": lambda: diffusers.AutoencoderDC(**DC),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:] or MODELS:
        torch.manual_seed(0)
        vae = MODELS[name]()
        with torch.no_grad():
            for parameter in vae.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        vae.save_pretrained(folder / name)


main()
