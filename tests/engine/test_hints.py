"""What a log suggests is said with the failure, and changes nothing about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.hints import suggest_network

FAILED = Failure(FailureClass.USER_CODE, "exit code 1", 1)


@pytest.mark.parametrize(
    ("log", "failure", "hinted"),
    [
        (b"socket.gaierror: [Errno -3] Temporary failure in name resolution\n", FAILED, True),
        (b"\xff" * 10**6 + b"curl: (6) Could not resolve host: example.org", FAILED, True),
        (b"Could not resolve host: long ago\n" + b"x" * 10**6, FAILED, False),
        (b"ValueError: no network was mentioned by this error", FAILED, False),
        (b"Could not resolve host: x", Failure(FailureClass.OOM, "out of memory", 137), False),
    ],
)
def test_a_step_that_wanted_a_network_is_told_how_to_get_one(
    tmp_path: Path, log: bytes, failure: Failure, hinted: bool
):
    (tmp_path / "log").write_bytes(log)
    found = suggest_network(failure, tmp_path / "log", "train")
    assert (found.kind, found.exit_code) == (failure.kind, failure.exit_code)
    assert ("--network train=bridge" in found.message) is hinted


def test_a_log_that_is_not_there_suggests_nothing(tmp_path: Path):
    assert suggest_network(FAILED, tmp_path / "none", "train") == FAILED
