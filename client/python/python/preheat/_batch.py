"""What a trainer gets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from . import _arrays

if TYPE_CHECKING:
    from . import _core

CAPTION_PARTS = ("caption", "txt", "text", "prompt")
"""Where captions are looked for; the first of them that a sample has is its caption."""


class Batch:
    """One rank's share of a step: `n` samples of one bucket.

    What is said of the samples is made when it is asked for, so what a trainer does not use costs it
    nothing. `batch["latents"]` is `batch.latents`, and so on.
    """

    __slots__ = ("_core", "_kind", "_names", "_latents", "_made")

    def __init__(
        self, core: "_core.Batch", kind: str = "numpy", names: Sequence[str] = CAPTION_PARTS
    ) -> None:
        self._core = core
        self._kind = kind
        self._names = names
        self._latents: Any = None
        self._made: Dict[str, Any] = {}

    @property
    def latents(self) -> Any:
        """The latents: `[n, channels, height, width]`, height and width in latent cells; in a run of clips
        `[n, channels, frames, height, width]`, also where clips have a single frame.

        A torch tensor (float32, float16 or bfloat16) or a NumPy array, over the very memory that they
        were received in; yours alone, so writing to it is fine. NumPy has no bfloat16: there it is
        `ml_dtypes.bfloat16` where that is installed, else the bits as uint16.
        """
        if self._latents is None:
            self._latents = _arrays.array(self._core.memory, self._core.dtype, self._kind)
        return self._latents

    @property
    def epoch(self) -> int:
        """Counting from 0."""
        return self._core.epoch

    @property
    def step(self) -> int:
        """Counting from 0 in every epoch."""
        return self._core.step

    @property
    def bucket(self) -> Tuple[int, int]:
        """Width and height of the images that were encoded, in pixels; the same on all ranks."""
        return self._core.bucket

    @property
    def frames(self) -> int:
        """Frames of each clip that was encoded, the same on all ranks; 1 of images."""
        return self._core.frames

    @property
    def clip_frames(self) -> "np.ndarray[Any, Any]":
        """Which frames of its video each clip has, counted from 0: `[n, frames]`, int64; -1 of an image."""
        made = self._array("clip_frames", self._core.clip_frames, np.int64)
        return made.reshape(-1, self.frames)

    @property
    def clip_times(self) -> "np.ndarray[Any, Any]":
        """When these frames are shown, in seconds of the video's clock: `[n, frames]`, float64; NaN of an
        image."""
        made = self._array("clip_times", self._core.clip_times, np.float64)
        return made.reshape(-1, self.frames)

    @property
    def clip_starts(self) -> "np.ndarray[Any, Any]":
        """When each clip begins, in seconds of the video's clock: `[n]`, float64; NaN of an image."""
        return self._array("clip_starts", self._core.clip_starts, np.float64)

    @property
    def replayed(self) -> bool:
        """Whether it is a batch of before with another place, under `headspace`. Not for training."""
        return self._core.replayed

    @property
    def keys(self) -> List[str]:
        """The samples' names in the dataset: in a folder their paths, relative to it."""
        keys: List[str] = self._once("keys", self._core.keys)
        return keys

    @property
    def sources(self) -> List[str]:
        """Which of several datasets each sample is from, by name; `""` where there is one."""
        sources: List[str] = self._once("sources", self._core.sources)
        return sources

    @property
    def ids(self) -> "np.ndarray[Any, Any]":
        """The samples' numbers in the dataset: `[n]`, int64."""
        return self._array("ids", self._core.ids, np.int64)

    @property
    def captions(self) -> List[Optional[str]]:
        """The samples' captions: the text of the part that `caption=` names, or of the first of
        `caption`, `txt`, `text` and `prompt` that there is. `""` where the caption is to be dropped
        (`caption_dropout`), `None` where there is none."""
        captions: List[Optional[str]] = self._once("captions", lambda: self._core.captions(self._names))
        return captions

    @property
    def metadata(self) -> List[Dict[str, bytes]]:
        """What travels with each sample: content by name, such as `txt`, `json`, `cls` or a column."""
        parts: List[Dict[str, bytes]] = self._once("metadata", self._core.parts)
        return parts

    @property
    def json(self) -> List[Any]:
        """The part `json` of each sample, parsed; `None` where there is none.

        Raises:
            ValueError: it is not JSON.
        """
        parsed: List[Any] = self._once("json", self._json)
        return parsed

    def _json(self) -> List[Any]:
        texts = [parts.get("json") for parts in self.metadata]
        return [None if text is None else json.loads(text) for text in texts]

    @property
    def micro_conditioning(self) -> "np.ndarray[Any, Any]":
        """What SDXL is told, in the order of `add_time_ids`: original height and width, crop top and
        left, target height and width, in pixels; `[n, 6]`, int64."""
        made = self._array("micro_conditioning", self._core.micro_conditioning, np.int64)
        return made.reshape(-1, 6)

    @property
    def mask(self) -> "np.ndarray[Any, Any]":
        """Which latents to train on: `[n]`, bool. All, but under `bad_samples="skip"`."""
        return self._array("mask", self._core.valid, np.bool_)

    @property
    def padding(self) -> "np.ndarray[Any, Any]":
        """Which samples only fill up the batch, and are delivered elsewhere in this epoch as well:
        `[n]`, bool."""
        return self._array("padding", self._core.padding, np.bool_)

    @property
    def flipped(self) -> "np.ndarray[Any, Any]":
        """Which images were mirrored left to right: `[n]`, bool."""
        return self._array("flipped", self._core.flipped, np.bool_)

    @property
    def caption_dropped(self) -> "np.ndarray[Any, Any]":
        """Which captions are to be dropped: `[n]`, bool."""
        return self._array("caption_dropped", self._core.caption_dropped, np.bool_)

    @property
    def seeds(self) -> "np.ndarray[Any, Any]":
        """Keys of the posterior draws: `[n]`, uint64."""
        return self._array("seeds", self._core.seeds, np.uint64)

    @property
    def substitute_of(self) -> List[Optional[int]]:
        """Ids of the bad samples that others stand in for, under `bad_samples="substitute"`."""
        ids: List[Optional[int]] = self._once("substitute_of", self._core.substitute_of)
        return ids

    def to(self, device: Any, non_blocking: bool = False) -> "Batch":
        """The same batch with its latents on a device, as Lightning and Accelerate ask for it."""
        return self._with(self._tensor().to(device, non_blocking=non_blocking))

    def pin_memory(self, device: Any = None) -> "Batch":
        """The same batch with its latents in page-locked memory: a copy."""
        return self._with(self._tensor().pin_memory())

    def _tensor(self) -> Any:
        if self._kind == "torch":
            return self.latents
        return _arrays.array(self._core.memory, self._core.dtype, "torch")

    def _with(self, latents: Any) -> "Batch":
        other = Batch(self._core, "torch", self._names)
        other._latents = latents
        other._made = self._made
        return other

    def _once(self, name: str, make: Any) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _array(self, name: str, make: Any, dtype: Any) -> "np.ndarray[Any, Any]":
        array: "np.ndarray[Any, Any]" = self._once(name, lambda: np.frombuffer(make(), dtype))
        return array

    def __len__(self) -> int:
        """Samples."""
        return len(self._core)

    def __getitem__(self, name: str) -> Any:
        if name.startswith("_") or not isinstance(getattr(type(self), name, None), property):
            raise KeyError(name)
        return getattr(self, name)

    def __repr__(self) -> str:
        width, height = self.bucket
        place = f"epoch={self.epoch}, step={self.step}"
        frames = "" if self.frames == 1 else f"x{self.frames}"
        return f"Batch({place}, samples={len(self)}, bucket={width}x{height}{frames})"
