"""Images in the forms that people have them in, as the core takes them."""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, List, Optional, Tuple, Union

import numpy as np

from .errors import ConfigError

Picture = Union[bytes, Tuple[int, int, bytes]]
"""A JPEG, PNG or WebP file; or height, width and RGB pixels, one byte each."""


def pictures(images: Any) -> List[Picture]:
    """One image, or several."""
    if isinstance(images, (list, tuple)):
        return [picture(one) for one in images]
    if getattr(images, "ndim", None) == 4:
        return [picture(one) for one in images]
    return [picture(images)]


def picture(image: Any) -> Picture:
    """Any image.

    Raises:
        ConfigError: It is none, or of a type or shape that says too little.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        with open(image, "rb") as file:
            return file.read()
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(image, pil.Image):
        return _of_pil(image)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(image, torch.Tensor):
        return _of_array(image.detach().cpu().numpy(), "a tensor")
    if isinstance(image, np.ndarray):
        return _of_array(image, "an array")
    raise ConfigError(
        f"an image is a {type(image).__name__}, must be the bytes of a file, a path, a PIL image, or an "
        "array or tensor of uint8"
    )


def _of_pil(image: Any) -> Picture:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    rgb = upright if upright.mode == "RGB" else upright.convert("RGB")
    return rgb.height, rgb.width, rgb.tobytes()


def _of_array(array: "np.ndarray[Any, Any]", what: str) -> Picture:
    if array.dtype != np.uint8:
        raise ConfigError(
            f"an image is {what} of {array.dtype}, must be uint8, as it is before ToTensor() and "
            "Normalize(); of values from 0 to 1 make (255 * x).round().astype('uint8')"
        )
    if array.ndim == 4:
        raise ConfigError(f"an image is {what} of shape {array.shape}: clips are not served yet")
    shape = array.shape
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    elif array.ndim == 3 and shape[2] == 3 and shape[0] != 3:
        pass
    elif array.ndim == 3 and shape[0] == 3 and shape[2] != 3:
        array = array.transpose(1, 2, 0)
    else:
        raise ConfigError(
            f"an image is {what} of shape {shape}, must be [height, width, 3], [3, height, width] or "
            "[height, width]"
        )
    height, width = array.shape[:2]
    return height, width, np.ascontiguousarray(array).tobytes()


def reader(image: "Union[None, int, str, Callable[[Any], Any]]") -> Callable[[Any], Any]:
    """How to get the image of a dataset's sample: a function, a key, or the obvious."""
    if callable(image):
        return image
    if image is not None:
        return lambda sample: sample[image]
    return _obvious


IMAGE_KEYS = ("image", "jpg", "png", "pixel_values", "img")
"""Where images are looked for in samples that are dictionaries."""


def _obvious(sample: Any) -> Any:
    if isinstance(sample, (tuple, list)) and sample:
        return sample[0]
    if isinstance(sample, dict):
        found: Optional[str] = next((key for key in IMAGE_KEYS if key in sample), None)
        if found is None:
            raise ConfigError(f"a sample has {sorted(map(str, sample))}: say which is the image: image=…")
        return sample[found]
    return sample
