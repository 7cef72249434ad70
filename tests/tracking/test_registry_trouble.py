"""Registering on a server that is not there, breaks at some request, or never answers: said in a line, without a password, and in time."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kfp import compiler
from mlflow import MlflowClient

from intermodal.cli.main import main
from intermodal.cli.register import register_end
from tests.conftest import Run
from tests.tracking.made import Made
from tests.tracking.relay import Relay
from tests.tracking.test_registry import Lab, factory, write_given

PASSWORD = "hunter%402"
SENT = b"Basic " + base64.b64encode(b"someone:hunter@2")
REQUESTS = {
    "experiments/search": "the tracking server does not take run",
    "runs/create": "run ",
    "model-versions/search": "model registry",
    "registered-models/create": "model registry",
    "mlflow-artifacts": "model registry",
    "runs/get": "model registry",
    "model-versions/create": "model registry",
}
"""Word of a request's path -> what is said if it is refused."""


@pytest.fixture
def lab(run: Run, tmp_path: Path, relay: Relay, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> Lab:
    address = relay.uri.replace("//", f"//someone:{PASSWORD}@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return Lab(run, tmp_path / "state", address, Made(client))


def test_whatever_request_a_server_breaks_at_is_told_in_a_line_without_the_password(
    lab: Lab, relay: Relay, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = lab.factory(write_given(tmp_path / "given"))
    words = ["register", run, "--state", str(lab.state), "--name", lab.name]
    environment = dict(os.environ)
    for request, told in REQUESTS.items():
        relay.broken_at = request.encode()
        code = main(words)
        out, error = capfd.readouterr()
        [line] = [line for line in error.splitlines() if not line.startswith("hint: ")]
        assert (code, out) == (3, "") and line.startswith(f"error: {told}") and "hunter" not in error, request
        assert os.environ == environment
    register_end(lab.state, run, lab.name)  # breaks at the last of them
    [note] = capfd.readouterr().err.splitlines()
    assert note.startswith("note: not registered: ") and "hunter" not in note
    assert note.endswith(f"; later: intermodal register {run} --name {lab.name}")
    assert lab.versions() == []
    relay.broken_at = b""
    assert main(words) == 0
    assert [int(version.version) for version in lab.versions()] == [1]
    asked = b"\n".join(relay.credentials)
    assert all(request.encode() in asked for request in REQUESTS) and set(relay.credentials.values()) == {SENT}


@pytest.mark.parametrize("trouble", ["hang", "closed"])
def test_a_green_run_stays_green_where_its_champion_cannot_be_registered(
    lab: Lab, relay: Relay, tmp_path: Path, trouble: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[tool.intermodal.tracking]\nregister_as = "{lab.name}"\n')
    compiler.Compiler().compile(factory, str(tmp_path / "factory.yaml"))
    given = write_given(tmp_path / "given")
    if trouble == "closed":
        relay.close()
    else:
        relay.mode = "hang"
    words = ["run", "factory.yaml", "--backend", "host", "--state", str(lab.state), "--arg", f"given={given}"]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "intermodal", *words, "--track"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 45  # its sender waits for the same server: to wait for that takes a minute
    note = done.stderr.splitlines()[-1]
    assert note.startswith("note: not registered: ") and "; later: intermodal register factory-" in note
    assert "hunter" not in done.stdout + done.stderr
