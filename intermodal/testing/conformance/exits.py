"""How a step's end is told: never green unless it exited 0."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from intermodal.engine.backend import Exit, Launch
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.testing.attempts import Attempts
from intermodal.testing.conformance.base import Cases


class ExitCases(Cases):
    """Exit codes, signals, programs that cannot be started."""

    def test_exit_0_is_no_failure(self, attempts: Attempts) -> None:
        ended = attempts.run(attempts.code("import time; time.sleep(0.5)"))
        assert (ended.exit_code, ended.failure) == (0, None)
        assert 0.3 < ended.seconds < 60

    @pytest.mark.parametrize("code", [1, 2, 7, 77, 255])
    def test_another_exit_code_is_the_steps_own_failure(self, attempts: Attempts, code: int) -> None:
        ended = attempts.run(attempts.code(f"raise SystemExit({code})"))
        _check(ended, code, FailureClass.USER_CODE)
        assert str(code) in str(ended.failure)

    @pytest.mark.parametrize(
        ("number", "code", "kind"),
        [
            (11, 139, FailureClass.USER_CODE),
            (6, 134, FailureClass.USER_CODE),
            (9, 137, FailureClass.KILLED),
            (15, 143, FailureClass.KILLED),
        ],
        ids=["SIGSEGV", "SIGABRT", "SIGKILL", "SIGTERM"],
    )
    def test_a_signal_is_128_and_its_number(
        self, attempts: Attempts, number: int, code: int, kind: FailureClass
    ) -> None:
        launch = attempts.code(f"import os, time; os.kill(os.getpid(), {number}); time.sleep(60)")
        _check(attempts.run(launch), code, kind)

    @pytest.mark.parametrize("program", ["/no/such/program", "no-such-program", "/etc/passwd"])
    def test_a_program_that_cannot_be_started_is_named(self, attempts: Attempts, program: str) -> None:
        failure = _failure(attempts, attempts.launch(program))
        assert failure is not None
        assert failure.kind is FailureClass.IMAGE
        assert program in failure.message

    def test_a_failure_is_told_in_one_line(self, attempts: Attempts) -> None:
        for launch in (attempts.launch("no-such\nprogram"), attempts.code("raise SystemExit(3)")):
            failure = _failure(attempts, launch)
            assert failure is not None
            assert failure.message
            assert "\n" not in failure.message

    def test_a_fast_failure_is_never_green(self, attempts: Attempts) -> None:
        codes = [attempts.run(attempts.launch("sh", "-c", "exit 7")).exit_code for _ in range(20)]
        assert codes == [7] * 20

    def test_a_child_left_behind_does_not_hold_the_step(self, attempts: Attempts) -> None:
        launch = attempts.launch("sh", "-c", "sleep 300 & echo bye")
        ended = attempts.run(launch)
        assert ended.failure is None
        assert launch.log.read_bytes() == b"bye\n"

    def test_attempts_together_do_not_mix(self, attempts: Attempts) -> None:
        launches = [
            attempts.code(f"import time; print('log {n}', flush=True); time.sleep(0.2); raise SystemExit({n})")
            for n in range(8)
        ]
        with ThreadPoolExecutor(8) as pool:
            ends = list(pool.map(attempts.run, launches))
        assert [end.exit_code for end in ends] == list(range(8))
        assert [end.failure is None for end in ends] == [True] + [False] * 7
        assert [launch.log.read_text() for launch in launches] == [f"log {n}\n" for n in range(8)]


def _check(ended: Exit, code: int, kind: FailureClass) -> None:
    assert ended.exit_code == code
    assert ended.failure is not None
    assert ended.failure.kind is kind
    assert ended.failure.exit_code == code


def _failure(attempts: Attempts, launch: Launch) -> Failure | None:
    """Return how the attempt failed, whether that was known at its start or at its end."""
    try:
        return attempts.run(launch).failure
    except AttemptFailed as error:
        return error.failure
