"""The loader for samples that come from a dataset of the user's own."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Tuple, Union

from . import _ranks
from ._order import TAILS, Sampled, Shuffled
from ._settle import BATCH_SIZE
from ._wrapped import WrappedLoader
from .errors import ConfigError

WORKERS = 4
"""Threads that ask the dataset for samples. Most datasets decode, which releases the GIL."""
BATCHES_AHEAD = 8
"""Batches loaded or encoded before the trainer asks: twice the threads, so that all are at work."""
BAD_SAMPLES = ("fail", "skip")


def wrap(
    dataset: Any,
    *,
    endpoint: str,
    model: str,
    size: Tuple[int, int] = (512, 512),
    image: "Union[None, int, str, Callable[[Any], Any]]" = None,
    batch_size: Optional[int] = None,
    sampler: Any = None,
    batch_sampler: Any = None,
    rank: Optional[int] = None,
    world_size: Optional[int] = None,
    seed: int = 0,
    tail: Optional[str] = None,
    crop: "Union[str, Tuple[float, float]]" = "center",
    posterior: str = "mode",
    scale: str = "normalized",
    dtype: Any = "float32",
    filter: Any = "lanczos",
    bad_samples: str = "fail",
    workers: int = WORKERS,
    batches_ahead: int = BATCHES_AHEAD,
    patience: float = 120.0,
    as_: str = "auto",
    pin_memory: bool = False,
    device: Any = None,
    ca_file: Any = None,
    client_cert: Any = None,
    client_key: Any = None,
    server_name: Optional[str] = None,
    token_file: Any = None,
) -> WrappedLoader:
    """Batches of latents from a map-style dataset of your own, such as torch's.

    ```python
    loader = preheat.wrap(dataset, endpoint="http://gpu:50051", model="sdxl", size=(512, 512))
    for batch in loader:
        train(batch.latents, [sample["caption"] for sample in batch.samples])
    ```

    Samples are asked of the dataset in threads, ahead of the trainer, and encoded as they come. There is
    one size of images, and no buckets: those need to know all sizes beforehand, as `DataLoader` does.

    Args:
        dataset: Has `__getitem__` and `__len__`. It is used from several threads.
        endpoint, model: As for `DataLoader`.
        size: Width and height of the output images: each is resized until it covers it, and cut.
        image: Which part of a sample is the image: a function of the sample, a key, or an index. By
            default the sample itself, its first element, or the first of `image`, `jpg`, `png`,
            `pixel_values` and `img` in a dictionary. It is the bytes of a file, a path, a PIL image, or
            an array or tensor of uint8.
        batch_size: Samples of a batch, on each rank; 32.
        sampler: Yields this rank's indices, as torch's samplers do; its `set_epoch`, `state_dict` and
            `generator` are used where it has them. By default the order is the loader's own: a function
            of seed and epoch, over all ranks, whatever their number.
        batch_sampler: Yields lists of indices instead.
        rank, world_size: For the loader's own order; as for `DataLoader`.
        seed: Of order, crops and posterior draws.
        tail: What becomes of the last, incomplete batch: `"pad"`, `"drop"` or `"short"`. By default it is
            filled up, with a sampler short.
        crop, posterior, scale, dtype, filter, patience: As for `DataLoader`.
        bad_samples: `"fail"`, or `"skip"`: zeros in its place, see `WrappedBatch.mask`. An exception of
            the dataset is always raised, when its batch is asked for.
        workers: Threads that ask the dataset.
        batches_ahead: Batches loaded or encoded before they are asked for; in the loader's own order also
            those that the next epoch begins with.
        as_, pin_memory, device: As for `DataLoader`.
        ca_file, client_cert, client_key, server_name, token_file: As for `DataLoader`.

    Raises:
        ConfigError: An option that makes no sense.
        EndpointError: Nobody answers there.
        ModelError: It is not served there, or cannot do what is asked.
    """
    options = dict(locals())
    plan, run = _plan(options)
    return WrappedLoader(dataset, plan, run, options)


def _plan(options: Dict[str, Any]) -> Tuple[Any, Dict[str, Any]]:
    """The order, and what of it a state has to fit."""
    dataset, sampler, batches = options["dataset"], options["sampler"], options["batch_sampler"]
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise ConfigError(f"`dataset` is a {type(dataset).__name__}, must have __getitem__ and __len__")
    for name in ("workers", "batches_ahead"):
        if not isinstance(options[name], int) or options[name] < 1:
            raise ConfigError(f"`{name}` is {options[name]!r}, must be a whole number, 1 or more")
    given = [name for name in ("batch_size", "sampler") if options[name] is not None]
    if batches is not None and given:
        raise ConfigError(f"`batch_sampler` and `{given[0]}` are both given: the former makes the batches")
    if options["bad_samples"] not in BAD_SAMPLES:
        raise ConfigError(f"`bad_samples` is {options['bad_samples']!r}, must be one of {BAD_SAMPLES}")
    own = sampler is None and batches is None
    tail = options["tail"] or ("pad" if own else "short")
    if tail not in TAILS or (tail == "pad" and not own):
        names = TAILS if own else TAILS[1:]
        raise ConfigError(f"`tail` is {tail!r}, must be one of {', '.join(map(repr, names))}")
    size = BATCH_SIZE if options["batch_size"] is None else options["batch_size"]
    if not isinstance(size, int) or size < 1:
        raise ConfigError(f"`batch_size` is {size!r}, must be a whole number, 1 or more")
    seed = options["seed"]
    run: Dict[str, Any] = {
        "samples": len(dataset),
        "seed": seed,
        "tail": tail,
        "size": list(options["size"]),
    }
    for name in ("crop", "posterior", "scale", "dtype", "filter"):
        given_as = getattr(options[name], "__name__", None) or str(options[name])
        run[name] = given_as.rsplit(".", 1)[-1] if name == "dtype" else given_as
    if not own:
        run["sampler"] = type(sampler if batches is None else batches).__name__
        run["batch_size"] = None if sampler is None else size
        return Sampled(batches or sampler, run["batch_size"], seed, tail), run
    ranks = _ranks.find(options["rank"], options["world_size"])
    if not 0 <= ranks[0] < ranks[1]:
        raise ConfigError(f"`rank` is {ranks[0]}, must be 0..={ranks[1] - 1}")
    run["sampler"], run["batch_size"] = None, size * ranks[1]
    return Shuffled(len(dataset), run["batch_size"], ranks, seed, tail), run
