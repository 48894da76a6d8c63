"""The loader."""

from __future__ import annotations

import json
import os
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from . import _arrays, _core
from ._ahead import Ahead, Mover
from ._batch import CAPTION_PARTS, Batch
from ._rest import Rest
from ._settle import as_json, pinned, refuse_workers, settle
from ._sources import Source
from ._views import Views
from .errors import ClosedError, ConfigError

if TYPE_CHECKING:
    PathLike = Union[str, "os.PathLike[str]"]
    Dataset = Union[PathLike, Sequence[PathLike], Source]


class DataLoader(Views):
    """Batches of latents, in an order that nothing can change.

    ```python
    with preheat.DataLoader("photos", endpoint="http://gpu:50051", model="sdxl") as loader:
        for epoch in range(loader.epoch, epochs):
            for batch in loader:
                train(batch.latents, batch.captions)    # [n, channels, height, width]
    ```

    A `for` loop is what is left of an epoch: after `break` the next one goes on where that one
    stopped, and after the last batch it is the next epoch. `set_epoch` and `seek` go elsewhere.
    `len()` is the number of batches of a whole epoch.

    Args:
        dataset: A folder, or a URI (`s3://…`, `gs://…`, `az://…`, `https://…`): images, WebDataset tars,
            Parquet or MDS; its last part may be one shard or a pattern (`{000..099}.tar`, `*.parquet`).
            Or a list of shards that lie below one place. Or several datasets as one, by name:
            `{"photos": "photos", "art": preheat.Source("s3://bucket/art", repeats=2.5)}`. Ids go through
            them in that order, and keys begin with the name.
        endpoint: Where the replicas are, or a balancer: `http://gpu:50051`; several, separated by
            commas; `dns+http://name:port`; `file:path`.
        model: The name of a model that is served there.
        batch_size: Samples of a batch, on each rank. 32, unless `global_batch` is given.
        global_batch: Samples of a step over all ranks, instead: what stays the same when a run is
            resumed with another number of ranks.
        rank, world_size: Which of how many ranks this is. By default those of torch.distributed where
            it is initialised, else of the variables `RANK` and `WORLD_SIZE`, else 0 of 1.
        seed: Of order, crops, flips and posterior draws.
        epochs: Stop after so many; for ever by default.
        target_area: Pixels of an output image, approached from below.
        bucket_step: Sides of output images are multiples of it: 8, 16, 32 or 64.
        max_aspect: Longest over shortest side of an output image, at most.
        buckets: `"aspect"`: by aspect ratio at `target_area`. A list of areas in pixels: the same at
            each of them. A list of `(width, height)`: these sizes.
        frames: Frames of a clip, or a list of lengths, for datasets of videos: a video gives the longest that
            it can. With 1 among them images take part, and videos too short for the others.
        fps: Frames a second of a clip: a number, a `Fraction`, or text as in `"30000/1001"`; each is the one
            that the video shows at that instant.
        stride: Instead: every so many-th frame of the video. 1 by default.
        clip_start: Where in its video a clip begins: `"random"`, `"first"`, `"center"`; or `"windows"`: a
            video is cut into clips that follow each other, each a sample with an id of its own.
        clip_encoding: How frames travel: `"jpeg"` (quality 95), `("jpeg", quality)`, `"png"`, `"raw"`; or
            `"as-is"`: whole video files, decoded by the replicas.
        clip_decoders: Videos decoded at once on this machine; one a core by default.
        clip_timeout: Seconds that decoding one clip may take.
        small_buckets: `"keep"`, `("merge", below)` or `("drop", below)`: what becomes of buckets with
            fewer samples than that.
        subset: A `range` of ids, an ascending list of ids, or `{"from": 0, "to": 0.99, "seed": 0}`.
        repeats: How often each sample is delivered in an epoch.
        weights: The same by sample, times `repeats`: a number for each id, in a list, array or tensor; 2 is
            twice in every epoch, 0.5 every other epoch, 0 never. See `samples` and `key` for ids.
        epoch_samples: With several datasets that have weights: how many deliveries are an epoch, before
            `repeats`; as many as there are samples by default.
        filter: Of the resize: `"lanczos"`, `"bicubic"`, `"bilinear"`, or PIL's or torchvision's constant.
        flip: Probability of mirroring a sample left to right.
        crop: `"center"`, `"random"`, or `(least, most)` of the area, as in RandomResizedCrop.
        caption_dropout: Probability of an empty caption.
        posterior: `"mode"`, `"sample"` or `"moments"` (mean and log-variance, twice the channels).
        scale: `"normalized"`, as the diffusion model sees them, or `"raw"`, as the encoder leaves them.
        dtype: float32, float16 or bfloat16: a string, or torch's or NumPy's.
        shuffle: `"full"`, `"none"`, `{"shards": n}` or `{"samples": n}` for blocks, or a list of ids.
        tail: What becomes of a bucket's last, incomplete batch: `"pad"`, `"drop"` or `"short"`.
        bad_samples: `"fail"`, `"substitute"` or `"skip"` (an empty place, see `Batch.mask`).
        max_bad_samples: Different bad samples that are put up with; any number by default.
        max_bad_share: The same as a part of the samples delivered.
        bad_sample_report: A file that gets a line of JSON for each bad sample.
        window_bytes: Memory for batches ahead of the trainer.
        max_batches_ahead: Number of batches ahead of the trainer, at most.
        chunk_items, chunk_pixels: Most samples and output pixels of one request.
        trainer: Who asks, for fleets that are shared: one name for all ranks of a run.
        weight: This trainer's part of a shared fleet, in proportion to others'.
        connections: To a replica, at most.
        connect_timeout: Seconds to look for a replica at the start.
        attempt_timeout: Seconds that one attempt at a request may take.
        patience: Seconds that a request is retried while no replica answers.
        headspace: Deliver the first batches again and again, to learn what the trainer could do if
            data were free. Not for training.
        cache: Keep latents on this machine's disk: `{"folder": …, "max_bytes": …}`, and `"mode"`
            (`"both"`, `"read"`, `"write"`), `"what"` (`"latents"`, `"moments"`), `"keep"` (seconds).
        format: `"folder"`, `"tar"`, `"parquet"`, `"mds"`; `"frames at 24"`: directories of numbered images,
            each a clip at that rate. Found out by default, but for the last.
        image_column, columns: Of Parquet and MDS: the image's, and what travels along.
        index: The file of the dataset's index; in the user's cache folder by default.
        index_check: Whether to compare the index with the dataset when it is opened.
        store: How to reach the dataset: `{"endpoint": …, "settings": {…}, "requests": …,
            "connect_timeout": …, "request_timeout": …, "retry_for": …}`, times in seconds.
        ca_file, client_cert, client_key, server_name: TLS, for `https://` endpoints; PEM files.
        token_file: File with the token that replicas want.
        as_: What latents are: `"torch"`, `"numpy"`, or `"auto"`: torch where it is installed.
        caption: The part that is the caption; found by its name by default.
        pin_memory: Latents in page-locked memory, for copies that you make yourself. A copy.
        device: Latents on this device, copied one batch ahead, on a stream of its own. Pins by itself.
        resume: A state to start from, as `state_dict()` returned it.
        start: Whether to start at once, or when it is first used. What is not started survives `fork`.

    Raises:
        ConfigError: An option that makes no sense.
        DatasetError: The dataset cannot be read.
        EndpointError: Nobody answers there.
        ModelError: It is not served there, or cannot do what is asked.
        StateMismatchError: `resume` belongs to another run.
    """

    def __init__(
        self,
        dataset: "Union[PathLike, Sequence[PathLike], Mapping[str, Dataset]]",
        *,
        endpoint: str,
        model: str,
        batch_size: Optional[int] = None,
        global_batch: Optional[int] = None,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
        seed: int = 0,
        epochs: Optional[int] = None,
        target_area: int = 512 * 512,
        bucket_step: int = 64,
        max_aspect: float = 2.0,
        buckets: "Union[str, Sequence[int], Sequence[Tuple[int, int]]]" = "aspect",
        frames: "Union[None, int, Sequence[int]]" = None,
        fps: Any = None,
        stride: Optional[int] = None,
        clip_start: str = "random",
        clip_encoding: "Union[str, Tuple[str, int]]" = "jpeg",
        clip_decoders: Optional[int] = None,
        clip_timeout: float = 120.0,
        small_buckets: "Union[str, Tuple[str, int]]" = "keep",
        subset: "Union[None, range, Sequence[int], Mapping[str, float]]" = None,
        repeats: int = 1,
        weights: Any = None,
        epoch_samples: Optional[int] = None,
        filter: Any = "lanczos",
        flip: float = 0.0,
        crop: "Union[str, Tuple[float, float]]" = "center",
        caption_dropout: float = 0.0,
        posterior: str = "mode",
        scale: str = "normalized",
        dtype: Any = "float32",
        shuffle: "Union[str, Mapping[str, int], Sequence[int]]" = "full",
        tail: str = "pad",
        bad_samples: str = "fail",
        max_bad_samples: Optional[int] = None,
        max_bad_share: float = 0.1,
        bad_sample_report: "Optional[PathLike]" = None,
        window_bytes: int = 1 << 30,
        max_batches_ahead: int = 1024,
        chunk_items: Optional[int] = None,
        chunk_pixels: Optional[int] = None,
        trainer: Optional[str] = None,
        weight: float = 1.0,
        connections: Optional[int] = None,
        connect_timeout: float = 10.0,
        attempt_timeout: float = 300.0,
        patience: float = 120.0,
        headspace: bool = False,
        cache: Optional[Mapping[str, Any]] = None,
        format: Optional[str] = None,
        image_column: Optional[str] = None,
        columns: Optional[Sequence[str]] = None,
        index: "Optional[PathLike]" = None,
        index_check: bool = True,
        store: Optional[Mapping[str, Any]] = None,
        ca_file: "Optional[PathLike]" = None,
        client_cert: "Optional[PathLike]" = None,
        client_key: "Optional[PathLike]" = None,
        server_name: Optional[str] = None,
        token_file: "Optional[PathLike]" = None,
        as_: str = "auto",
        caption: Optional[str] = None,
        pin_memory: bool = False,
        device: Any = None,
        resume: "Union[None, str, Mapping[str, Any]]" = None,
        start: bool = True,
    ) -> None:
        options = dict(locals())
        for name in ("self", "as_", "caption", "pin_memory", "device", "resume", "start"):
            del options[name]
        # The core's error messages speak of what is asked of them, so this is settled here.
        self._as = _arrays.choose(as_)
        self._captions = (caption,) if caption is not None else CAPTION_PARTS
        self._moves = (device, pin_memory)
        if self._as == "numpy" and (pin_memory or device is not None):
            raise ConfigError("`device` and `pin_memory` are for torch, and `as_` is numpy: leave them out")
        self._options = settle(options)
        self._state = as_json(resume)
        self._at = (0, 0)
        self._closed = False
        self._loader: Optional[_core.Loader] = None
        self._ahead: Optional[Ahead[Batch]] = None
        _core.check(self._given())
        if start:
            self._started()

    # -- the epoch -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """What is left of the epoch, or all of the next one where nothing is left."""
        refuse_workers()
        core = self._started()
        _, step = self._at
        if step == core.steps():
            # Its end was not asked for: the last loop stopped right before it.
            self._next()
        return Rest(self)

    def __len__(self) -> int:
        """Batches of a whole epoch: the same on every rank."""
        return self._started().steps()

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        return self._place()[0]

    @property
    def step(self) -> int:
        """The step of the next batch within its epoch, from 0."""
        return self._place()[1]

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch; does nothing within it, so that what is resumed goes on."""
        if epoch != self.epoch:
            self.seek(epoch)

    def seek(self, epoch: int, step: int = 0) -> None:
        """Goes to any batch at once, forwards or back; nothing is read or skipped on the way."""
        self._started().seek(epoch, step)
        self._moved()

    def _next(self) -> Optional[Batch]:
        """The next batch; `None` once at the end of each epoch, and for ever after the last."""
        core = self._started()
        batch = self._take() if self._ahead is None else self._ahead.next()
        if batch is not None:
            self._at = (batch.epoch, batch.step + 1)
        else:
            self._at = core.position()
        return batch

    def _take(self) -> Optional[Batch]:
        batch = self._started().next()
        return None if batch is None else Batch(batch, self._as, self._captions)

    # -- state ---------------------------------------------------------------------------------

    def state_dict(self) -> Dict[str, Any]:
        """Where the run is, to be saved with a checkpoint: the first batch that you have not got, and
        everything that the order depends on. A few hundred bytes, the same on every rank; any number of
        ranks with the same `global_batch` can go on from it."""
        if self._loader is None and self._state is not None and not self._closed:
            state: Dict[str, Any] = json.loads(self._state)
            return state
        state = json.loads(self._started().state(*self._place()))
        return state

    def load_state_dict(self, state_dict: "Union[str, Mapping[str, Any]]") -> None:
        """Goes to a saved place, at once.

        Raises:
            StateMismatchError: It belongs to another run. The loader is as it was.
            StateError: It is no state.
        """
        state = as_json(state_dict)
        assert state is not None
        if self._loader is None:
            self._check_open()
            self._state = state
            return
        if pinned(state) == self._loader.model()["fingerprint"]:
            self._loader.load_state(state)
        else:
            # Replicas may still have the weights of that run, beside newer ones.
            old, before = self._loader, self._state
            self._state = state
            try:
                self._loader = _core.Loader(self._given())
            except BaseException:
                self._state = before
                raise
            old.close()
        self._moved()

    # -- other loops ---------------------------------------------------------------------------

    def as_iterable_dataset(self) -> Any:
        """This loader as a `torch.utils.data.IterableDataset`, for
        `torch.utils.data.DataLoader(it, batch_size=None, num_workers=0)`."""
        from ._iterable import make

        return make(self)

    # -- life ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancels everything under way and ends the threads. A second time it does nothing."""
        self._closed = True
        self._ahead = None
        if self._loader is not None:
            self._loader.close()

    def __enter__(self) -> "DataLoader":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __getstate__(self) -> Dict[str, Any]:
        # What is sent to another process is where the run is, not its threads.
        state = {name: value for name, value in self.__dict__.items() if name not in ("_loader", "_ahead")}
        if self._loader is not None and not self._closed:
            state["_state"] = json.dumps(self.state_dict())
        return state

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._loader = None
        self._ahead = None
        self._at = (0, 0)

    def __repr__(self) -> str:
        options = self._options
        place = "closed" if self._closed else "not started" if self._loader is None else f"at {self._at}"
        dataset = options["dataset"] or list(options["mix"])
        return f"DataLoader({dataset!r}, model={options['model']!r}, {place})"

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the loader is closed: make another one, with this one's state to go on")

    def _given(self) -> Dict[str, Any]:
        return {**self._options, "resume": self._state}

    def _started(self) -> _core.Loader:
        if self._loader is None:
            self._check_open()
            self._loader = _core.Loader(self._given())
            self._moved()
        return self._loader

    def _moved(self) -> None:
        """The core is somewhere else: what was fetched ahead is of no use."""
        assert self._loader is not None
        self._at = self._loader.position()
        device, pin_memory = self._moves
        if pin_memory or device is not None:
            self._ahead = Ahead(self._take, self._loader.is_ready, Mover(device, pin_memory))

    def _place(self) -> Tuple[int, int]:
        """Epoch and step of the next batch; after the last batch of an epoch those of the next one."""
        core = self._started()
        epoch, step = self._at
        return (epoch + 1, 0) if step == core.steps() else (epoch, step)
