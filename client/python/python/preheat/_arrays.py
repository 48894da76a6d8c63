"""Latents as arrays: where they were received, without a copy."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ConfigError, TorchMissingError

if TYPE_CHECKING:
    from . import _core

KINDS = ("auto", "torch", "numpy")


def choose(kind: str) -> str:
    """What to deliver: `torch` or `numpy`."""
    if kind not in KINDS:
        raise ConfigError(f"`as_` is {kind!r}, must be one of {', '.join(map(repr, KINDS))}")
    if kind == "numpy":
        return kind
    if sys.modules.get("torch") is not None or importlib.util.find_spec("torch") is not None:
        return "torch"
    if kind == "torch":
        raise TorchMissingError(
            '`as_` is "torch", and torch is not installed: pip install torch, or as_="numpy"'
        )
    return "numpy"


def torch() -> Any:
    """The module."""
    try:
        import torch as module
    except ImportError as error:
        raise TorchMissingError() from error
    return module


def array(memory: "_core.Memory", dtype: str, kind: str) -> Any:
    """An array over the core's memory, which it keeps alive."""
    plain = np.asarray(memory)
    if kind == "numpy":
        return _bfloat16(plain) if dtype == "bfloat16" else plain
    t = torch()
    if dtype == "bfloat16":
        # Through a type that both know, and every torch has.
        return t.from_numpy(plain.view(np.int16)).view(t.bfloat16)
    return t.from_numpy(plain)


def _bfloat16(plain: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """NumPy has no bfloat16; with `ml_dtypes` there is one, without it stays the bits, as uint16."""
    try:
        extra: Any = importlib.import_module("ml_dtypes")
    except ImportError:
        return plain
    return plain.view(extra.bfloat16)
