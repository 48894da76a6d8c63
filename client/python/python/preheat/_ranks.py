"""Which of how many ranks this process is."""

from __future__ import annotations

import os
import sys
from typing import Optional, Tuple

from .errors import ConfigError


def find(rank: Optional[int], world_size: Optional[int]) -> Tuple[int, int]:
    """Rank and world size: as given; else of torch.distributed, where it is initialised; else of the
    environment variables `RANK` and `WORLD_SIZE`, as torchrun sets them; else 0 of 1."""
    if rank is not None and world_size is not None:
        return rank, world_size
    if rank is not None or world_size is not None:
        given, other = ("rank", "world_size") if world_size is None else ("world_size", "rank")
        raise ConfigError(f"`{given}` is given without `{other}`: give both, or neither")
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    return _of_environment()


def _of_environment() -> Tuple[int, int]:
    texts = [os.environ.get(name) for name in ("RANK", "WORLD_SIZE")]
    if texts[0] is None or texts[1] is None:
        return 0, 1
    try:
        return int(texts[0]), int(texts[1])
    except ValueError:
        raise ConfigError(
            f"the environment says RANK={texts[0]!r} and WORLD_SIZE={texts[1]!r}, which are no "
            "numbers: correct them, or give `rank` and `world_size`"
        ) from None
