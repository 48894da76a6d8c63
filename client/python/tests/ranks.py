"""One rank of a run, under torchrun: writes down what it gets, saves the state, and dies when told to."""

import argparse
import json
import os
import signal
from pathlib import Path

import torch
import torch.distributed as distributed

import preheat

parser = argparse.ArgumentParser()
for name in ("out", "dataset", "endpoint", "state"):
    parser.add_argument(f"--{name}")
parser.add_argument("--epochs", type=int)
parser.add_argument("--kill-after", type=int)
args = parser.parse_args()

distributed.init_process_group("gloo")
rank = distributed.get_rank()
state = Path(args.state)
loader = preheat.DataLoader(
    args.dataset,
    endpoint=args.endpoint,
    model="vae",
    global_batch=4,
    target_area=64 * 64,
    bucket_step=8,
    seed=7,
    device="cpu",
    epochs=args.epochs,
    resume=state.read_text() if state.exists() else None,
)
assert (loader.rank, loader.world_size) == (rank, distributed.get_world_size())
steps = 0
with open(f"{args.out}.{rank}", "w") as out:
    for _ in range(loader.epoch, args.epochs):
        for batch in loader:
            total = torch.tensor([len(batch)])
            distributed.all_reduce(total)
            assert total.item() == 4
            line = {"epoch": batch.epoch, "step": batch.step, "bucket": batch.bucket}
            print(json.dumps({**line, "ids": batch.ids.tolist()}), file=out, flush=True)
            steps += 1
            distributed.barrier()
            if steps == args.kill_after:
                # After its last step, before it is saved.
                os.kill(os.getpid(), signal.SIGKILL)
            if rank == 0:
                aside = state.with_suffix(".new")
                aside.write_text(json.dumps(loader.state_dict()))
                aside.replace(state)
            distributed.barrier()
distributed.destroy_process_group()
