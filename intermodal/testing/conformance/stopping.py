"""SIGTERM, a time of grace, SIGKILL."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from intermodal.engine.backend import Exit, Launch
from intermodal.engine.failure import FailureClass
from intermodal.testing.attempts import Attempts
from intermodal.testing.conformance.base import Cases

_LISTENS = """
import os, signal, time
def end(*_):
    os.write(1, b"saving\\n")
    time.sleep(0.3)
    os.write(1, b"saved\\n")
    os._exit(143)
signal.signal(signal.SIGTERM, end)
os.write(1, b"ready\\n")
time.sleep(300)
"""
_DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    while True:
        open(os.environ["STEP"] + "/outputs/beats", "a").write(".")
        time.sleep(0.05)
while not os.path.exists(os.environ["STEP"] + "/outputs/beats"):
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(300)
"""


class StopCases(Cases):
    """Stopping attempts that run, that do not listen, that are gone."""

    def test_a_step_may_end_by_itself(self, attempts: Attempts) -> None:
        launch = attempts.code(_LISTENS)
        ended, _ = _stopped(attempts, launch, grace=60)
        assert ended.exit_code == 143
        assert launch.log.read_bytes() == b"ready\nsaving\nsaved\n"

    def test_a_step_that_does_not_listen_is_killed_with_all_it_started(self, attempts: Attempts) -> None:
        launch = attempts.code(_DEAF)
        ended, seconds = _stopped(attempts, launch, grace=2)
        assert ended.exit_code == 137
        assert ended.failure is not None
        assert ended.failure.kind is FailureClass.KILLED
        assert seconds > 1.5
        beats = launch.attempt_dir / "outputs" / "beats"
        assert _grows_no_more(beats)

    def test_no_grace_is_at_once(self, attempts: Attempts) -> None:
        ended, _ = _stopped(attempts, attempts.code(_LISTENS), grace=0)
        assert ended.failure is not None
        assert ended.failure.kind is FailureClass.KILLED

    def test_stopping_what_has_ended_or_is_gone_is_no_error(self, attempts: Attempts) -> None:
        launch = attempts.code("raise SystemExit(3)")
        handle = attempts.backend.start(launch)
        assert attempts.wait(handle, launch).exit_code == 3
        attempts.backend.stop(handle, 1)
        attempts.backend.remove(handle)
        attempts.backend.stop(handle, 1)

    def test_two_may_stop_the_same(self, attempts: Attempts) -> None:
        launch = attempts.code(_LISTENS)
        handle = attempts.backend.start(launch)
        threads = [threading.Thread(target=attempts.backend.stop, args=(handle, grace)) for grace in (30, 0)]
        ready = threading.Event()
        for thread in threads:
            threading.Thread(target=lambda thread=thread: ready.wait(60) and thread.start()).start()
        ended = attempts.wait(handle, launch, lambda line: ready.set() if line == b"ready" else None)
        for thread in threads:
            thread.join()
        attempts.backend.remove(handle)
        assert ended.exit_code in (137, 143)


def _stopped(attempts: Attempts, launch: Launch, grace: float) -> tuple[Exit, float]:
    """Stop an attempt once it has said `ready`; return its end, and how long that took."""
    handle = attempts.backend.start(launch)
    ready = threading.Event()
    since: list[float] = []

    def stop() -> None:
        if ready.wait(60):
            since.append(time.monotonic())
            attempts.backend.stop(handle, grace)

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        ended = attempts.wait(handle, launch, lambda line: ready.set() if line == b"ready" else None)
        seconds = time.monotonic() - since[0] if since else 0.0
    finally:
        ready.set()
        stopper.join()
        attempts.backend.remove(handle)
    return ended, seconds


def _grows_no_more(path: Path) -> bool:
    before = path.stat().st_size
    time.sleep(0.5)
    return path.stat().st_size == before
