"""Compares random models of the classes that take clips with diffusers.

    cargo build -p preheat-models --example encode
    python sweep.py PATH/TO/encode [--seed N] [--rounds N] [CLASS...]

Every round draws a config, weights and a clip for each class, encodes the clip with diffusers and with
the example, and compares mean, log-variance and normalised latents. Without a seed it draws one, and says
which. It ends with the worst relative L2 of each class, and fails where one is past what counts as equal.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import torch
from diffusers import AutoencoderKLQwenImage
from safetensors.torch import load_file, save_file

from make_goldens import clip, ltx, ltx095, ltx2, outputs, picture, randomise, svd, wan

EQUAL = 1e-5


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
    return make, 4, cell, even


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
        return (lambda: ltx(**config)), 2**halvings, cell, config["patch_size"]
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
    return (lambda: make(**config)), step, cell, cell


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
    return (lambda: svd(**config)), 1, 4 * 2 ** (levels - 1), 1


CLASSES = {
    "AutoencoderKLWan": draw_wan,
    "AutoencoderKLQwenImage": lambda r: draw_wan(r, AutoencoderKLQwenImage),
    "AutoencoderKLLTXVideo": draw_ltx,
    "AutoencoderKLLTX2Video": draw_ltx2,
    "AutoencoderKLTemporalDecoder": draw_svd,
}


def distance(a, b):
    a, b = a.double(), b.double()
    return ((a - b).norm() / b.norm()).item()


def compare(encode, name, seed, folder):
    r = random.Random(f"{name} {seed}")
    make, step, cell, even = CLASSES[name](r)
    torch.manual_seed(seed)
    flat = r.random() < 0.3
    model = randomise(make(), seed=r.randrange(2**31), flat=flat)
    model.save_pretrained(folder)
    frames = 1 + step * r.randint(0, 3)
    sides = [max(cell * r.randint(1, 4) + even * r.randint(0, 3), even) for _ in range(2)]
    sides = [side // even * even for side in sides]
    shape = [r.choice([1, 1, 2]), 3, frames, *sides]
    pixels = clip(shape, r.randrange(2**31), flat=flat)
    save_file({"pixels": pixels}, folder / "pixels.safetensors")
    command = [encode, "--model", folder, "--device", "cpu", "--dtype", "f32"]
    command += ["--pixels", folder / "pixels.safetensors", "--output", folder / "out.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True)
    config = json.loads((folder / "config.json").read_text())
    if done.returncode != 0:
        return f"{shape}: {done.stderr.strip()} {config}"
    ours, theirs = load_file(folder / "out.safetensors"), outputs(model, pixels)
    worst = 0.0
    for key, expected in theirs.items():
        if ours[key].numel() != expected.numel():
            return f"{shape}: {key} {list(ours[key].shape)} and not {list(expected.shape)} {config}"
        worst = max(worst, distance(ours[key].reshape(expected.shape), expected))
    if not worst <= EQUAL:
        return f"{shape}: {worst:.1e} {config}"
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("encode")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("classes", nargs="*", metavar="CLASS")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if args.seed is None else args.seed
    print("seed", seed)
    worst, failures = defaultdict(float), 0
    for name in args.classes or CLASSES:
        for i in range(args.rounds):
            with tempfile.TemporaryDirectory() as folder:
                result = compare(args.encode, name, seed + i, Path(folder))
            if isinstance(result, str):
                failures += 1
                print("FAILED", name, "seed", seed + i, result, flush=True)
            else:
                worst[name] = max(worst[name], result)
        print(f"{name:30} {args.rounds} rounds, worst {worst[name]:.1e}", flush=True)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
