"""Makes the checkpoints and goldens beside this file.

    python make_goldens.py [NAME...]

Made with diffusers 0.40.0, torch 2.15.0 (CPU) and safetensors 0.8.0. The tests need none of them.

Every parameter and buffer is randomised: with diffusers' own initialisation many mistakes are
invisible (norm weights of 1, biases of 0). Each model comes twice: `a` as a normal case, and `b`
with small weights and a nearly flat picture, where the epsilons of the norms show. Only the
encoder's tensors are kept, but for one model, which keeps its decoder so that the loader has
something to skip. Weights are rounded to float16, and most files hold them so, to keep them small;
all outputs are computed in float32 from the rounded weights.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage
from safetensors.torch import load_file, save_file

from checkpoints import (
    cogvideox,
    dc,
    flux2,
    hunyuan,
    hunyuan15,
    kl,
    ltx,
    ltx095,
    ltx2,
    mochi,
    svd,
    tiny,
    wan,
    wan22,
)
from reference import clip, outputs, picture, randomise

HERE = Path(__file__).parent
ENCODER = ("encoder.", "quant_conv.", "bn.", "latents_")


# name: (model, size of the pictures, options of `save`)
MODELS = {
    "kl-plain": (
        lambda: kl(block_out_channels=(8, 16)),
        [2, 3, 32, 32],
        {"full": True},
    ),
    "kl-two-layers": (
        lambda: kl(block_out_channels=(32, 32), layers_per_block=2, norm_num_groups=32),
        [1, 3, 40, 56],
        {},
    ),
    "kl-16-channels": (
        lambda: kl(
            block_out_channels=(16, 32, 32),
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        ),
        [1, 3, 33, 47],
        {},
    ),
    "kl-no-attention": (
        lambda: kl(
            block_out_channels=(16, 24, 32, 32),
            mid_block_add_attention=False,
            latents_mean=[0.1, -0.2, 0.3, -0.4],
            latents_std=[0.5, 1.5, 2.0, 0.8],
            scaling_factor=0.5,
        ),
        [1, 3, 33, 47],
        {},
    ),
    "kl-legacy-names": (lambda: kl(block_out_channels=(8, 16)), [1, 3, 40, 56], {"legacy": True}),
    "kl-sharded": (lambda: kl(block_out_channels=(8, 16)), [1, 3, 32, 32], {"shards": True}),
    "kl-fp16-file": (lambda: kl(block_out_channels=(16, 32)), [1, 3, 32, 32], {"half": True}),
    "kl-attention-stages": (
        lambda: kl(
            block_out_channels=(16, 32),
            down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
            act_fn="gelu",
        ),
        [1, 3, 24, 32],
        {},
    ),
    "tiny-4-channels": (lambda: tiny(), [2, 3, 32, 32], {}),
    "tiny-16-channels": (
        lambda: tiny(latent_channels=16, scaling_factor=0.7, shift_factor=0.2),
        [1, 3, 33, 47],
        {},
    ),
    "kl-tiled": (
        lambda: tiled(kl(block_out_channels=(8, 16, 16), sample_size=16)),
        [2, 3, 40, 56],
        {},
    ),
    "flux2": (lambda: flux2(), [2, 3, 40, 56], {}),
    "qwen-image": (lambda: wan(AutoencoderKLQwenImage), [2, 3, 1, 33, 47], {}),
    "wan-2.1": (lambda: wan(num_res_blocks=2), [1, 3, 1, 40, 56], {}),
    "wan-2.2": (lambda: wan22(), [1, 3, 1, 48, 64], {}),
    "ltx-0.9.0": (lambda: ltx(), [2, 3, 1, 16, 24], {}),
    "ltx-0.9.5": (lambda: ltx095(), [1, 3, 1, 16, 24], {}),
    "ltx-2": (lambda: ltx2(), [1, 3, 1, 32, 48], {}),
    "svd": (lambda: svd(), [2, 3, 16, 24], {}),
    "hunyuan-video": (lambda: hunyuan(), [2, 3, 1, 24, 40], {}),
    "hunyuan-video-1.5": (lambda: hunyuan15(), [1, 3, 1, 24, 40], {}),
    # Blocks that change the channels, and down-samplers that do not.
    "hunyuan-video-1.5-unmatched": (
        lambda: hunyuan15(
            block_out_channels=(8, 16),
            layers_per_block=2,
            latent_channels=2,
            spatial_compression_ratio=4,
            temporal_compression_ratio=2,
            downsample_match_channel=False,
            upsample_match_channel=False,
        ),
        [1, 3, 1, 24, 20],
        {},
    ),
    "cogvideox": (lambda: cogvideox(), [2, 3, 1, 33, 47], {}),
    "cogvideox-quant": (
        lambda: cogvideox(
            block_out_channels=(8, 12, 12),
            layers_per_block=2,
            latent_channels=3,
            norm_num_groups=4,
            temporal_compression_ratio=2,
            act_fn="gelu",
            norm_eps=1e-5,
            use_quant_conv=True,
            use_post_quant_conv=True,
        ),
        [1, 3, 1, 24, 32],
        {},
    ),
    "mochi": (lambda: mochi(), [2, 3, 1, 25, 39], {}),
    # 16 pixels in the last stage, four of them per channel of a head: the linear form.
    "dc-linear": (lambda: dc(), [2, 3, 16, 24], {}),
    # 4 pixels, as many as a head has channels: the quadratic form.
    "dc-quadratic": (lambda: dc(), [1, 3, 4, 4], {}),
    "dc-strided": (
        lambda: dc(
            encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8, 16),
            encoder_layers_per_block=(0, 1, 2),
            encoder_qkv_multiscales=((), (), (3, 5)),
            downsample_block_type="Conv",
        ),
        [1, 3, 32, 48],
        {},
    ),
}


# Clips for those models that take them: `clip-<frames>.safetensors` beside the picture's golden. Where
# nothing looks ahead, the first frames of one are the golden of a shorter clip.
CLIPS = {
    "qwen-image": [[2, 3, 9, 17, 23]],
    "wan-2.1": [[1, 3, 17, 24, 16]],
    "wan-2.2": [[1, 3, 17, 16, 32]],
    "ltx-0.9.0": [[2, 3, 9, 16, 24]],
    "ltx-0.9.5": [[1, 3, 17, 8, 16]],
    "ltx-2": [[1, 3, 17, 16, 32]],
    "svd": [[2, 3, 5, 16, 8]],
    "hunyuan-video-1.5": [[1, 3, 29, 16, 24]],
    "hunyuan-video-1.5-unmatched": [[1, 3, 17, 16, 12]],
    "mochi": [[2, 3, 7, 12, 20], [1, 3, 25, 16, 12]],
}

# Where norms see several frames together, a shorter clip has other latents: `lengths.safetensors` has
# those of the first frames, `mean.5` and so on, for each of these lengths.
LENGTHS = {
    "hunyuan-video": ([1, 3, 33, 16, 24], [1, 5, 9, 17, 21, 25, 29, 33]),
    "cogvideox": ([1, 3, 29, 16, 24], [1, 2, 5, 7, 8, 9, 15, 16, 17, 24, 29]),
    "cogvideox-quant": ([1, 3, 17, 18, 14], [1, 5, 8, 17]),
}


def tiled(model):
    model.enable_tiling()
    return model


def save(model, folder, full=False, legacy=False, shards=False, half=False):
    """As `save_pretrained` does, then only what the encoder needs."""
    if half:
        model.half().save_pretrained(folder, variant="fp16")
        model.float()
    elif shards:
        model.save_pretrained(folder, max_shard_size="80KB")
    else:
        model.save_pretrained(folder)
    if full or shards:
        return
    (path,) = folder.glob("*.safetensors")
    tensors = {k: v for k, v in load_file(path).items() if k.startswith(ENCODER)}
    if legacy:
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for new, name in old.items():
            for part in ("weight", "bias"):
                at = "encoder.mid_block.attentions.0."
                value = tensors.pop(f"{at}{new}.{part}")
                value = value[:, :, None, None] if part == "weight" else value
                tensors[f"{at}{name}.{part}"] = value.contiguous()
    if not legacy:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def main(names):
    torch.use_deterministic_algorithms(True)
    for name in names or MODELS:
        make, shape, options = MODELS[name]
        for case, flat in (("a", False), ("b", True)):
            if flat and options:
                continue  # these are about files, not numbers
            folder = HERE / name / case
            model = randomise(make(), seed=len(name), flat=flat)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            save(model, folder, **options)
            config = json.loads((folder / "config.json").read_text())
            config.pop("_name_or_path", None)
            (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
            pixels = picture(shape, seed=7, flat=flat)
            save_file({"pixels": pixels, **outputs(model, pixels)}, folder / "golden.safetensors")
            for frames in CLIPS.get(name, ()):
                pixels = clip(frames, seed=8, flat=flat)
                file = folder / f"clip-{frames[2]}.safetensors"
                save_file({"pixels": pixels, **outputs(model, pixels)}, file)
            if name in LENGTHS:
                longest, lengths = LENGTHS[name]
                pixels = clip(longest, seed=8, flat=flat)
                tensors = {"pixels": pixels}
                for t in lengths:
                    out = outputs(model, pixels[:, :, :t])
                    tensors |= {f"{key}.{t}": value for key, value in out.items()}
                save_file(tensors, folder / "lengths.safetensors")
            print(folder.relative_to(HERE))


if __name__ == "__main__":
    main(sys.argv[1:])
