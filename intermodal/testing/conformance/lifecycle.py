"""From start to removal, and across a restart of the runner."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from intermodal.engine.backend import Launch
from intermodal.testing.attempts import Attempts
from intermodal.testing.conformance.base import Cases

_BEATS = """
import os, time
while not os.path.exists(os.environ["STEP"] + "/outputs/end"):
    open(os.environ["STEP"] + "/outputs/beats", "a").write(".")
    time.sleep(0.05)
print("ended", flush=True)
raise SystemExit(5)
"""


class LifecycleCases(Cases):
    """Handles, adoption, cleaning up: only what is ours."""

    def test_a_new_runner_adopts_a_running_attempt(self, attempts: Attempts, tmp_path: Path) -> None:
        launch = attempts.code(_BEATS)
        attempts.backend.start(launch)
        _await_beat(launch)
        second = self.prepared(attempts.state)
        try:
            handle = second.adopt(launch)
            if not attempts.backend.capabilities.detached:
                assert handle is None
                return
            assert handle is not None
            assert second.adopt(replace(launch, attempt=2, attempt_dir=tmp_path / "other")) is None
            (launch.attempt_dir / "outputs" / "end").touch()
            ended = Attempts(second, attempts.state, attempts.image, self.python).wait(handle, launch)
            second.remove(handle)
        finally:
            second.close()
        assert ended.exit_code == 5
        assert launch.log.read_bytes() == b"ended\n"

    def test_a_new_runner_harvests_an_attempt_that_ended_meanwhile(self, attempts: Attempts) -> None:
        if not attempts.backend.capabilities.detached:
            pytest.skip("declares that attempts end with the process that started them")
        launch = attempts.launch("sh", "-c", 'echo late; touch "$STEP/outputs/end"; exit 3')
        attempts.backend.start(launch)
        _await(launch.attempt_dir / "outputs" / "end")
        time.sleep(0.3)
        second = self.prepared(attempts.state)
        try:
            handle = second.adopt(launch)
            assert handle is not None
            ended = Attempts(second, attempts.state, attempts.image, self.python).wait(handle, launch)
            second.remove(handle)
        finally:
            second.close()
        assert ended.exit_code == 3
        assert launch.log.read_bytes() == b"late\n"

    def test_what_was_never_started_is_not_adopted(self, attempts: Attempts) -> None:
        assert attempts.backend.adopt(attempts.code("pass")) is None

    def test_removing_twice_is_no_error_and_ends_what_runs(self, attempts: Attempts) -> None:
        launch = attempts.code(_BEATS)
        handle = attempts.backend.start(launch)
        _await_beat(launch)
        attempts.backend.remove(handle)
        attempts.backend.remove(handle)
        assert _is_still(launch)

    def test_cleanup_removes_what_is_left_of_the_run_and_nothing_else(self, attempts: Attempts) -> None:
        other = attempts.code(_BEATS, run_id=attempts.run_id + "-other")
        handle = attempts.backend.start(other)
        left = [attempts.code(_BEATS) for _ in range(2)]
        for launch in left:
            attempts.backend.start(launch)
        try:
            for launch in (other, *left):
                _await_beat(launch)
            assert attempts.backend.cleanup(attempts.run_id) == 2
            assert attempts.backend.cleanup(attempts.run_id) == 0
            assert all(_is_still(launch) for launch in left)
            (other.attempt_dir / "outputs" / "end").touch()
            assert attempts.wait(handle, other).exit_code == 5
        finally:
            attempts.backend.cleanup(other.run_id)

    def test_what_another_state_folder_runs_is_not_ours(self, attempts: Attempts, tmp_path: Path) -> None:
        launch = attempts.code(_BEATS)
        handle = attempts.backend.start(launch)
        _await_beat(launch)
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        other = self.prepared(folder)
        try:
            assert other.cleanup(attempts.run_id) == 0
        finally:
            other.close()
        (launch.attempt_dir / "outputs" / "end").touch()
        assert attempts.wait(handle, launch).exit_code == 5

    def test_preparing_twice_is_no_error(self, attempts: Attempts) -> None:
        attempts.backend.prepare(attempts.state)
        assert attempts.run(attempts.code("pass")).failure is None


def _await_beat(launch: Launch) -> None:
    _await(launch.attempt_dir / "outputs" / "beats")


def _await(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, (
            f"{path} did not appear: the step does not run, or its outputs are not there"
        )
        time.sleep(0.02)


def _is_still(launch: Launch) -> bool:
    """Whether the attempt beats no more."""
    beats = launch.attempt_dir / "outputs" / "beats"
    before = beats.stat().st_size
    time.sleep(0.5)
    return beats.stat().st_size == before
