"""Random configs of the classes that take clips.

Each function draws one, and gives what makes the model, the lengths that its clips may have, how many pixels
become one of a latent's, and what the sides of its clips must be multiples of.
"""

import math

from diffusers import AutoencoderKLQwenImage

from checkpoints import (
    cogvideox,
    hunyuan,
    hunyuan15,
    ltx,
    ltx095,
    ltx2,
    mochi,
    svd,
    wan,
)


def lengths(step):
    return [1 + step * i for i in range(4)]


def draw_wan(r, cls=None):
    levels = r.choice([2, 3, 3, 4])
    mult = [r.choice([1, 2])]
    for _ in range(levels - 1):
        mult.append(mult[-1] * r.choice([1, 1, 2]))
    times = [False] * (levels - 1)
    for at in r.sample(range(levels - 1), r.randint(0, min(2, levels - 1))):
        times[at] = True
    z = r.choice([3, 4, 8])
    config = dict(
        base_dim=r.choice([4, 8, 10]),
        z_dim=z,
        dim_mult=mult,
        num_res_blocks=r.choice([1, 2]),
        temperal_downsample=times,
        latents_mean=[r.uniform(-1, 1) for _ in range(z)],
        latents_std=[r.uniform(0.5, 3) for _ in range(z)],
    )
    cell = 2 ** (levels - 1)
    even = 1
    if cls is None and r.random() < 0.5:
        patch = r.choice([1, 2, 2])
        # The last level has no down-sampler, and so its shortcut no pixels to average.
        mult[-1] = mult[-2]
        config.update(is_residual=True, in_channels=3 * patch**2, out_channels=3 * patch**2)
        config.update(patch_size=patch if patch > 1 else None)
        even = cell * patch
        cell = even
    make = (lambda: wan(cls, **config)) if cls else (lambda: wan(**config))
    return make, lengths(4), cell, even


def draw_ltx(r):
    if r.random() < 0.5:
        levels = r.choice([2, 3, 4])
        scaling = [r.random() < 0.8 for _ in range(levels)]
        scaling = [s and sum(scaling[:i]) < 3 for i, s in enumerate(scaling)]
        config = dict(
            block_out_channels=tuple(r.choice([4, 6, 8]) for _ in range(levels)),
            down_block_types=("LTXVideoDownBlock3D",) * levels,
            downsample_type=("conv",) * levels,
            layers_per_block=tuple(r.choice([0, 1, 2]) for _ in range(levels + 1)),
            spatio_temporal_scaling=tuple(scaling),
            patch_size=r.choice([1, 2, 4]),
            latent_channels=r.choice([4, 8]),
            scaling_factor=r.uniform(0.5, 2),
        )
        halvings = sum(scaling)
        # The convolutions round up; only patches must come out even.
        cell = config["patch_size"] * 2**halvings
        return (lambda: ltx(**config)), lengths(2**halvings), cell, config["patch_size"]
    return draw_folds(r, ltx095, "LTXVideo095DownBlock3D")


def draw_ltx2(r):
    return draw_folds(r, ltx2, "LTX2VideoDownBlock3D")


def draw_folds(r, make, block):
    levels = r.choice([2, 3, 4])
    types = [r.choice(["spatial", "temporal", "spatiotemporal", "conv"]) for _ in range(levels)]
    latents = r.choice([8, 16])
    channels = [latents if make is ltx2 else r.choice([8, 16])]
    scaling = []
    for kind in types:
        scaling.append(r.random() < 0.9)
        grows = kind != "conv" and scaling[-1]
        factor = {"spatial": 4, "temporal": 2, "spatiotemporal": 8, "conv": 1}[kind]
        ups = [c for c in (8, 16, 32) if c % factor == 0 and channels[-1] * factor % c == 0]
        channels.append(r.choice(ups) if grows else channels[-1])
    config = dict(
        latent_channels=latents,
        block_out_channels=tuple(channels[1:] if make is ltx2 else channels),
        down_block_types=(block,) * levels,
        downsample_type=tuple(types),
        layers_per_block=tuple(r.choice([0, 1, 2]) for _ in range(levels + 1)),
        spatio_temporal_scaling=tuple(scaling),
        patch_size=r.choice([1, 2, 4]),
        scaling_factor=r.uniform(0.5, 2),
    )
    if make is ltx2:
        config["encoder_spatial_padding_mode"] = r.choice(["zeros", "zeros", "replicate"])
    on = [kind for kind, scales in zip(types, scaling) if scales]
    step = 2 ** sum(kind != "spatial" for kind in on)
    cell = config["patch_size"] * 2 ** sum(kind != "temporal" for kind in on)
    return (lambda: make(**config)), lengths(step), cell, cell


def draw_svd(r):
    levels = r.choice([1, 2, 3])
    config = dict(
        block_out_channels=tuple(r.choice([32, 64]) for _ in range(levels)),
        down_block_types=("DownEncoderBlock2D",) * levels,
        layers_per_block=r.choice([1, 2]),
        latent_channels=r.choice([4, 8]),
        scaling_factor=r.uniform(0.1, 1),
    )
    # Group norms over a handful of pixels are as far from the truth in diffusers.
    return (lambda: svd(**config)), lengths(1), 4 * 2 ** (levels - 1), 1


def draw_hunyuan(r):
    levels = r.choice([3, 4])
    groups = r.choice([2, 4])
    config = dict(
        block_out_channels=tuple(groups * r.choice([2, 4, 6]) for _ in range(levels)),
        layers_per_block=r.choice([1, 2]),
        norm_num_groups=groups,
        latent_channels=r.choice([3, 4, 8]),
        spatial_compression_ratio=2 ** r.randint(2, levels),
        scaling_factor=r.uniform(0.2, 2),
        mid_block_add_attention=r.random() < 0.7,
        act_fn=r.choice(["silu", "silu", "gelu"]),
    )
    cell = config["spatial_compression_ratio"]
    # Past 16 frames diffusers tiles in time.
    return (lambda: hunyuan(**config)), [1, 5, 9, 17, 21, 25, 29], 2 * cell, 1


def draw_hunyuan15(r):
    levels = r.choice([2, 3, 4])
    latents = r.choice([2, 4])
    channels = [r.choice([8, 16])]
    for _ in range(levels - 1):
        channels.append(channels[-1] * r.choice([1, 1, 2]))
    space = 2 ** (levels - 1)
    config = dict(
        block_out_channels=tuple(channels),
        layers_per_block=r.choice([1, 2]),
        latent_channels=latents,
        spatial_compression_ratio=space,
        temporal_compression_ratio=r.choice([time for time in (2, 4) if time <= space]),
        scaling_factor=r.uniform(0.2, 2),
    )
    step = config["temporal_compression_ratio"]
    return (lambda: hunyuan15(**config)), lengths(step), space, space


def draw_cogvideox(r):
    levels = r.choice([3, 4])
    groups = r.choice([2, 4])
    z = r.choice([3, 4, 8])
    config = dict(
        block_out_channels=tuple(groups * r.choice([2, 4, 6]) for _ in range(levels)),
        layers_per_block=r.choice([1, 2]),
        norm_num_groups=groups,
        latent_channels=z,
        temporal_compression_ratio=r.choice([2, 4]),
        scaling_factor=r.uniform(0.2, 2),
        norm_eps=r.choice([1e-6, 1e-5]),
        act_fn=r.choice(["silu", "silu", "gelu"]),
    )
    return (lambda: cogvideox(**config)), [1, 2, 5, 8, 9, 16, 17, 25, 29], 2 ** (levels - 1), 1


def draw_mochi(r):
    stages = r.choice([1, 2, 3])
    z = r.choice([3, 4, 12])
    times = tuple(r.choice([1, 2, 3]) for _ in range(stages))
    spaces = tuple(r.choice([1, 2, 2]) for _ in range(stages))
    config = dict(
        encoder_block_out_channels=tuple(r.choice([32, 64]) for _ in range(stages + 1)),
        decoder_block_out_channels=(32,) * (stages + 1),
        layers_per_block=tuple(r.choice([1, 2]) for _ in range(stages + 2)),
        temporal_expansions=times,
        spatial_expansions=spaces,
        add_attention_block=tuple(r.random() < 0.5 for _ in range(stages + 2)),
        latent_channels=z,
        latents_mean=[r.uniform(-1, 1) for _ in range(z)],
        latents_std=[r.uniform(0.5, 3) for _ in range(z)],
        scaling_factor=r.uniform(0.2, 2),
    )
    cell = math.prod(spaces)
    return (lambda: mochi(**config)), lengths(math.prod(times)), 2 * cell, 1


CLASSES = {
    "AutoencoderKLWan": draw_wan,
    "AutoencoderKLQwenImage": lambda r: draw_wan(r, AutoencoderKLQwenImage),
    "AutoencoderKLLTXVideo": draw_ltx,
    "AutoencoderKLLTX2Video": draw_ltx2,
    "AutoencoderKLTemporalDecoder": draw_svd,
    "AutoencoderKLHunyuanVideo": draw_hunyuan,
    "AutoencoderKLHunyuanVideo15": draw_hunyuan15,
    "AutoencoderKLCogVideoX": draw_cogvideox,
    "AutoencoderKLMochi": draw_mochi,
}
