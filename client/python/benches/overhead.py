"""What Python adds to a batch, and what the loader takes from other threads while it waits.

    preheat-server --listen 127.0.0.1:0 --model null=synthetic:decode=off
    python benches/overhead.py --endpoint http://127.0.0.1:PORT --model null

    preheat-server --listen 127.0.0.1:0 --model slow=synthetic:ms-per-megapixel=10000000
    python benches/overhead.py --slow http://127.0.0.1:PORT

Both figures are ratios or differences within one run: batches that are ready are taken by Rust alone and by
Python in turn, and a thread counts while the main thread sleeps and while it waits in turn. Batches are timed
one by one, and medians compared: what else the machine does falls upon a few of them. JSON on stdout.
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

import preheat

BATCHES = 100
ROUNDS = 9
COUNT_SECONDS = 1.0


def photos(folder, count):
    rng = np.random.default_rng(0)
    for i in range(count):
        out = io.BytesIO()
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(out, "JPEG")
        (folder / f"{i:05}.jpg").write_bytes(out.getvalue())
        (folder / f"{i:05}.txt").write_text(f"photo {i}")


def use(*_):
    """Nothing: what is measured is the making."""


def ready(loader, batches):
    """Waits until so many batches are there: what is measured is the taking."""
    while loader.stats()["ready_batches"] < batches:
        time.sleep(0.01)


def overhead(args, folder):
    """Microseconds for each batch: Rust alone, Python with latents, Python with what SDXL is told."""
    options = {
        "target_area": args.side**2,
        "repeats": args.batch * BATCHES // 64,
        "dtype": "float16",
    }
    loader = preheat.DataLoader(
        folder,
        endpoint=args.endpoint,
        model=args.model,
        batch_size=args.batch,
        as_=args.as_,
        **options,
    )

    def rust():
        return loader._loader.take(BATCHES)[1:]

    def timed(use_all):
        stamps = []
        for batch in loader:
            use_all(batch)
            stamps.append(time.perf_counter())
        # The batch before is given back within each of them.
        return [b - a for a, b in zip(stamps, stamps[1:])]

    def latents():
        return timed(lambda batch: use(batch.latents))

    def everything():
        return timed(lambda b: use(b.latents, b.ids, b.captions, b.keys, b.micro_conditioning, b.mask))

    times = {}
    with loader:
        assert len(loader) == BATCHES
        loader._loader.take(BATCHES)
        for _ in range(ROUNDS):
            for kind in (rust, latents, everything):
                loader.seek(1)
                ready(loader, BATCHES)
                times.setdefault(kind.__name__, []).extend(kind())
    medians = {name: 1e6 * statistics.median(each) for name, each in times.items()}
    return {
        "batch": args.batch,
        "as": "torch" if loader._as == "torch" else "numpy",
        "microseconds_per_batch": medians,
        "added_by_python": medians["latents"] - medians["rust"],
        "added_with_everything": medians["everything"] - medians["rust"],
    }


def share(args, folder):
    """The part of its speed that another thread keeps while the loader waits."""
    counts = [0]
    over = threading.Event()

    def count():
        while not over.is_set():
            counts[0] += 1

    def speed(wait):
        before, start = counts[0], time.perf_counter()
        wait()
        return (counts[0] - before) / (time.perf_counter() - start)

    loader = preheat.DataLoader(folder, endpoint=args.slow, model="slow", as_="numpy", target_area=4096)

    def waits():
        # Ends as Ctrl-C would end it.
        with contextlib.suppress(TimeoutError):
            next(iter(loader))

    import signal

    def stop(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    thread = threading.Thread(target=count)
    thread.start()
    ratios = []
    try:
        for _ in range(ROUNDS):
            alone = speed(lambda: time.sleep(COUNT_SECONDS))
            signal.setitimer(signal.ITIMER_REAL, COUNT_SECONDS)
            ratios.append(speed(waits) / alone)
    finally:
        over.set()
        thread.join()
        loader.close()
    return {"speed_kept_by_another_thread": statistics.median(ratios), "all": ratios}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--endpoint")
    parser.add_argument("--slow")
    parser.add_argument("--model", default="null")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--as", dest="as_", default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos(Path(folder), 64)
        results = {}
        if args.endpoint:
            results["overhead"] = overhead(args, folder)
        if args.slow:
            results["while_waiting"] = share(args, folder)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
