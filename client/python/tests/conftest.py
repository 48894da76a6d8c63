"""Real replicas, in processes of their own, on ports that the system picks; photos on a real disk."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import preheat

SERVER = os.environ.get("PREHEAT_TEST_SERVER", "")
# A replica without weights is there within a moment; this is for machines that are busy.
START_SECONDS = 60


def interruptible():
    """In a child: a suite that runs in the background ignores Ctrl-C, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Replica:
    """A replica of its own."""

    def __init__(self, model="vae=synthetic", listen="127.0.0.1:0"):
        command = [SERVER, "serve"] if Path(SERVER).name.startswith("it-") else [SERVER]
        command += ["--listen", listen, "--model", model]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        line = self.process.stdout.readline().decode()
        found = re.match(r"listening on (\S+)", line)
        assert found, f"the replica said {line!r}"
        self.address = found[1]
        self.endpoint = "http://" + self.address

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def replica():
    with started() as one:
        yield one


@contextlib.contextmanager
def started(*args, **kwargs):
    one = Replica(*args, **kwargs)
    try:
        yield one
    finally:
        one.kill()


@pytest.fixture(scope="session")
def endpoint(replica):
    return replica.endpoint


def jpeg(seed, size, quality=90):
    """A picture that no other is like."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


SIZES = [(96, 64), (64, 96), (80, 80)]


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """24 photos of three shapes, with captions and metadata."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(24):
        name = folder / f"{i:03}"
        name.with_suffix(".jpg").write_bytes(jpeg(i, SIZES[i % 3]))
        name.with_suffix(".txt").write_text(f"photo {i} äöü", encoding="utf-8")
        name.with_suffix(".json").write_text(json.dumps({"number": i}))
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory):
    """Indexes go where they are gone with the session."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture
def options(photos, endpoint):
    """What every loader here has in common."""
    return {
        "dataset": str(photos),
        "endpoint": endpoint,
        "model": "vae",
        "global_batch": 4,
        "rank": 0,
        "world_size": 1,
        "target_area": 64 * 64,
        "bucket_step": 8,
        "seed": 7,
        "as_": "numpy",
    }


@pytest.fixture
def load(options):
    """Makes loaders, and closes them."""
    with contextlib.ExitStack() as stack:

        def make(**changes):
            given = {**options, **changes}
            given = {name: value for name, value in given.items() if value is not ...}
            return stack.enter_context(preheat.DataLoader(given.pop("dataset"), **given))

        yield make


def seen(batches):
    """What a sequence of batches is, for comparing."""
    return [(b.epoch, b.step, b.bucket, b.ids.tolist()) for b in batches]
