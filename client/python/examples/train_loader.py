"""A small latent-diffusion model, trained on the CPU from photos and a replica.

    python examples/train_loader.py --photos photos --endpoint http://127.0.0.1:50051 --model vae

Without `--endpoint` it starts a replica itself (`preheat-server` has to be installed), with a model that is
untrained: fine for looking at the loop. It saves every few steps; stop it in any way, start it again with the
same options, on any number of ranks that divides the batch (`torchrun --nproc-per-node 2 examples/…`), and it
goes on with the very next sample. `--order` writes down which samples each step had.
"""

import argparse
import contextlib
import json
import os
from pathlib import Path

import torch
import torch.distributed as distributed
from torch import nn

import preheat


class Denoiser(nn.Module):
    """Predicts the velocity from noise to latent: convolutions, told the time."""

    def __init__(self, channels: int, width: int = 32):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.middle = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.leave = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1)
        )

    def forward(self, noisy, time):
        hidden = self.enter(noisy) + self.time(time[:, None])[:, :, None, None]
        return self.leave(hidden + self.middle(hidden))


def loss_of(model, batch):
    """Flow matching: the mean squared error of the velocity, over the latents that are good."""
    latents = batch.latents
    noise = torch.randn_like(latents)
    time = torch.rand(len(latents))
    mixed = torch.lerp(noise, latents, time[:, None, None, None])
    errors = (model(mixed, time) - (latents - noise)).square().mean(dim=(1, 2, 3))
    mask = torch.from_numpy(batch.mask)
    return (errors * mask).sum() / mask.sum().clamp(min=1)


def save(path, model, optimizer, loader, step):
    """All that a run is, whole or not at all."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "loader": loader.state_dict(),
        "step": step,
    }
    aside = path.with_suffix(".new")
    torch.save(state, aside)
    os.replace(aside, path)


def write_order(file, batch):
    """The ids of a step, over all ranks in order; rank 0 writes them."""
    parts = [batch.ids.tolist()]
    if distributed.is_initialized():
        parts = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, batch.ids.tolist())
    if file is not None:
        ids = [i for part in parts for i in part]
        line = {"epoch": batch.epoch, "step": batch.step, "bucket": batch.bucket, "ids": ids}
        print(json.dumps(line), file=file, flush=True)


def open_order(path, rank, step):
    """The file of the order; what came after the checkpoint comes again, and is cut off."""
    if path is None or rank != 0:
        return None
    lines = path.read_text().splitlines()[:step] if path.exists() else []
    path.write_text("".join(line + "\n" for line in lines))
    return path.open("a")


def train(args, endpoint):
    torch.manual_seed(0)
    saved = torch.load(args.checkpoint, weights_only=True) if args.checkpoint.exists() else None
    loader = preheat.DataLoader(
        args.photos,
        endpoint=endpoint,
        model=args.model,
        global_batch=args.batch,
        target_area=args.side**2,
        bucket_step=args.bucket_step,
        crop="random",
        flip=0.5,
        seed=1,
        device="cpu",
        resume=saved and saved["loader"],
    )
    with loader:
        net = Denoiser(loader.model()["latent_channels"])
        model = nn.parallel.DistributedDataParallel(net) if distributed.is_initialized() else net
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
        step = 0
        if saved is not None:
            net.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            step = saved["step"]
            print(f"goes on at step {step}, on {loader.world_size} ranks", flush=True)
        order = open_order(args.order, loader.rank, step)
        while step < args.steps:
            for batch in loader:
                loss = loss_of(model, batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
                write_order(order, batch)
                if loader.rank == 0:
                    print(f"step {step}: loss {loss.item():.4f}", flush=True)
                    if step % args.save_every == 0 or step == args.steps:
                        save(args.checkpoint, net, optimizer, loader, step)
                if step == args.steps:
                    break
        if loader.rank == 0:
            print(loader.summary())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--endpoint")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--batch", type=int, default=8, help="over all ranks")
    parser.add_argument("--side", type=int, default=256, help="of a square image")
    parser.add_argument("--bucket-step", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--save-every", type=int, default=10)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.pt"))
    parser.add_argument("--order", type=Path)
    args = parser.parse_args()
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
    with contextlib.ExitStack() as stack:
        endpoint = args.endpoint
        if endpoint is None:
            endpoint = stack.enter_context(preheat.serve(f"{args.model}=builtin:tiny")).endpoint
        train(args, endpoint)
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
