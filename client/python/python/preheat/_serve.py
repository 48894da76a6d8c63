"""A local replica, for notebooks and tests: `preheat.serve(...)`, or `python -m preheat.serve`.

It is `preheat-server`, a program of its own: this finds it, starts it on a port that is free, and ends it.
"""

from __future__ import annotations

import argparse
import atexit
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from typing import IO, Any, List, Mapping, Optional, Sequence, Union

from .errors import ConfigError, ServerError, ServerNotFoundError

PROGRAM = "preheat-server"
VARIABLE = "PREHEAT_SERVER"
DEFAULT_MODEL = "tiny=builtin:tiny"
"""Has the architecture of AutoencoderTiny, and is untrained: good for trying, useless for training."""
START_SECONDS = 120.0
"""To be there: models are loaded, and devices prove themselves, before a replica listens."""
STOP_SECONDS = 10.0
"""To end, before it is killed."""
LAST_WORDS = 5.0
"""Seconds until what it said before it ended has been read; another process may hold its stderr open."""
LINES = 1000
"""Lines of its output that are kept, to be shown where it fails."""

INSTALL = (
    f"{PROGRAM} is not installed: build it with `cargo install --path server` in a checkout of Preheat "
    f"(add `--features cuda` for NVIDIA GPUs), and put it on the PATH or its path into {VARIABLE}; or use "
    "the endpoint of a replica that runs elsewhere"
)


def find() -> str:
    """The path of the program: `PREHEAT_SERVER`, else on the PATH.

    Raises:
        ServerNotFoundError: With how to install it.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        found = shutil.which(named)
        if found is None:
            raise ServerNotFoundError(f"{VARIABLE} is {named!r}, which is no program that can be run")
        return found
    found = shutil.which(PROGRAM)
    if found is None:
        raise ServerNotFoundError(INSTALL)
    return found


class Server:
    """A replica that is up. Ends with the `with` statement, `close()`, or this process.

    Attributes:
        endpoint: For `DataLoader` and `Encoder`.
        models: Names of the models that it serves.
    """

    def __init__(self, command: Sequence[str], models: Sequence[str], timeout: float) -> None:
        self.models = list(models)
        self._said: "queue.Queue[Optional[str]]" = queue.Queue(2 * LINES)
        self._errors: List[str] = []
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise ServerError(f"{command[0]} cannot be started: {error}") from error
        atexit.register(self.close)
        readers = [
            threading.Thread(target=_read, args=(stream, take), daemon=True)
            for stream, take in ((self._process.stdout, self._out), (self._process.stderr, self._err))
        ]
        for reader in readers:
            reader.start()
        self._last_words = readers[1]
        try:
            self.endpoint = "http://" + self._address(timeout)
        except BaseException:
            self.close()
            raise

    def _address(self, timeout: float) -> str:
        """Where it listens, once it does."""
        try:
            line = self._said.get(timeout=timeout)
        except queue.Empty:
            raise ServerError(f"{PROGRAM} is not up after {timeout:g} s: {self._tail()}") from None
        if line is None:
            self._process.wait()
            # Its output may be at its end before its complaint has been read.
            self._last_words.join(LAST_WORDS)
            raise ServerError(f"{PROGRAM} ended: {self._tail()}")
        found = re.match(r"listening on (\S+)", line)
        if found is None:
            raise ServerError(f"{PROGRAM} said {line!r}: is it another release?")
        return found[1]

    def _out(self, line: Optional[str]) -> None:
        try:
            self._said.put_nowait(line)
        except queue.Full:
            pass

    def _err(self, line: Optional[str]) -> None:
        if line is not None:
            self._errors.append(line)
            del self._errors[:-LINES]

    def _tail(self) -> str:
        return " ".join(self._errors[-3:]) or "it said nothing"

    def log(self) -> str:
        """What it wrote to its log lately."""
        return "\n".join(self._errors)

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends it: what is under way is finished, for ten seconds. A second time it does nothing."""
        atexit.unregister(self.close)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Server({self.endpoint!r}, models={self.models!r})"


def _read(stream: "IO[bytes]", take: Any) -> None:
    with stream:
        for line in stream:
            take(line.decode(errors="replace").rstrip())
    take(None)


def serve(
    model: "Union[str, Sequence[str], Mapping[str, str]]" = DEFAULT_MODEL,
    *,
    device: Optional[str] = None,
    dtype: Optional[str] = None,
    args: Sequence[str] = (),
    timeout: float = START_SECONDS,
) -> Server:
    """Starts a replica on this machine, on a port that is free, reachable from this machine only.

    ```python
    with preheat.serve({"sdxl": "path/to/vae"}) as server:
        loader = preheat.DataLoader("photos", endpoint=server.endpoint, model="sdxl")
    ```

    Args:
        model: What to serve: `name=path/to/vae`, a list of such, or a dictionary. By default `tiny`, a
            model that is built in and untrained.
        device: `cpu`, `cuda`, `cuda:1`, …; the server's choice by default.
        dtype: `f32`, `f16` or `bf16`; by model and device by default.
        args: More of the server's own options, as on its command line.
        timeout: Seconds until it has to be up.

    Raises:
        ServerNotFoundError: `preheat-server` is not installed; the text says how to.
        ServerError: It did not start; the text is what it said.
    """
    named = _models(model)
    command = [find(), "--listen", "127.0.0.1:0"]
    for one in named:
        command += ["--model", one]
    for flag, value in (("--device", device), ("--dtype", dtype)):
        if value is not None:
            command += [flag, value]
    return Server([*command, *args], [one.split("=", 1)[0] for one in named], timeout)


def _models(model: "Union[str, Sequence[str], Mapping[str, str]]") -> List[str]:
    if isinstance(model, str):
        named = [model]
    elif isinstance(model, Mapping):
        named = [f"{name}={os.fspath(place)}" for name, place in model.items()]
    else:
        named = list(model)
    for one in named:
        if "=" not in one:
            raise ConfigError(f"`model` is {one!r}, must be name=path, as in {DEFAULT_MODEL!r}")
    return named


def main(argv: Optional[Sequence[str]] = None) -> int:
    """`python -m preheat.serve`: the same from a command line, until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m preheat.serve", description=__doc__)
    parser.add_argument("--model", action="append", metavar="NAME=PATH", help="what to serve")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--dtype", help="f32, f16 or bf16")
    given, rest = parser.parse_known_args(argv)
    models = given.model or [DEFAULT_MODEL]
    try:
        with serve(models, device=given.device, dtype=given.dtype, args=rest) as server:
            print(f"serving {', '.join(server.models)} at {server.endpoint}", flush=True)
            server._process.wait()
            print(f"{PROGRAM} ended: {server._tail()}", file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        return 130
    except (ServerError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 1
