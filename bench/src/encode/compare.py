"""The other side of `preheat-bench encode --compare-python`: diffusers' own encoder.

Started with the model, the dtype, the device, and `eager` or `compiled`. Says `ready VERSIONS`; then
answers lines:

- `time SIDE BATCH FRAMES CALLS`: encodes CALLS batches, and answers with the seconds that they took;
- `distances SIDE BATCH FRAMES FOLDER`: encodes the bytes in FOLDER/pixels ([BATCH, FRAMES, SIDE, SIDE, 3])
  in f32 and in its own dtype, and answers with the relative L2 distances from the former of FOLDER/latents
  (means, f32) and of the latter.
"""

import copy
import json
import pathlib
import sys
import time

import diffusers
import numpy as np
import torch

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def load(model):
    if model == "builtin:tiny":
        return diffusers.AutoencoderTiny()
    if model == "builtin:wan":
        return diffusers.AutoencoderKLWan(base_dim=8, num_res_blocks=1)
    folder = pathlib.Path(model)
    if not (folder / "config.json").exists():
        folder = folder / "vae"
    name = json.loads((folder / "config.json").read_text())["_class_name"]
    return getattr(diffusers, name).from_pretrained(folder)


def mean(encoded):
    """What the class calls its latents, or their means, in f32 on the host."""
    if hasattr(encoded, "latent_dist"):
        values = encoded.latent_dist.mean
    else:
        values = encoded.latent if hasattr(encoded, "latent") else encoded.latents
    return values.float().cpu()


def main():
    model, dtype, device, mode = sys.argv[1], DTYPES[sys.argv[2]], sys.argv[3], sys.argv[4]
    original = load(model).eval().to(device)
    clips = any(p.ndim == 5 for p in original.parameters())
    layout = {} if clips else {"memory_format": torch.channels_last}
    vae = copy.deepcopy(original).to(dtype).to(**layout)
    encode = torch.compile(vae.encode) if mode == "compiled" else vae.encode

    def finish():
        if device == "cuda":
            torch.cuda.synchronize()

    def laid_out(x):
        """Of [batch, 3, frames, side, side] what the model takes."""
        if clips:
            return x
        if x.shape[2] > 1:
            sys.exit(f"{type(original).__name__} encodes images: leave out --frames")
        return x.squeeze(2).to(**layout)

    def timed(side, batch, frames, calls):
        x = torch.rand(batch, 3, frames, side, side, device=device)
        x = laid_out(x.mul(2).sub(1).to(dtype))
        finish()
        start = time.perf_counter()
        for _ in range(calls):
            encode(x)
        finish()
        return time.perf_counter() - start

    def distances(side, batch, frames, folder):
        folder = pathlib.Path(folder)
        pixels = np.fromfile(folder / "pixels", np.uint8).reshape(batch, frames, side, side, 3)
        x = torch.from_numpy(pixels).to(device).permute(0, 4, 1, 2, 3).float() / 255 * 2 - 1
        with torch.backends.cudnn.flags(allow_tf32=False):
            right = mean(original.encode(x if clips else x.squeeze(2)))
        theirs = mean(vae.encode(laid_out(x.to(dtype))))
        ours = torch.from_numpy(np.fromfile(folder / "latents", np.float32)).reshape(right.shape)
        return [((x - right).norm() / right.norm()).item() for x in (ours, theirs)]

    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"ready {versions}, {where}", flush=True)
    with torch.no_grad():
        for line in sys.stdin:
            what, side, batch, frames, rest = line.split(maxsplit=4)
            shape = int(side), int(batch), int(frames)
            if what == "time":
                print(timed(*shape, int(rest)), flush=True)
            else:
                print(*distances(*shape, rest.strip()), flush=True)


main()
