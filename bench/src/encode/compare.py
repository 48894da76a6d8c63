"""The other side of `preheat-bench encode --compare-python`: diffusers' own encoder on the CPU.

Started with the model and the dtype. Says `ready VERSIONS`; then for every line `SIDE BATCH CALLS` it
encodes CALLS batches and answers with the seconds that they took.
"""

import json
import pathlib
import sys
import time

import diffusers
import torch

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def load(model):
    if model == "builtin:tiny":
        return diffusers.AutoencoderTiny()
    folder = pathlib.Path(model)
    if not (folder / "config.json").exists():
        folder = folder / "vae"
    name = json.loads((folder / "config.json").read_text())["_class_name"]
    return getattr(diffusers, name).from_pretrained(folder)


def main():
    model, dtype = sys.argv[1], DTYPES[sys.argv[2]]
    vae = load(model).to(dtype).eval()
    frames = any(p.ndim == 5 for p in vae.parameters())
    if not frames:
        vae = vae.to(memory_format=torch.channels_last)
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    print(f"ready {versions}, {torch.get_num_threads()} threads", flush=True)
    with torch.no_grad():
        for line in sys.stdin:
            side, batch, calls = map(int, line.split())
            x = torch.rand(batch, 3, side, side).mul(2).sub(1).to(dtype)
            x = x.unsqueeze(2) if frames else x.to(memory_format=torch.channels_last)
            start = time.perf_counter()
            for _ in range(calls):
                vae.encode(x)
            print(time.perf_counter() - start, flush=True)


main()
