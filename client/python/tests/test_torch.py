"""Torch: types, devices, its DataLoader, ranks in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import preheat
from conftest import seen

if os.environ.get("PREHEAT_REQUIRE_TORCH"):
    import torch
else:
    torch = pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_are_where_they_were_received(load, dtype):
    for batch in load(as_="auto", dtype=dtype):
        assert isinstance(batch.latents, torch.Tensor) and batch.latents.dtype == dtype
        assert batch.latents.data_ptr() == batch._core.received_at
        assert batch.latents.is_contiguous() and not batch._core.memory.copied
        batch.latents.mul_(2)


def test_tensors_are_what_arrays_are(load):
    for a, b in zip(load(), load(as_="torch", dtype="bfloat16")):
        wanted = torch.from_numpy(a.latents).to(torch.bfloat16)
        assert torch.equal(wanted, b.latents)


def test_a_device_changes_nothing_but_the_place(load):
    plain = load(as_="torch", epochs=2)
    reference = [batch for _ in range(2) for batch in plain]
    loader = load(as_="torch", device="cpu", epochs=2)
    got = []
    states = []
    for _ in range(2):
        for batch in loader:
            got.append(batch)
            states.append(loader.state_dict())
    assert seen(got) == seen(reference)
    for a, b in zip(got, reference):
        assert torch.equal(a.latents, b.latents)
    # What was fetched ahead has not been received.
    again = load(as_="torch", device="cpu", epochs=2)
    for at in (0, 2, len(again) - 1, len(again)):
        again.load_state_dict(states[at])
        rest = [b for _ in range(again.epoch, 2) for b in again]
        assert seen(rest) == seen(got[at + 1 :])


def test_a_device_delivers_before_the_next_is_there(load):
    from conftest import started

    with started("vae=synthetic") as one:
        loader = load(as_="torch", endpoint=one.endpoint, device="cpu", max_batches_ahead=1)
        it = iter(loader)
        first = next(it)
        one.kill()
        assert first.step == 0


def test_pinning_without_cuda_is_said_and_harmless(load):
    if torch.cuda.is_available():
        pytest.skip("there is a device here")
    with pytest.warns(RuntimeWarning, match="no CUDA device"):
        loader = load(as_="torch", pin_memory=True)
    assert len(list(loader)) == len(loader)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda(load):
    reference = list(load(as_="torch"))
    for options in ({"device": "cuda"}, {"pin_memory": True}):
        for a, b in zip(load(as_="torch", **options), reference):
            assert a.latents.is_pinned() if "pin_memory" in options else a.latents.is_cuda
            assert torch.equal(a.latents.cpu(), b.latents)


def test_numpy_and_a_device_do_not_go_together(load):
    with pytest.raises(preheat.ConfigError, match="as_` is numpy"):
        load(device="cpu", as_="numpy")


def test_batches_go_where_frameworks_send_them(load):
    batch = next(iter(load(as_="numpy")))
    moved = batch.to("cpu")
    assert isinstance(moved.latents, torch.Tensor) and moved.keys == batch.keys
    accelerate = pytest.importorskip("accelerate.utils")
    assert accelerate.send_to_device(batch, "cpu").latents.shape == batch.latents.shape


def test_inside_torchs_loader(load):
    loader = load(as_="torch")
    reference = seen(load())
    dataset = loader.as_iterable_dataset()
    assert isinstance(dataset, torch.utils.data.IterableDataset) and len(dataset) == len(loader)
    outer = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=0)
    assert len(outer) == len(loader)
    it = iter(outer)
    first = [next(it) for _ in range(2)]
    state = dataset.state_dict()
    assert seen(first) + seen(it) == reference
    dataset.load_state_dict(state)
    assert seen(outer) == reference[2:]
    dataset.set_epoch(0)
    assert seen(outer) == reference


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_make_no_sense(load, method):
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    dataset = load(as_="torch").as_iterable_dataset()
    outer = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=2, multiprocessing_context=method
    )
    it = iter(outer)
    with pytest.raises(preheat.ConfigError, match="num_workers=0"):
        next(it)
    # Else torch's workers wait until the traceback is gone.
    it._shutdown_workers()


def test_ranks_come_from_torch_distributed(load, tmp_path):
    distributed = torch.distributed
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        loader = load(rank=None, world_size=None)
        assert (loader.rank, loader.world_size) == (0, 1)
    finally:
        distributed.destroy_process_group()


RANKS = Path(__file__).parent / "ranks.py"


def torchrun(ranks, out, photos, endpoint, *args):
    """Runs `ranks.py` under torchrun; what each rank wrote, step by step."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    # A rendezvous of its own: its port is the system's choice.
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command += [str(RANKS), "--out", str(out), "--dataset", str(photos), "--endpoint", endpoint]
    done = subprocess.run(
        command + [str(arg) for arg in args],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
    )
    lines = []
    for rank in range(ranks):
        text = (out.parent / f"{out.name}.{rank}").read_text()
        lines.append([json.loads(line) for line in text.splitlines()])
    return done, lines


def whole(lines):
    """The global batches; all ranks have the same bucket at each step."""
    steps = []
    for parts in zip(*lines):
        assert len({(p["epoch"], p["step"], tuple(p["bucket"])) for p in parts}) == 1
        ids = [i for part in parts for i in part["ids"]]
        steps.append((parts[0]["epoch"], parts[0]["step"], tuple(parts[0]["bucket"]), ids))
    return steps


def test_torchrun_killed_and_resumed_at_other_sizes(tmp_path, photos, endpoint, load):
    loader = load()
    reference = [batch for _ in range(3) for batch in seen(loader)]
    state = tmp_path / "state.json"
    got = []
    for ranks, kill_at in ((2, 3), (1, 5), (2, None)):
        args = ["--state", state, "--epochs", 3]
        args += ["--kill-after", kill_at] if kill_at else []
        done, lines = torchrun(ranks, tmp_path / f"run{len(got)}", photos, endpoint, *args)
        assert (done.returncode == 0) == (kill_at is None), done.stderr.decode()
        # What came after the last state was saved is done again.
        got = got[: len(got) - 1] if got else got
        got += whole(lines)
    assert got == reference
    for epoch in range(3):
        ids = [i for e, _, _, ids in got if e == epoch for i in ids]
        assert sorted(set(ids)) == list(range(24))
