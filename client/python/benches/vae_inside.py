"""A trainer with the VAE in its loop, and the same trainer with Preheat, in one run.

    PREHEAT_SERVER=target/release/preheat-server python benches/vae_inside.py --photos photos > run.json

Needs torch, diffusers and pillow, and two cores: the trainer has the first, the replica the second. The VAE
is `AutoencoderTiny` without training on both sides: diffusers' here, and the replica's own. The loop with the
VAE in it is measured on the trainer's core alone and on both. For each: steps a second, and CPU seconds of
the trainer's process for each step, beside the model's own.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from PIL import Image

import preheat

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from train_loader import Denoiser  # noqa: E402


def step_of(model, optimizer):
    def step(latents):
        noise = torch.randn_like(latents)
        time_ = torch.rand(len(latents))
        mixed = torch.lerp(noise, latents, time_[:, None, None, None])
        loss = (model(mixed, time_) - (latents - noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def cover(path, side):
    """As a loader does: decode, resize until it covers, cut anywhere."""
    image = Image.open(path).convert("RGB")
    scale = side / min(image.size)
    size = [max(side, round(each * scale)) for each in image.size]
    image = image.resize(size, Image.Resampling.LANCZOS)
    left, top = (random.randint(0, each - side) for each in size)
    pixels = torch.frombuffer(
        bytearray(image.crop((left, top, left + side, top + side)).tobytes()), dtype=torch.uint8
    )
    return pixels.view(side, side, 3).permute(2, 0, 1).float() / 127.5 - 1


def inside(args, paths):
    """Batches of latents, made here."""
    vae = AutoencoderTiny().eval()
    while True:
        chosen = random.sample(paths, args.batch)
        with torch.no_grad():
            latents = vae.encode(torch.stack([cover(path, args.side) for path in chosen])).latents
        yield latents


def outside(args, endpoint):
    """Batches of latents, made elsewhere."""
    with preheat.DataLoader(
        args.photos,
        endpoint=endpoint,
        model="tiny",
        batch_size=args.batch,
        buckets=[(args.side, args.side)],
        crop="random",
        scale="raw",
    ) as loader:
        while True:
            for batch in loader:
                yield batch.latents


def measure(args, latents):
    """Steps a second, and CPU seconds a step, of this process."""
    torch.manual_seed(0)
    model = Denoiser(4, args.width)
    step = step_of(model, torch.optim.AdamW(model.parameters()))
    for _ in range(args.warm_up):
        step(next(latents))
    own, start, cpu = [], time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(args.steps):
        batch = next(latents)
        before = time.perf_counter()
        step(batch)
        own.append(time.perf_counter() - before)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    latents.close()
    used = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    return {
        "steps_per_second": args.steps / seconds,
        "cpu_seconds_per_step": used / args.steps,
        "model_seconds_per_step": statistics.median(own),
    }


def pin(pid, cores):
    """All threads of a process."""
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), cores)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--width", type=int, default=256, help="channels of the model: what a step costs")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=5)
    args = parser.parse_args()
    paths = sorted(p for p in Path(args.photos).rglob("*") if p.suffix in (".jpg", ".jpeg"))
    first, second = sorted(os.sched_getaffinity(0))[:2]
    found = {"arguments": {**vars(args), "images": len(paths)}, "torch": torch.__version__}

    torch.set_num_threads(1)
    pin(os.getpid(), {first})
    found["vae_inside_one_core"] = measure(args, inside(args, paths))
    with preheat.serve(args=["--device", "cpu"]) as server:
        pin(server._process.pid, {second})
        found["preheat"] = measure(args, outside(args, server.endpoint))
    pin(os.getpid(), {first, second})
    torch.set_num_threads(2)
    found["vae_inside_two_cores"] = measure(args, inside(args, paths))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
