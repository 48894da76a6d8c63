"""What can go wrong. Every exception of the package is a `PreheatError`."""

from __future__ import annotations

from typing import Any, List, Optional


class PreheatError(Exception):
    """Base of all exceptions of this package."""

    def __init__(self, text: str = "", **fields: Any) -> None:
        super().__init__(text)
        for name, value in fields.items():
            setattr(self, name, value)

    def __reduce__(self) -> Any:
        # By value: the default would lose the fields on the way to another process.
        return (_again, (type(self), str(self), dict(self.__dict__)))


def _again(kind: Any, text: str, fields: Any) -> PreheatError:
    error: PreheatError = kind(text, **fields)
    return error


class ConfigError(PreheatError, ValueError):
    """An option makes no sense. The text names it, what was given and what would be right."""


class DatasetError(PreheatError):
    """The dataset cannot be found, read or indexed."""


class BadSampleError(PreheatError):
    """A sample cannot be read or encoded, and the policy is to fail."""

    key: str = ""
    """Its key in the dataset."""
    reason: str = ""
    """What is wrong with it."""


class TooManyBadError(PreheatError):
    """More bad samples than the options allow."""


class EndpointError(PreheatError, ConnectionError):
    """Nobody answers at the endpoint."""


class RefusedError(EndpointError):
    """The replica wants a token or a certificate, and does not like what it was shown."""


class ModelError(PreheatError, ValueError):
    """The model cannot do what is asked of it."""


class UnknownModelError(ModelError):
    """The endpoint serves other models."""


class CallError(PreheatError):
    """A request failed for good, after its retries."""

    code: str = ""
    """The kind of failure."""


class StateError(PreheatError, ValueError):
    """A saved state cannot be read."""


class StateMismatchError(StateError):
    """A saved state belongs to another run: another dataset, model, batch size or order."""

    fields: List[str] = []
    """One entry for each field that differs: its name, the saved and the present value."""


class StoppedError(PreheatError):
    """The loader already raised an error. It does not skip the batch that failed."""


class ClosedError(PreheatError):
    """It was closed before."""


class ForkError(PreheatError, RuntimeError):
    """It was started in another process: threads do not survive `fork`."""


class TorchMissingError(PreheatError, ImportError):
    """Something needs torch, which is not installed."""

    def __init__(self, text: Optional[str] = None, **fields: Any) -> None:
        super().__init__(text or "torch is not installed: pip install torch", **fields)


class ServerError(PreheatError):
    """A local replica did not start, or is gone."""


class ServerNotFoundError(ServerError, FileNotFoundError):
    """There is no `preheat-server` on this machine."""


class InternalError(PreheatError, RuntimeError):
    """Something that should be impossible. Please report it."""
