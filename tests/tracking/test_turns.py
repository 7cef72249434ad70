"""Processes that take turns: whoever waits for one that stands still is told which it is, in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from intermodal.cli.main import main
from tests.tracking.conftest import wait_until
from tests.tracking.relay import Relay


def test_a_look_up_names_the_process_that_stands_still_on_the_index(
    relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    relay.mode = "hang"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", relay.uri)
    monkeypatch.setattr("intermodal.tracking.index.PATIENCE", 1.0)  # else a minute
    state = ["--state", str(tmp_path)]
    stands = subprocess.Popen([sys.executable, "-m", "intermodal", "index", *state])
    try:
        wait_until(lambda: relay.accepted == 1)
        os.kill(stands.pid, signal.SIGSTOP)
        relay.mode = "pass"
        for words in (["find", "--run", "r"], ["index"]):
            assert main([*words, *state]) == 3
            first, hint = capsys.readouterr().err.splitlines()
            assert first == (
                f"error: bringing the index of {relay.uri} in step: process {stands.pid} is at it, and did not end within 1 s"
            )
            assert hint.startswith("hint: ")
    finally:
        stands.kill()
        stands.wait()
    assert main(["index", *state]) == 0  # the kernel let go
