"""Where samples are: one dataset, or several."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from .errors import ConfigError

if TYPE_CHECKING:
    PathLike = Union[str, "os.PathLike[str]"]

PLACE = {
    "format": None,
    "image_column": None,
    "columns": None,
    "index": None,
    "index_check": True,
    "store": None,
}
"""What is said of where one dataset is, and what it is where nothing is said."""


class Source:
    """One of several datasets that are mixed, and how much of an epoch comes from it.

    ```python
    dataset={"photos": "photos", "art": preheat.Source("s3://bucket/art/{000..099}.tar", repeats=2.5)}
    ```

    Args:
        dataset: As for `DataLoader`: a folder, a URI, or a list of shards.
        repeats: How often an epoch delivers each of its samples, once by default: 2.5 is in turn twice and
            three times, 0 never.
        weight: Which part of what is delivered comes from it, in proportion to the other sources', which
            then have weights too. `epoch_samples` says how long an epoch is.
        format, image_column, columns, index, index_check, store: As for `DataLoader`.
    """

    def __init__(
        self,
        dataset: "Union[PathLike, Sequence[PathLike]]",
        *,
        repeats: Optional[float] = None,
        weight: Optional[float] = None,
        format: Optional[str] = None,
        image_column: Optional[str] = None,
        columns: Optional[Sequence[str]] = None,
        index: "Optional[PathLike]" = None,
        index_check: bool = True,
        store: Optional[Mapping[str, Any]] = None,
    ) -> None:
        options = dict(locals())
        del options["self"]
        if repeats is not None and weight is not None:
            raise ConfigError("`repeats` and `weight` are both given: a source has one of them")
        self._options = options

    def __repr__(self) -> str:
        given = {name: value for name, value in self._options.items() if name != "dataset"}
        given = {name: value for name, value in given.items() if value != PLACE.get(name)}
        said = [repr(self._options["dataset"])] + [f"{name}={value!r}" for name, value in given.items()]
        return f"Source({', '.join(said)})"


def settle(options: Dict[str, Any]) -> Dict[str, Any]:
    """What the core is to know of where samples are."""
    dataset, epoch_samples = options["dataset"], options["epoch_samples"]
    if isinstance(dataset, Mapping):
        return {"mix": _mix(dataset, options), **{name: None for name in ("dataset", *PLACE)}}
    if isinstance(dataset, Source):
        raise ConfigError(f"`dataset` is {dataset!r}: sources have names, so {{'name': Source(…)}}")
    if epoch_samples is not None:
        raise ConfigError("`epoch_samples` is for several datasets with weights: leave it out")
    return _place(options)


def _mix(dataset: Mapping[Any, Any], options: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Several datasets by name, each with a share, all of one kind."""
    if not dataset:
        raise ConfigError("`dataset` is empty: give at least one dataset by name")
    for name, default in PLACE.items():
        if options[name] != default:
            raise ConfigError(
                f"`{name}` is given, and `dataset` is several, each with its own: give it to preheat.Source"
            )
    sources: Dict[str, Dict[str, Any]] = {}
    for name, one in dataset.items():
        if not isinstance(name, str):
            raise ConfigError(f"`dataset` has the name {name!r}, must be a string")
        source = one if isinstance(one, Source) else Source(one)
        try:
            sources[name] = {**source._options, **_place(source._options)}
        except ConfigError as error:
            raise ConfigError(f"{error} (source {name!r})") from None
    weighted = [name for name, source in sources.items() if source["weight"] is not None]
    others = [name for name in sources if name not in weighted]
    if weighted and others:
        raise ConfigError(
            f"`dataset` has a weight for {weighted[0]!r} and none for {others[0]!r}: give all sources "
            "weights, or all of them repeats"
        )
    if not weighted and options["epoch_samples"] is not None:
        raise ConfigError(
            "`epoch_samples` is given, and no weights: repeats say themselves how long an epoch is. Give "
            "the sources weights, or leave it out"
        )
    return sources


def _place(options: Mapping[str, Any]) -> Dict[str, Any]:
    """Where one dataset is, and which objects there are meant: all, where none are named."""
    base, objects = _base(options["dataset"])
    store = dict(options["store"] or {})
    if objects:
        store["objects"] = objects
    return {"dataset": base, "store": store or None}


def _base(dataset: Any) -> Tuple[str, List[str]]:
    if isinstance(dataset, (str, os.PathLike)):
        return os.fspath(dataset), []
    try:
        shards = [os.fspath(shard) for shard in dataset]
    except TypeError:
        shards = []
    if not shards:
        must = "a path, a URI, a list of shards, or a dictionary of several by name"
        raise ConfigError(f"`dataset` is {dataset!r}, must be {must}")
    folders = [shard.replace(os.sep, "/").split("/")[:-1] for shard in shards]
    common = os.path.commonprefix(folders)
    if not common and any(folders):
        raise ConfigError("`dataset` is a list of shards that do not lie below one place")
    base = "/".join(common)
    return base or ".", [shard[len(base) :].lstrip("/") if base else shard for shard in shards]
