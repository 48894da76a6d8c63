"""What users do wrong, and what they are told."""

import inspect
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

import preheat
from conftest import interruptible, jpeg, started


def test_options_are_named_with_what_would_be_right(load):
    for change, text in [
        ({"flip": "much"}, "`flip` is 'much', must be a number"),
        ({"flip": 2.0}, "`flip` is 2"),
        ({"tail": "cut"}, 'must be one of "pad", "drop", "short"'),
        ({"dtype": "float64"}, "float32, float16 or bfloat16"),
        ({"shuffle": {"shard": 1}}, '{"shards": n}'),
        ({"crop": (0.5, 0.4)}, "`crop`"),
        ({"buckets": [(64, 0)]}, "`buckets` has 64x0"),
        ({"subset": {"from": 1}}, "`subset`"),
        ({"filter": "nearest"}, "bilinear, bicubic, lanczos"),
        ({"world_size": 3}, "does not divide global_batch"),
        ({"cache": {"folder": "x"}}, "`cache.max_bytes` is missing"),
        ({"cache": {"folder": "x", "max_bytes": 1 << 20, "size": 3}}, "`cache.size` is not known"),
        ({"store": {"patience": 3}}, "`store.patience` is not known"),
        ({"columns": ["a"]}, 'format="parquet"'),
        ({"as_": "jax"}, "`as_` is 'jax'"),
        ({"global_batch": 0}, "`global_batch` is 0"),
        ({"batch_size": 2}, "both given"),
        ({"patience": -1.0}, "`patience` is -1, must be seconds"),
        ({"rank": -1}, "`rank` is -1"),
        ({"dataset": 3}, "`dataset` is 3"),
        ({"token_file": "/nowhere"}, "token_file"),
    ]:
        with pytest.raises(preheat.ConfigError) as raised:
            load(**change)
        assert text in str(raised.value), change
        assert isinstance(raised.value, ValueError)


def test_defaults_are_the_cores():
    ours = inspect.signature(preheat.DataLoader.__init__).parameters
    core = preheat._core.defaults()
    from preheat._settle import BATCH_SIZE

    assert core.pop("batch_size") == BATCH_SIZE
    core.pop("connections")
    for name, value in core.items():
        assert ours[name].default == value, name
    assert all(p.kind is p.KEYWORD_ONLY for name, p in ours.items() if name not in ("self", "dataset"))


def test_datasets_that_are_not_there(load, tmp_path):
    with pytest.raises(preheat.DatasetError, match="nowhere"):
        load(dataset=tmp_path / "nowhere")
    with pytest.raises(preheat.DatasetError, match="has no images"):
        load(dataset=tmp_path)
    with pytest.raises(preheat.DatasetError, match="s3://"):
        load(dataset="ftp://host/photos")


def test_nobody_at_the_endpoint(load):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(preheat.EndpointError, match="start a replica there") as raised:
            load(endpoint=nobody, connect_timeout=0.2)
    assert isinstance(raised.value, ConnectionError)


def test_models_that_are_not_there(load):
    with pytest.raises(preheat.UnknownModelError, match="it serves `vae`"):
        load(model="sdxl")
    with pytest.raises(preheat.ModelError, match="no posterior"):
        load(posterior="sample")
    with pytest.raises(preheat.ModelError, match="multiples of"):
        load(buckets=[(68, 64)])


def test_states_of_other_runs(load, tmp_path):
    state = load(seed=1).state_dict()
    loader = load()
    before = loader.state_dict()
    with pytest.raises(preheat.StateMismatchError, match="seed was 1, is 7") as raised:
        loader.load_state_dict(state)
    assert raised.value.fields == ["seed was 1, is 7"]
    assert loader.state_dict() == before and len(list(loader)) == len(loader)
    (tmp_path / "0.jpg").write_bytes(jpeg(1, (64, 64)))
    with pytest.raises(preheat.StateMismatchError, match="dataset_fingerprint"):
        load(dataset=tmp_path, resume=before)
    with started("vae=synthetic:version=2") as other:
        with pytest.raises(preheat.StateMismatchError, match="model_fingerprint"):
            load(endpoint=other.endpoint, resume=before)
    for rubbish in ({}, {"state_version": 99}, "{", {"a": object()}, [1]):
        with pytest.raises(preheat.StateError):
            loader.load_state_dict(rubbish)


def test_bad_samples(load, tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(i, (64, 64)))
    good = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(good[: len(good) // 3])
    given = {"dataset": tmp_path, "global_batch": 3, "max_bad_share": 1.0}
    loader = load(**given)
    with pytest.raises(preheat.BadSampleError) as raised:
        list(loader)
    assert raised.value.key == "1.jpg" and raised.value.reason
    with pytest.raises(preheat.StoppedError, match="1.jpg"):
        list(loader)
    skipped = next(iter(load(bad_samples="skip", **given)))
    assert skipped.mask.sum() == 2
    assert (skipped.latents[~skipped.mask] == 0).all()
    replaced = next(iter(load(bad_samples="substitute", **given)))
    assert replaced.mask.all() and 1 in replaced.substitute_of
    with pytest.raises(preheat.TooManyBadError):
        list(load(**{**given, "bad_samples": "skip", "max_bad_samples": 0}))


def test_closed(load):
    loader = load()
    it = iter(loader)
    next(it)
    loader.close()
    loader.close()
    for use in (lambda: next(it), loader.stats, loader.state_dict, lambda: list(loader)):
        with pytest.raises(preheat.ClosedError):
            use()


def test_close_ends_a_wait(load):
    with started("vae=synthetic:ms-per-megapixel=10000000") as slow:
        loader = load(endpoint=slow.endpoint)
        caught = []

        def wait():
            try:
                next(iter(loader))
            except preheat.PreheatError as error:
                caught.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        loader.close()
        thread.join(30)
        assert not thread.is_alive()
    assert isinstance(caught[0], preheat.ClosedError)


def test_without_torch(load, monkeypatch):
    # As Python has it where a module cannot be imported.
    monkeypatch.setitem(sys.modules, "torch", None)
    assert isinstance(next(iter(load(as_="auto"))).latents, np.ndarray)
    for use in (
        lambda: load(as_="torch"),
        lambda: next(iter(load())).to("cpu"),
        lambda: load().as_iterable_dataset(),
    ):
        with pytest.raises(preheat.TorchMissingError, match="pip install torch") as raised:
            use()
        assert isinstance(raised.value, ImportError)
    with pytest.raises(preheat.ConfigError, match="`as_` is numpy"):
        load(device="cuda")


def test_exceptions_travel():
    error = preheat.BadSampleError("text", key="k", reason="r")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.key, again.reason) == (type(error), "text", "k", "r")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_loaders_say_so(load):
    loader, unstarted = load(), load(start=False)
    next(iter(loader))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            try:
                next(iter(loader))
            except preheat.ForkError:
                # What was not started is as good here as there.
                code = 0 if len(list(unstarted)) == len(unstarted) else 2
            loader.close()
            del loader
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(list(loader)) == len(loader) - 1


SPIN = """
import sys, preheat
loader = preheat.DataLoader(sys.argv[1], endpoint=sys.argv[2], model="vae", as_="numpy")
print("waiting", flush=True)
next(iter(loader))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_a_wait(photos):
    with started("vae=synthetic:ms-per-megapixel=10000000") as slow:
        child = subprocess.Popen(
            [sys.executable, "-c", SPIN, str(photos), slow.endpoint],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=interruptible,
        )
        assert child.stdout.readline() == b"waiting\n"
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    assert b"KeyboardInterrupt" in said


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_the_start(photos):
    # Somebody who takes calls and never answers.
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        child = subprocess.Popen(
            [sys.executable, "-c", "print('waiting', flush=True)\n" + SPIN, str(photos)]
            + [f"http://127.0.0.1:{mute.getsockname()[1]}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=interruptible,
        )
        assert child.stdout.readline() == b"waiting\n"
        # It has called: it is within the constructor.
        mute.settimeout(30)
        call, _ = mute.accept()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
        call.close()
    assert b"KeyboardInterrupt" in said
