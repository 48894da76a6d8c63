"""One-off calls: images in, latents out."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

from . import _arrays, _core, _images
from .errors import BadSampleError

if TYPE_CHECKING:
    PathLike = Union[str, "os.PathLike[str]"]


class Encoder:
    """Encodes images, without a dataset and without an order: for validation, previews and notebooks.

    ```python
    with preheat.Encoder("http://gpu:50051", model="sdxl") as encoder:
        latents = encoder.encode([Image.open("a.jpg"), open("b.jpg", "rb").read()], size=(512, 512))
    ```

    Any number of threads and tasks may use one at once. It retries and balances as the loader does.

    Args:
        endpoint: Where the replicas are, as for `DataLoader`.
        model: The name of a model that is served there.
        posterior: `"mode"`, `"sample"` or `"moments"`.
        scale: `"normalized"` or `"raw"`.
        dtype: float32, float16 or bfloat16: a string, or torch's or NumPy's.
        filter: Of the resize, as for `DataLoader`.
        as_: What latents are: `"torch"`, `"numpy"` or `"auto"`.
        connect_timeout, attempt_timeout, patience: Seconds, as for `DataLoader`.
        ca_file, client_cert, client_key, server_name, token_file: As for `DataLoader`.

    Raises:
        ConfigError: An option that makes no sense.
        EndpointError: Nobody answers there.
        ModelError: It is not served there, or cannot do what is asked.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        model: str,
        posterior: str = "mode",
        scale: str = "normalized",
        dtype: Any = "float32",
        filter: Any = "lanczos",
        as_: str = "auto",
        connect_timeout: float = 10.0,
        attempt_timeout: float = 300.0,
        patience: float = 120.0,
        ca_file: "Optional[PathLike]" = None,
        client_cert: "Optional[PathLike]" = None,
        client_key: "Optional[PathLike]" = None,
        server_name: Optional[str] = None,
        token_file: "Optional[PathLike]" = None,
    ) -> None:
        options = dict(locals())
        del options["self"], options["as_"]
        self._as = _arrays.choose(as_)
        self._core = _core.Encoder(options)

    def encode(
        self,
        images: Any,
        *,
        size: Optional[Tuple[int, int]] = None,
        crop: "Union[str, Tuple[float, float]]" = "center",
        seed: int = 0,
    ) -> Any:
        """Encodes images, and waits for them.

        Args:
            images: One image or a list: the bytes of JPEG, PNG or WebP files, paths, PIL images, arrays or
                tensors of uint8 (`[height, width, 3]`, `[3, height, width]`, `[height, width]`).
            size: Width and height of the output images, in pixels: each image is resized until it covers
                it, and cut. By default the images' own, which must then be the same for all.
            crop: Where to cut: `"center"`, `"random"`, or `(least, most)` of the area.
            seed: Of crops and posterior draws.

        Returns:
            Latents `[n, channels, height, width]`, height and width in latent cells; a torch tensor or a
            NumPy array, over the memory that they were received in.

        Raises:
            BadSampleError: Images that cannot be read; `key` is the number of the first one.
            ConfigError: Images that are none, or of several sizes.
            CallError: The replicas failed for good.
        """
        return self._answer(self._submit(images, (size, crop, seed), False))

    async def aencode(
        self,
        images: Any,
        *,
        size: Optional[Tuple[int, int]] = None,
        crop: "Union[str, Tuple[float, float]]" = "center",
        seed: int = 0,
    ) -> Any:
        """The same for asyncio. Cancelling the task cancels the request."""
        pending = self._submit(images, (size, crop, seed), _watches_files())
        try:
            if not _watches_files():
                return await asyncio.to_thread(self._answer, pending)
            await _readable(pending)
            return self._answer(pending)
        except asyncio.CancelledError:
            pending.cancel()
            raise

    def model(self) -> Dict[str, Any]:
        """The model, as its replica describes it."""
        return self._core.model()

    def close(self) -> None:
        """Cancels everything under way. A second time it does nothing."""
        self._core.close()

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    async def __aenter__(self) -> "Encoder":
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.close()

    def _submit(self, images: Any, how: Tuple[Any, Any, int], notify: bool) -> "_core.Pending":
        size, crop, seed = how
        return self._core.submit(_images.pictures(images), (size, crop, seed, 0, None), notify)

    def _answer(self, pending: "_core.Pending") -> Any:
        memory, dtype, _, bad = pending.wait()
        if bad:
            raise bad_images(bad)
        return _arrays.array(memory, dtype, self._as)


def bad_images(bad: List[Tuple[int, str]]) -> BadSampleError:
    """The exception for images that cannot be read, by number with reasons."""
    number, reason = bad[0]
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    return BadSampleError(f"image {number}: {reason}{more}", key=str(number), reason=reason)


def _watches_files() -> bool:
    """Whether event loops can wait for a file descriptor."""
    return os.name != "nt"


async def _readable(pending: "_core.Pending") -> None:
    """Returns once the answer is there."""
    loop = asyncio.get_running_loop()
    watched = pending.fileno()
    assert watched is not None
    there: "asyncio.Future[None]" = loop.create_future()

    def arrived() -> None:
        if not there.done():
            there.set_result(None)

    loop.add_reader(watched, arrived)
    try:
        await there
    finally:
        loop.remove_reader(watched)
