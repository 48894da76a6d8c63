"""Stubs say what the module has, and the package is typed."""

import subprocess
import sys
from pathlib import Path

import preheat

CONFIG = """
[mypy]
strict = true
warn_unused_ignores = false
[mypy-torch.*,ml_dtypes.*,PIL.*]
ignore_missing_imports = true
follow_imports = skip
"""


def run(tmp_path, module, *args):
    config = tmp_path / "mypy.ini"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", module, *args]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_stubs_are_the_module(tmp_path):
    run(tmp_path, "mypy.stubtest", "preheat._core", "--mypy-config-file", "mypy.ini")


def test_the_package_is_typed(tmp_path):
    package = Path(preheat.__file__).parent
    assert (package / "py.typed").exists()
    run(tmp_path, "mypy", "--config-file", "mypy.ini", "--cache-dir", str(tmp_path), "-p", "preheat")


def test_everything_public_has_a_docstring():
    for name in preheat.__all__:
        if name.startswith("__"):
            continue
        thing = getattr(preheat, name)
        assert thing.__doc__, name
        for attribute, value in vars(thing).items() if isinstance(thing, type) else ():
            if not attribute.startswith("_") and (callable(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{attribute}"
