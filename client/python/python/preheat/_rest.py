"""What a `for` loop over a loader goes through."""

from typing import Generic, Optional, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Source(Protocol[T_co]):
    def _next(self) -> Optional[T_co]:
        """The next batch; `None` at the end of an epoch."""


class Rest(Generic[T]):
    """What is left of an epoch, once."""

    def __init__(self, loader: _Source[T]) -> None:
        self._loader = loader
        self._over = False

    def __iter__(self) -> "Rest[T]":
        return self

    def __next__(self) -> T:
        batch = None if self._over else self._loader._next()
        if batch is None:
            self._over = True
            raise StopIteration
        return batch
