"""A local replica."""

import os
import signal
import stat
import subprocess
import sys

import pytest

import preheat
from conftest import SERVER, interruptible, jpeg


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As if it were on the PATH."""
    program = tmp_path / "bin" / "preheat-server"
    program.parent.mkdir()
    serve = "serve " if "it-" in SERVER else ""
    program.write_text(f'#!/bin/sh\nexec "{SERVER}" {serve}"$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PREHEAT_SERVER", raising=False)
    return program


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are scripts")


def test_a_replica_comes_and_goes(installed):
    with preheat.serve({"vae": "synthetic"}) as server:
        assert server.models == ["vae"] and server.is_alive()
        with preheat.Encoder(server.endpoint, model="vae") as encoder:
            assert encoder.encode(jpeg(1, (64, 64))).shape == (1, 4, 8, 8)
    assert not server.is_alive()
    server.close()


def test_it_is_where_the_variable_says(installed, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(preheat.ServerNotFoundError, match="cargo install") as raised:
        preheat.serve()
    assert isinstance(raised.value, FileNotFoundError)
    monkeypatch.setenv("PREHEAT_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(preheat.ServerNotFoundError, match="no program that can be run"):
        preheat.serve()
    monkeypatch.setenv("PREHEAT_SERVER", str(installed))
    with preheat.serve(["a=synthetic", "b=synthetic:version=2"]) as server:
        assert server.models == ["a", "b"]


def test_what_it_says_is_passed_on(installed, monkeypatch, tmp_path):
    with pytest.raises(preheat.ServerError, match="colour=red"):
        preheat.serve("vae=synthetic:colour=red")
    with pytest.raises(preheat.ConfigError, match="must be name=path"):
        preheat.serve("synthetic")
    late = "exec >&-; echo a late complaint >&2; exit 1"
    monkeypatch.setenv("PREHEAT_SERVER", script(tmp_path / "late", late))
    with pytest.raises(preheat.ServerError, match="ended: a late complaint"):
        preheat.serve()
    monkeypatch.setenv("PREHEAT_SERVER", script(tmp_path / "other", "echo hello"))
    with pytest.raises(preheat.ServerError, match="another release"):
        preheat.serve()
    monkeypatch.setenv("PREHEAT_SERVER", script(tmp_path / "slow", "exec tail -f /dev/null"))
    with pytest.raises(preheat.ServerError, match="not up after 0.2 s"):
        preheat.serve(timeout=0.2)


def test_from_the_command_line(installed):
    command = [sys.executable, "-m", "preheat.serve", "--model", "vae=synthetic"]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=interruptible
    )
    line = child.stdout.readline().decode()
    assert line.startswith("serving vae at http://127.0.0.1:")
    endpoint = line.split()[-1]
    with preheat.Encoder(endpoint, model="vae") as encoder:
        assert encoder.model()["name"] == "vae"
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130 and said == b""
    with pytest.raises(preheat.EndpointError):
        preheat.Encoder(endpoint, model="vae", connect_timeout=0.2)


def test_it_does_not_outlive_its_process(installed):
    text = "import preheat; s = preheat.serve('vae=synthetic'); print(s._process.pid, s.endpoint)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True)
    pid, endpoint = done.stdout.decode().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_the_module_is_the_function(installed):
    text = """if True:
        import preheat
        function = preheat.serve
        import preheat.serve
        assert preheat.serve is not function
        with preheat.serve("vae=synthetic") as server:
            assert server.is_alive()
    """
    subprocess.run([sys.executable, "-c", text], check=True)
