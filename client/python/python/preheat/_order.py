"""Which samples of a map-style dataset make up which batch."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import sys
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from . import _core
from .errors import ConfigError, StateMismatchError

Planned = Tuple[List[int], List[bool]]
"""Indices of a batch's samples, and which of them only fill it up."""

TAILS = ("pad", "drop", "short")


class Shuffled:
    """The loader's own order: a function of seed, epoch and step, the same for every number of ranks."""

    LOOKS_PAST_THE_END = True
    """Whether the next epoch's order is known before it begins."""

    def __init__(self, length: int, batch: int, ranks: Tuple[int, int], seed: int, tail: str) -> None:
        self._length, self._batch, self._ranks, self._seed = length, batch, ranks, seed
        self._tail = tail
        if self.steps() == 0:
            raise ConfigError(
                f"`batch_size` is {batch} over all ranks, more than the dataset's {length} samples, and "
                'incomplete batches are dropped: lower it, or set tail="pad"'
            )

    def steps(self) -> int:
        """Batches of an epoch."""
        whole = self._length // self._batch
        return whole if self._tail == "drop" or self._length % self._batch == 0 else whole + 1

    def epoch(self, epoch: int, first: int) -> Iterator[Planned]:
        """The batches of an epoch for this rank, from a step on."""
        order = _core.Order(self._length, self._seed, epoch)
        rank, world_size = self._ranks
        for step in range(first, self.steps()):
            start = step * self._batch
            stop = start + self._batch
            if self._tail == "short":
                stop = min(stop, self._length)
            cut = [start + part * (stop - start) // world_size for part in (rank, rank + 1)]
            places = range(cut[0], cut[1])
            # What fills up the last batch is the front of the order.
            indices = [order[place % self._length] for place in places]
            yield indices, [place >= self._length for place in places]

    def digest(self, before: str, indices: List[int]) -> str:
        """Nothing: what there is in a state says what is drawn, on every rank."""
        return before

    def drawn(self, epoch: int, step: int) -> str:
        """The same of everything before a step."""
        return ""

    def began(self) -> Dict[str, Any]:
        """What else a state needs: nothing."""
        return {}

    draws = began

    def restore(self, began: Dict[str, Any]) -> None:
        """Nothing is drawn but by seed and epoch."""


class Sampled:
    """The order of a sampler: this rank's indices, or whole batches of them."""

    LOOKS_PAST_THE_END = False
    """A sampler may be told things between epochs, and what it has drawn is part of its state."""

    def __init__(self, sampler: Any, batch: Optional[int], seed: int, tail: str) -> None:
        self._sampler, self._batch, self._seed, self._tail = sampler, batch, seed, tail
        self._began: Dict[str, Any] = {}
        self._restored = False

    def steps(self) -> int:
        """Batches of an epoch, as far as the sampler says."""
        length = len(self._sampler)
        if self._batch is None:
            return length
        whole = length // self._batch
        return whole if self._tail == "drop" or length % self._batch == 0 else whole + 1

    def epoch(self, epoch: int, first: int) -> Iterator[Planned]:
        """The batches of an epoch, from a step on: those before are drawn, and not loaded."""
        if hasattr(self._sampler, "set_epoch"):
            self._sampler.set_epoch(epoch)
        if not self._restored:
            self._began = self.draws()
        self._restored = False
        for step, indices in enumerate(self._batches(epoch)):
            if step >= first:
                yield indices, [False] * len(indices)

    def digest(self, before: str, indices: List[int]) -> str:
        """A hash of all indices so far: what is resumed is held against it."""
        hasher = hashlib.blake2b(before.encode(), digest_size=16)
        hasher.update(np.asarray(indices, dtype="<i8").tobytes())
        return hasher.hexdigest()

    def drawn(self, epoch: int, step: int) -> str:
        """The hash of what is drawn before a step."""
        seen = ""
        for indices, _ in itertools.islice(self.epoch(epoch, 0), step):
            seen = self.digest(seen, indices)
        return seen

    def _batches(self, epoch: int) -> Iterator[List[int]]:
        with _seeded(self._seed, epoch):
            # Samplers draw when they are asked for the first time.
            drawn = iter(self._sampler)
            head = next(drawn, None)
        if head is None:
            return
        if self._batch is None:
            yield [int(index) for index in head]
            yield from ([int(index) for index in indices] for indices in drawn)
            return
        batch = [int(head)]
        for index in drawn:
            if len(batch) == self._batch:
                yield batch
                batch = []
            batch.append(int(index))
        if len(batch) == self._batch or self._tail == "short":
            yield batch

    def draws(self) -> Dict[str, Any]:
        """What the sampler draws from, as it is now."""
        began: Dict[str, Any] = {}
        if hasattr(self._sampler, "state_dict"):
            began["sampler"] = self._sampler.state_dict()
        generator = getattr(self._sampler, "generator", None)
        if generator is not None and hasattr(generator, "get_state"):
            state = generator.get_state().numpy().tobytes()
            began["generator"] = base64.b64encode(state).decode()
        return began

    def began(self) -> Dict[str, Any]:
        """What the sampler drew from when the epoch began."""
        return self._began

    def restore(self, began: Dict[str, Any]) -> None:
        """Puts the sampler to where it was when that epoch began."""
        if "sampler" in began:
            if not hasattr(self._sampler, "load_state_dict"):
                raise StateMismatchError("the state has one of the sampler, which has no load_state_dict")
            self._sampler.load_state_dict(began["sampler"])
        generator = getattr(self._sampler, "generator", None)
        if "generator" in began and generator is not None:
            import torch

            state = np.frombuffer(base64.b64decode(began["generator"]), dtype=np.uint8)
            generator.set_state(torch.from_numpy(state.copy()))
        self._began, self._restored = began, bool(began)


@contextlib.contextmanager
def _seeded(seed: int, epoch: int) -> Iterator[None]:
    """Torch's own generator, from which samplers without one draw, by seed and epoch."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        # Any function of both that differs for different ones will do.
        mixed = hashlib.blake2b(f"{seed} {epoch}".encode(), digest_size=8).digest()
        torch.manual_seed(int.from_bytes(mixed, "little") >> 1)
        yield
