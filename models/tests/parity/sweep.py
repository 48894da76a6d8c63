"""Compares random models of the classes that take clips with diffusers.

    cargo build -p preheat-models --example encode
    python sweep.py PATH/TO/encode [--seed N] [--rounds N] [--dtype f32|f16|bf16]
                               [--larger PIXELS] [CLASS...]

Every round draws a config, weights and a clip for each class, encodes the clip with diffusers and with
the example, and compares mean, log-variance and normalised latents. Without a seed it draws one, and says
which. Weights are `made` by diffusers, `drawn` with everything in them random, or `flat`: small ones and a
clip with next to no contrast, where norms enlarge whatever was rounded before them. Sides begin at what
a model can take, which is a few pixels; --larger adds to them.

It ends with the worst relative L2 of each class and kind, and fails where one is past what counts as equal.
Of such a round it says how far the example, and diffusers in the same dtype, are from diffusers in f64: that
tells whose rounding it is, and excuses nothing.
"""

import argparse
import copy
import json
import math
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

# The dtype of the example, what counts as equal to diffusers in f32, and diffusers in the same dtype.
DTYPES = {"f32": (1e-5, torch.float32), "f16": (5e-3, torch.float16), "bf16": (3e-2, torch.bfloat16)}
KINDS = ("made", "drawn", "flat")
# diffusers 0.40 fails on batches of these: the mask of their attention has no axis for it.
ONE_BY_ONE = ("AutoencoderKLHunyuanVideo15",)


def distance(a, b):
    a, b = a.double(), b.double()
    far = ((a - b).norm() / b.norm()).item()
    # NaN would be lost among others: no number is greater.
    return math.inf if math.isnan(far) else far


def furthest(values, expected):
    """The worst distance of mean, log-variance and latents."""
    return max(distance(values[key].reshape(v.shape), v) for key, v in expected.items())


def compare(encode, dtype, larger, name, seed, folder):
    """The kind of weights, how far the example is from diffusers, and a complaint if there is one."""
    r = random.Random(f"{name} {seed}")
    make, lengths, cell, even = CLASSES[name](r)
    torch.manual_seed(seed)
    kind = r.choices(KINDS, (4, 4, 2))[0]
    model, weights = make().eval(), r.randrange(2**31)
    if kind != "made":
        model = randomise(model, seed=weights, flat=kind == "flat")
    model.save_pretrained(folder)
    frames = r.choice(lengths)
    sides = [max(cell * r.randint(1, 4) + even * r.randint(0, 3), even) for _ in range(2)]
    sides = [(side + larger) // even * even for side in sides]
    batch = 1 if name in ONE_BY_ONE else r.choice([1, 1, 2])
    shape = [batch, 3, frames, *sides]
    pixels = clip(shape, r.randrange(2**31), flat=kind == "flat")
    save_file({"pixels": pixels}, folder / "pixels.safetensors")
    command = [encode, "--model", folder, "--device", "cpu", "--dtype", dtype]
    command += ["--pixels", folder / "pixels.safetensors", "--output", folder / "out.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True)
    config = json.loads((folder / "config.json").read_text())
    if done.returncode != 0:
        return kind, math.inf, f"{shape}: {done.stderr.strip()} {config}"
    ours, theirs = load_file(folder / "out.safetensors"), outputs(model, pixels)
    for key, expected in theirs.items():
        if ours[key].numel() != expected.numel():
            return kind, math.inf, f"{shape}: {key} {list(ours[key].shape)}, not {list(expected.shape)} {config}"
    worst, (equal, same) = furthest(ours, theirs), DTYPES[dtype]
    if worst <= equal:
        return kind, worst, None
    exact = outputs(copy.deepcopy(model).double(), pixels.double())
    if dtype != "f32":
        theirs = outputs(model.to(same), pixels.to(same))
    far, rounded = furthest(ours, exact), furthest(theirs, exact)
    return kind, worst, f"{shape}: {worst:.1e}; from f64 {far:.1e}, diffusers {rounded:.1e} {config}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("encode")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--larger", type=int, default=0, metavar="PIXELS")
    parser.add_argument("classes", nargs="*", metavar="CLASS")
    args = parser.parse_intermixed_args()
    seed = random.SystemRandom().randrange(2**31) if args.seed is None else args.seed
    print("seed", seed)
    failures = 0
    for name in args.classes or CLASSES:
        rounds, worst = defaultdict(int), defaultdict(float)
        for i in range(args.rounds):
            with tempfile.TemporaryDirectory() as folder:
                kind, far, complaint = compare(args.encode, args.dtype, args.larger, name, seed + i, Path(folder))
            rounds[kind] += 1
            worst[kind] = max(worst[kind], far)
            if complaint:
                failures += 1
                print("FAILED", name, "seed", seed + i, kind, complaint, flush=True)
        kinds = (f"{rounds[kind]:3} {kind} {worst[kind]:.1e}" for kind in KINDS if rounds[kind])
        print(f"{name:28}", ", ".join(kinds), flush=True)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
