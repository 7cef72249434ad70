"""The runner is killed at instants that nobody chose, once or twice; `resume` ends the run as if nothing had been.

INTERMODAL_CRASH_ROUNDS=n tries n instants of each kind instead of the few that every run of the tests can afford.
"""

from __future__ import annotations

import os
import random
import subprocess
import time

import pytest

from tests.crash.case import KILLED, Case

ROUNDS = int(os.environ.get("INTERMODAL_CRASH_ROUNDS", "0"))


def rounds(usual: int) -> range:
    return range(ROUNDS or usual)


def kill_after(child: subprocess.Popen[str], seconds: float) -> bool:
    """Kill a command after some time; return whether it had not ended by then."""
    try:
        child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
    return child.returncode == KILLED


def begun(case: Case) -> bool:
    return case.has_record() and bool(case.query("SELECT id FROM runs"))


def finish(case: Case) -> None:
    """Go on with the run; where it was killed before it came into the record, run the pipeline."""
    if begun(case):
        case.end()
    else:
        for folder in (case.state / "runs").glob("*"):
            os.utime(folder, (time.time() - 3600,) * 2)  # too old for a run that is just about to begin
        done = case.run()
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("backend", "seed"),
    [("process", seed) for seed in rounds(4)]
    + [pytest.param("docker", seed, marks=pytest.mark.engine) for seed in rounds(3)],
)
def test_killed_once(backend, seed, make_case, truth, tmp_path):
    expected = truth(backend)
    case = make_case(backend, tmp_path)
    instant = random.Random(seed).uniform(0.1, 1.0) * expected.seconds
    kill_after(case.start("run", *case.running()), instant)
    for place in case.temporary.iterdir():  # of the command itself, before there was a run
        assert not begun(case), place
        place.rmdir()
    finish(case)
    case.check(expected)


@pytest.mark.parametrize(
    ("backend", "seed"),
    [("process", seed) for seed in rounds(3)]
    + [pytest.param("docker", seed, marks=pytest.mark.engine) for seed in rounds(2)],
)
def test_killed_twice(backend, seed, make_case, truth, tmp_path):
    expected = truth(backend)
    case = make_case(backend, tmp_path)
    instants = random.Random(1000 + seed)
    kill_after(case.start("run", *case.running()), instants.uniform(0.3, 0.9) * expected.seconds)
    if begun(case):
        kill_after(case.start("resume"), instants.uniform(0.2, 0.8) * expected.seconds)
    finish(case)
    case.check(expected)
