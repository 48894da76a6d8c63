"""What the README says."""

import os
import re
import stat
from pathlib import Path

import pytest

import preheat
from conftest import SERVER, jpeg

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a script")
def test_the_first_example_runs(tmp_path, monkeypatch, capsys):
    # This replica is built without the model that is built in: what differs is what the latents are.
    program = tmp_path / "preheat-server"
    serve = "serve " if "it-" in SERVER else ""
    program.write_text(
        "#!/bin/sh\n"
        'for arg; do shift; [ "$arg" = tiny=builtin:tiny ] && arg=tiny=synthetic; set -- "$@" "$arg"; done\n'
        f'exec "{SERVER}" {serve}"$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PREHEAT_SERVER", str(program))
    (tmp_path / "photos").mkdir()
    for i in range(12):
        (tmp_path / "photos" / f"{i}.jpg").write_bytes(jpeg(i, (300, 280)))
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 10
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all("(256, 256) (8, 4, 32, 32)" in line for line in lines)


def test_every_exception_is_in_the_table():
    table = README[README.index("## Exceptions") : README.index("## Limits")]
    for name in preheat.__all__:
        thing = getattr(preheat, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert f"`{name}`" in table or f"`preheat.{name}`" in table or name == "InternalError", name
            for base in (ValueError, ConnectionError, ImportError, FileNotFoundError):
                if issubclass(thing, base):
                    assert f"`{base.__name__}`" in table
