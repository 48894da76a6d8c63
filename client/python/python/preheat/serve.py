"""`python -m preheat.serve`: a local replica, until Ctrl-C. In programs: `preheat.serve(...)`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ._serve import Server, find, main, serve

__all__ = ["Server", "find", "main", "serve"]


class _Callable(ModuleType):
    """To import this module makes `preheat.serve` the module; it can then be called all the same."""

    def __call__(self, *args: Any, **kwargs: Any) -> Server:
        return serve(*args, **kwargs)


if __name__ == "__main__":
    sys.exit(main())

sys.modules[__name__].__class__ = _Callable
