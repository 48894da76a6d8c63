"""Copies to a device while the trainer computes: one batch ahead."""

from __future__ import annotations

import warnings
from typing import Any, Callable, Generic, Optional, TypeVar

from . import _arrays

Batch = TypeVar("Batch", bound=Any)
"""What has `latents`, `to` and `pin_memory`."""


class Mover:
    """Brings batches into page-locked memory, and to a device, on a stream of its own."""

    def __init__(self, device: Any, pin_memory: bool) -> None:
        torch = _arrays.torch()
        self._torch = torch
        self._device = None if device is None else torch.device(device)
        cuda = torch.cuda.is_available()
        if pin_memory and not cuda:
            warnings.warn(
                "pin_memory has no effect: there is no CUDA device here",
                RuntimeWarning,
                stacklevel=4,
            )
        on_cuda = self._device is not None and self._device.type == "cuda"
        # A copy from other memory would not overlap with anything.
        self._pins = cuda and (pin_memory or on_cuda)
        self._stream = torch.cuda.Stream(self._device) if on_cuda else None

    def begin(self, batch: Any) -> Any:
        """Starts the copy."""
        if self._pins:
            batch = batch.pin_memory()
        if self._device is None:
            return batch
        if self._stream is None:
            return batch.to(self._device)
        with self._torch.cuda.stream(self._stream):
            return batch.to(self._device, non_blocking=True)

    def finish(self, batch: Any) -> Any:
        """Makes what the trainer computes from now on wait for the copy."""
        if self._stream is not None:
            current = self._torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            # Its memory may be reused only after the trainer is through with it.
            batch.latents.record_stream(current)
        return batch


class Ahead(Generic[Batch]):
    """Batches from `take`, each moved while the one before is in use.

    The next one is begun only if it is there already: a batch never waits for the one after it.
    """

    def __init__(
        self,
        take: Callable[[], Optional[Batch]],
        is_ready: Callable[[], bool],
        mover: Mover,
    ) -> None:
        self._take = take
        self._is_ready = is_ready
        self._mover = mover
        self._held: Optional[Batch] = None
        self._at_end = False
        self._error: Optional[Exception] = None

    def next(self) -> Optional[Batch]:
        """The next batch; `None` once at the end of each epoch."""
        if self._at_end:
            self._at_end = False
            return None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        batch = self._held
        self._held = None
        if batch is None:
            batch = self._begin()
            self._at_end = False
            if batch is None:
                return None
        arrived: Batch = self._mover.finish(batch)
        if self._is_ready():
            try:
                self._held = self._begin()
            except Exception as error:
                # It is the next batch's: this one is fine.
                self._error = error
        return arrived

    def holds(self) -> bool:
        """Whether something was taken and is not delivered yet."""
        return self._held is not None or self._error is not None

    def _begin(self) -> Optional[Batch]:
        batch = self._take()
        self._at_end = batch is None
        if batch is None:
            return None
        moving: Batch = self._mover.begin(batch)
        return moving
