"""What is given, as the core takes it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from . import _ranks
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
    dataset, objects = _place_of(options["dataset"])
    store = dict(options["store"] or {})
    if objects:
        store["objects"] = objects
    settings = {"rank": rank, "world_size": world_size, "global_batch": total, "dataset": dataset}
    nested = {"store": store or None, "cache": options["cache"] and dict(options["cache"])}
    return {**options, **settings, **nested}


def _place_of(dataset: Any) -> Tuple[str, List[str]]:
    """Where a dataset is, and which objects there are meant: all, where none are named."""
    if isinstance(dataset, (str, os.PathLike)):
        return os.fspath(dataset), []
    try:
        shards = [os.fspath(shard) for shard in dataset]
    except TypeError:
        shards = []
    if not shards:
        raise ConfigError(f"`dataset` is {dataset!r}, must be a path, a URI, or a list of shards")
    folders = [shard.replace(os.sep, "/").split("/")[:-1] for shard in shards]
    common = os.path.commonprefix(folders)
    if not common and any(folders):
        raise ConfigError("`dataset` is a list of shards that do not lie below one place")
    base = "/".join(common)
    return base or ".", [shard[len(base) :].lstrip("/") if base else shard for shard in shards]


def as_json(state: "Union[None, str, Mapping[str, Any]]") -> Optional[str]:
    """A state as the core reads it."""
    if state is None or isinstance(state, str):
        return state
    try:
        return json.dumps(dict(state))
    except (TypeError, ValueError) as error:
        raise StateError(f"is no state, as state_dict() returns it: {error}") from error


def weights(state: str) -> Any:
    """The fingerprint in a state. What is wrong with it the core says better."""
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
