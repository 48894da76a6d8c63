"""What is given, as the core takes it."""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, Mapping, Optional, Union

import numpy as np

from . import _ranks, _sources
from .errors import ConfigError, StateError

BATCH_SIZE = 32
"""Samples of one rank's batch, unless said otherwise."""


def settle(options: Dict[str, Any]) -> Dict[str, Any]:
    """Options as the core takes them."""
    rank, world_size = _ranks.find(options["rank"], options["world_size"])
    each, total = options.pop("batch_size"), options["global_batch"]
    if each is not None and total is not None:
        raise ConfigError("`batch_size` and `global_batch` are both given: the latter is over all ranks")
    for name, size in (("batch_size", each), ("global_batch", total)):
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ConfigError(f"`{name}` is {size!r}, must be a whole number, 1 or more")
    if total is None:
        total = (BATCH_SIZE if each is None else each) * max(world_size, 1)
    settings = {"rank": rank, "world_size": world_size, "global_batch": total}
    cache = options["cache"] and dict(options["cache"])
    weights = _weights(options["weights"])
    return {**options, **settings, **_sources.settle(options), "cache": cache, "weights": weights}


def _weights(given: Any) -> Optional[bytes]:
    """Numbers as the core reads them: float32. What is wrong with one of them it says better."""
    if given is None:
        return None
    try:
        with np.errstate(over="ignore"):
            numbers = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"`weights` must be a number for each sample, in order of ids: {error}") from error
    if numbers.ndim != 1:
        shape = "x".join(map(str, numbers.shape)) or "a single number"
        raise ConfigError(f"`weights` is {shape}, must be a list or array of one dimension: one for each id")
    return numbers.tobytes()


def as_json(state: "Union[None, str, Mapping[str, Any]]") -> Optional[str]:
    """A state as the core reads it."""
    if state is None or isinstance(state, str):
        return state
    try:
        return json.dumps(dict(state))
    except (TypeError, ValueError) as error:
        raise StateError(f"is no state, as state_dict() returns it: {error}") from error


def pinned(state: str) -> Any:
    """The model's fingerprint in a state. What is wrong with it the core says better."""
    try:
        return json.loads(state)["run"]["model_fingerprint"]
    except (KeyError, TypeError, ValueError):
        return None


def refuse_workers() -> None:
    """Refuses to work in a worker process of torch's DataLoader."""
    data = sys.modules.get("torch.utils.data")
    if data is not None and data.get_worker_info() is not None:
        raise ConfigError(
            "`num_workers` makes no sense here: the loader has threads of its own, and a worker process "
            "would load what the others load. Use num_workers=0"
        )
