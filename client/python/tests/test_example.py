"""The example trainer: its loss falls, and what it does when it is killed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if not os.environ.get("PREHEAT_REQUIRE_TORCH"):
    pytest.importorskip("torch")

TRAINER = Path(__file__).parent.parent / "examples" / "train_loader.py"
STEPS = 60


def command(ranks, photos, endpoint, folder):
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
        start += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    options = {
        "photos": photos,
        "endpoint": endpoint,
        "model": "vae",
        "batch": 4,
        "side": 64,
        "bucket-step": 8,
        "steps": STEPS,
        "checkpoint": folder / "checkpoint.pt",
        "order": folder / "order.jsonl",
    }
    return start + [str(TRAINER), *(f"--{name}={value}" for name, value in options.items())]


def run(*args, kill_at=None):
    """Losses by step, until the end or until it is killed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    losses = {}
    for line in child.stdout:
        found = re.search(rb"step (\d+): loss ([\d.]+)", line)
        if found:
            losses[int(found[1])] = float(found[2])
            if kill_at is not None and int(found[1]) >= kill_at:
                kill(child.pid)
                break
    _, said = child.communicate(timeout=120)
    assert (child.returncode == 0) == (kill_at is None), said.decode()
    return losses


def kill(pid):
    """A launcher and its ranks, which are in sessions of their own."""
    ranks = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, check=True).stdout.split()
    for each in [pid, *map(int, ranks)]:
        os.kill(each, 9)


def order(folder):
    return [json.loads(line) for line in (folder / "order.jsonl").read_text().splitlines()]


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="finds the ranks with pgrep")
def test_it_learns_and_goes_on_where_it_was_killed(photos, endpoint, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    losses = run(1, photos, endpoint, whole)
    assert list(losses) == list(range(1, STEPS + 1))
    values = list(losses.values())
    assert sum(values[-10:]) < 0.8 * sum(values[:10])
    first = run(2, photos, endpoint, parts, kill_at=25)
    rest = run(1, photos, endpoint, parts)
    assert min(first) == 1 and min(rest) == max(at for at in range(0, 60, 10) if at <= max(first)) + 1
    assert order(parts) == order(whole)
    assert len(order(whole)) == STEPS
