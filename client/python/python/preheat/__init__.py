"""VAE latents just in time for diffusion training: the loader, inside a trainer.

`DataLoader` is the loader, `Encoder` encodes single images, `wrap` loads from a dataset of your own, and
`serve` starts a local replica. Exceptions are in `preheat.errors`.
"""

from __future__ import annotations

from ._batch import Batch
from ._core import __version__
from ._encoder import Encoder
from ._loader import DataLoader
from ._serve import Server, serve
from ._sources import Source
from ._wrap import wrap
from ._wrapped import WrappedBatch, WrappedLoader
from .errors import (
    BadSampleError,
    CallError,
    ClosedError,
    ConfigError,
    DatasetError,
    EndpointError,
    ForkError,
    InternalError,
    ModelError,
    PreheatError,
    RefusedError,
    ServerError,
    ServerNotFoundError,
    StateError,
    StateMismatchError,
    StoppedError,
    TooManyBadError,
    TorchMissingError,
    UnknownModelError,
)

__all__ = [
    "BadSampleError",
    "Batch",
    "CallError",
    "ClosedError",
    "ConfigError",
    "DataLoader",
    "DatasetError",
    "Encoder",
    "EndpointError",
    "ForkError",
    "InternalError",
    "ModelError",
    "PreheatError",
    "RefusedError",
    "Server",
    "ServerError",
    "ServerNotFoundError",
    "Source",
    "StateError",
    "StateMismatchError",
    "StoppedError",
    "TooManyBadError",
    "TorchMissingError",
    "UnknownModelError",
    "WrappedBatch",
    "WrappedLoader",
    "__version__",
    "serve",
    "wrap",
]
