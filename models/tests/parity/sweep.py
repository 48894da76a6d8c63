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
from safetensors.torch import load_file, save_file

from draws import CLASSES
from reference import clip, outputs, randomise

EQUAL = 1e-5
# diffusers 0.40 fails on batches of these: the mask of their attention has no axis for it.
ONE_BY_ONE = ("AutoencoderKLHunyuanVideo15",)


def distance(a, b):
    a, b = a.double(), b.double()
    return ((a - b).norm() / b.norm()).item()


def rounding(model, pixels, ours, theirs):
    """How far both are from what diffusers makes in f64: where its own f32 is as far, neither is wrong."""
    exact = outputs(model.double(), pixels.double())
    far = lambda v: max(distance(v[key].reshape(exact[key].shape), exact[key]) for key in exact)
    return f" (from f64: {far(ours):.1e}, diffusers' f32 {far(theirs):.1e})"


def compare(encode, name, seed, folder):
    r = random.Random(f"{name} {seed}")
    make, lengths, cell, even = CLASSES[name](r)
    torch.manual_seed(seed)
    flat = r.random() < 0.3
    model = randomise(make(), seed=r.randrange(2**31), flat=flat)
    model.save_pretrained(folder)
    frames = r.choice(lengths)
    sides = [max(cell * r.randint(1, 4) + even * r.randint(0, 3), even) for _ in range(2)]
    sides = [side // even * even for side in sides]
    batch = 1 if name in ONE_BY_ONE else r.choice([1, 1, 2])
    shape = [batch, 3, frames, *sides]
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
        return f"{shape}: {worst:.1e}{rounding(model, pixels, ours, theirs)} {config}"
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("encode")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("classes", nargs="*", metavar="CLASS")
    args = parser.parse_intermixed_args()
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
