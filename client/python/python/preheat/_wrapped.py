"""Batches from a dataset of the user's own, ahead of the trainer."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import os
from typing import Any, Deque, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from . import _arrays, _core, _images
from ._ahead import Ahead, Mover
from ._encoder import bad_images
from ._order import Planned
from ._rest import Rest
from ._settle import refuse_workers
from .errors import ClosedError, ConfigError, ForkError, StateError, StateMismatchError

STATE_VERSION = 1


class WrappedBatch:
    """One rank's share of a step.

    Attributes:
        latents: `[n, channels, height, width]`, in latent cells; a torch tensor or a NumPy array.
        samples: What the dataset returned, `n` of them.
        indices: Where: `[n]`, int64.
        padding: Which only fill up the batch: `[n]`, bool.
        mask: Which latents to train on: `[n]`, bool. All, but under `bad_samples="skip"`.
        epoch, step: Counting from 0.
    """

    latents: Any
    samples: List[Any]
    indices: "np.ndarray[Any, Any]"
    padding: "np.ndarray[Any, Any]"
    mask: "np.ndarray[Any, Any]"
    epoch: int
    step: int

    __slots__ = ("latents", "samples", "indices", "padding", "mask", "epoch", "step")

    def __init__(self, latents: Any, about: Mapping[str, Any]) -> None:
        self.latents = latents
        for name, value in about.items():
            setattr(self, name, value)

    def to(self, device: Any, non_blocking: bool = False) -> "WrappedBatch":
        """The same batch with its latents on a device. The samples stay where they are."""
        return self._with(self._tensor().to(device, non_blocking=non_blocking))

    def pin_memory(self, device: Any = None) -> "WrappedBatch":
        """The same batch with its latents in page-locked memory: a copy."""
        return self._with(self._tensor().pin_memory())

    def _tensor(self) -> Any:
        torch = _arrays.torch()
        return self.latents if isinstance(self.latents, torch.Tensor) else torch.from_numpy(self.latents)

    def _with(self, latents: Any) -> "WrappedBatch":
        about = {name: getattr(self, name) for name in self.__slots__ if name != "latents"}
        return WrappedBatch(latents, about)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, name: str) -> Any:
        if name not in self.__slots__:
            raise KeyError(name)
        return getattr(self, name)

    def __repr__(self) -> str:
        return f"WrappedBatch(epoch={self.epoch}, step={self.step}, samples={len(self)})"


class WrappedLoader:
    """Made by `wrap`."""

    def __init__(self, dataset: Any, plan: Any, run: Dict[str, Any], options: Dict[str, Any]) -> None:
        self._dataset = dataset
        self._plan = plan
        self._options = options
        self._image = _images.reader(options["image"])
        self._as = _arrays.choose(options["as_"])
        moves = (options["device"], options["pin_memory"])
        if self._as == "numpy" and (moves[0] is not None or moves[1]):
            raise ConfigError("`device` and `pin_memory` are for torch, and `as_` is numpy: leave them out")
        self._moves = moves
        asked = (
            "endpoint",
            "model",
            "posterior",
            "scale",
            "dtype",
            "filter",
            "patience",
            "token_file",
        )
        security = ("ca_file", "client_cert", "client_key", "server_name")
        self._core = _core.Encoder({name: options[name] for name in asked + security})
        self._run = {**run, "model_fingerprint": self._core.model()["fingerprint"]}
        self._threads = concurrent.futures.ThreadPoolExecutor(options["workers"], "preheat-wrap")
        self._process = os.getpid()
        self._closed = False
        self._place = (0, 0)
        self._digest = ""
        self._begin()

    # -- the epoch -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[WrappedBatch]:
        """What is left of the epoch, or all of the next one where nothing is left."""
        refuse_workers()
        self._check()
        if self._place[1] > 0 and self._is_over():
            self._next()
        return Rest(self)

    def __len__(self) -> int:
        """Batches of a whole epoch, on this rank."""
        steps: int = self._plan.steps()
        return steps

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        over = self._place[1] > 0 and self._is_over()
        return self._place[0] + 1 if over else self._place[0]

    @property
    def step(self) -> int:
        """The step of the next batch within its epoch, from 0."""
        return 0 if self._place[1] > 0 and self._is_over() else self._place[1]

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch; does nothing within it, so that what is resumed goes on."""
        if epoch != self.epoch:
            self._go((epoch, 0), "", {})

    def _is_over(self) -> bool:
        """Whether nothing of the epoch is left."""
        self._fill()
        held = self._ahead is not None and self._ahead.holds()
        return not held and not self._has_next()

    def _has_next(self) -> bool:
        """Whether another batch of this epoch is under way. What comes after it may be, too."""
        return bool(self._under_way) and self._under_way[0][0] == self._place[0]

    def _next(self) -> Optional[WrappedBatch]:
        self._check()
        batch = self._take() if self._ahead is None else self._ahead.next()
        if batch is None:
            after = (self._place[0] + 1, 0)
            if self._plan.LOOKS_PAST_THE_END:
                self._place, self._digest = after, ""
            else:
                self._go(after, "", {})
            return None
        self._place = (batch.epoch, batch.step + 1)
        self._digest = self._plan.digest(self._digest, batch.indices.tolist())
        return batch

    # -- ahead of the trainer ------------------------------------------------------------------

    def _begin(self) -> None:
        """Begins to work ahead from where the run is."""
        self._planned: Iterator[Tuple[int, int, Planned]] = self._plans()
        self._under_way: Deque[Tuple[int, int, Planned, Any]] = collections.deque()
        self._ahead: Optional[Ahead[WrappedBatch]] = None
        device, pin_memory = self._moves
        if pin_memory or device is not None:
            self._ahead = Ahead(self._take, self._is_ready, Mover(device, pin_memory))
        self._fill()

    def _plans(self) -> Iterator[Tuple[int, int, Planned]]:
        """Epoch, step and samples of all batches from here on, as far as the order is known."""
        epoch, first = self._place
        while True:
            for step, planned in enumerate(self._plan.epoch(epoch, first), first):
                yield epoch, step, planned
            if not self._plan.LOOKS_PAST_THE_END:
                return
            epoch, first = epoch + 1, 0

    def _fill(self) -> None:
        room = self._options["batches_ahead"] - len(self._under_way)
        for epoch, step, planned in itertools.islice(self._planned, max(room, 0)):
            job = self._threads.submit(self._load, epoch, planned[0])
            self._under_way.append((epoch, step, planned, job))

    def _load(self, epoch: int, indices: List[int]) -> Any:
        """In a thread: asks the dataset, and begins to encode."""
        samples = [self._dataset[index] for index in indices]
        options = self._options
        pictures = [_images.picture(self._image(sample)) for sample in samples]
        how = (options["size"], options["crop"], options["seed"], epoch, indices)
        return samples, self._core.submit(pictures, how, False) if samples else None

    def _is_ready(self) -> bool:
        return not self._has_next() or self._under_way[0][3].done()

    def _take(self) -> Optional[WrappedBatch]:
        self._fill()
        if not self._has_next():
            return None
        epoch, step, (indices, padding), job = self._under_way[0]
        samples, pending = job.result()
        if pending is None:
            raise ConfigError("a batch without samples: this rank's share of the last one; use another tail")
        memory, dtype, _, bad = pending.wait()
        if bad and self._options["bad_samples"] == "fail":
            number, reason = bad[0]
            raise bad_images([(indices[number], reason), *bad[1:]])
        self._under_way.popleft()
        self._fill()
        mask = np.ones(len(indices), dtype=np.bool_)
        mask[[number for number, _ in bad]] = False
        about = {
            "samples": samples,
            "indices": np.asarray(indices, dtype=np.int64),
            "padding": np.asarray(padding, dtype=np.bool_),
            "mask": mask,
            "epoch": epoch,
            "step": step,
        }
        return WrappedBatch(_arrays.array(memory, dtype, self._as), about)

    # -- state ---------------------------------------------------------------------------------

    def state_dict(self) -> Dict[str, Any]:
        """Where the run is, to be saved with a checkpoint: the first batch that you have not got. With a
        sampler of your own it is this rank's."""
        self._check()
        epoch, step = self._place
        over = step > 0 and self._is_over()
        return {
            "state_version": STATE_VERSION,
            "epoch": epoch + 1 if over else epoch,
            "step": 0 if over else step,
            "indices": "" if over else self._digest,
            "began": self._plan.draws() if over else dict(self._plan.began()),
            "run": dict(self._run),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes to a saved place: samples before it are drawn again, and not loaded.

        Raises:
            StateMismatchError: It belongs to another run, or the sampler does not draw what it drew.
            StateError: It is no state.
        """
        self._check()
        try:
            version, run = state_dict["state_version"], dict(state_dict["run"])
            place = (int(state_dict["epoch"]), int(state_dict["step"]))
            indices, began = str(state_dict["indices"]), dict(state_dict["began"])
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"is no state of a wrapped dataset: {error!r}") from error
        if version != STATE_VERSION:
            raise StateError(f"state_version is {version}, this release reads {STATE_VERSION}")
        differ = [
            f"{name} was {run.get(name)!r}, is {self._run.get(name)!r}"
            for name in sorted({*run, *self._run})
            if run.get(name) != self._run.get(name)
        ]
        if differ:
            text = "the saved state does not fit this run; restore these as they were, or start afresh: "
            raise StateMismatchError(text + "; ".join(differ), fields=differ)
        before = (self._place, self._digest, dict(self._plan.began()))
        self._stop()
        self._plan.restore(began)
        if self._plan.drawn(*place) != indices:
            self._go(*before)
            raise StateMismatchError(
                "the sampler does not draw what it drew when the state was saved: seed it, or give it "
                "state_dict and load_state_dict",
                fields=["indices"],
            )
        self._go(place, indices, began)

    def _go(self, place: Tuple[int, int], indices: str, began: Dict[str, Any]) -> None:
        self._stop()
        self._plan.restore(began)
        self._place, self._digest = place, indices
        self._begin()

    # -- life ----------------------------------------------------------------------------------

    def model(self) -> Dict[str, Any]:
        """The model, as its replica describes it."""
        return self._core.model()

    def _stop(self) -> None:
        for *_, job in self._under_way:
            job.cancel()
        self._under_way.clear()

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("the loader is closed: make another one, with this one's state to go on")
        if self._process != os.getpid():
            raise ForkError(
                "this loader was started before the process was forked, and its threads are in the parent: "
                "make it in the child"
            )

    def close(self) -> None:
        """Cancels everything under way and ends the threads. A second time it does nothing."""
        if self._closed or self._process != os.getpid():
            return
        self._closed = True
        for *_, job in self._under_way:
            job.cancel()
        self._core.close()
        self._threads.shutdown(wait=False)

    def __enter__(self) -> "WrappedLoader":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"WrappedLoader({type(self._dataset).__name__}, at {self._place})"
