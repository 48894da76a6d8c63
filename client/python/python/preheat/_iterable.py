"""The loader as torch's `IterableDataset`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

from ._arrays import torch

if TYPE_CHECKING:
    from ._loader import DataLoader

_CLASSES: "dict[str, Any]" = {}


def make(loader: "DataLoader") -> Any:
    """An instance, of a class that can be made only where there is torch."""
    if "LoaderDataset" not in _CLASSES:
        torch()
        from torch.utils.data import IterableDataset

        base: Any = IterableDataset
        _CLASSES["LoaderDataset"] = type("LoaderDataset", (_Methods, base), {"__reduce__": _reduce})
    return _CLASSES["LoaderDataset"](loader)


def _reduce(self: Any) -> Any:
    return (make, (self.loader,))


class _Methods:
    """What it does: pass on. Batches are whole already, so `batch_size` has to be `None`."""

    def __init__(self, loader: "DataLoader") -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        self.loader.set_epoch(epoch)

    def state_dict(self) -> Any:
        return self.loader.state_dict()

    def load_state_dict(self, state_dict: Any) -> None:
        self.loader.load_state_dict(state_dict)
