"""Several processes of one command: what their end means for all, without any training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LAUNCH = """
import sys
from components.kfp_io import run_step
from components.trainer.launch import run_processes
run_step(lambda argv: sys.exit(run_processes([sys.executable, "-c", argv[0]], 2)))
"""
WORKER = """
import os, pathlib, signal, sys, time
from components.trainer.launch import LOST, membership
member = membership()
def say(text):
    print(text, file=sys.stderr, flush=True)
def be(code):
    os._exit(code)
"""
SLEEPS = """
pathlib.Path(f"{os.environ['PIDS']}/{member.rank}.part").write_text(str(os.getpid()))
os.rename(f"{os.environ['PIDS']}/{member.rank}.part", f"{os.environ['PIDS']}/{member.rank}")
time.sleep(600)
"""


def launch(worker: str, **environment: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, WORKER + worker],
        cwd=ROOT,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("worker", "code", "said"),
    [
        ("be(0)", 0, ""),
        ("say('error: both find it'); be(2)", 2, "error: both find it\n"),
        ("be(LOST) if member.rank == 0 else (say('error: the second alone'), be(3))", 3, "error: the second alone\n"),
        ("time.sleep(600) if member.rank == 1 else (say('error: the first alone'), be(2))", 2, "error: the first alone\n"),
        ("be(LOST) if member.rank == 0 else os.kill(os.getpid(), 9)", 137, "error: process 1 of the training was ended by SIGKILL\n"),
        ("member.rank and say('no route'); be(LOST)", 2, "error: the training's processes cannot reach each other: no route\n"),
    ],
    ids=["well", "all", "second", "first", "killed", "lost"],
)  # fmt: skip
def test_the_process_that_failed_speaks_for_all(worker, code, said):
    launched = launch(f"print('out', member.rank)\nsys.stdout.flush()\n{worker}")
    out, err = launched.communicate(timeout=60)
    assert (launched.returncode, out, err) == (code, "out 0\n", said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_all_end_with_the_one_that_started_them(tmp_path, number):
    """However that one ends: a killed one cannot pass anything on."""
    launched = launch(SLEEPS, PIDS=tmp_path, TMPDIR=tmp_path)
    wait_for(lambda: {"0", "1"} <= {path.name for path in tmp_path.iterdir()})
    pids = [int((tmp_path / str(rank)).read_text()) for rank in range(2)]
    launched.send_signal(number)
    launched.communicate(timeout=60)
    assert launched.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    wait_for(lambda: not any(alive(pid) for pid in pids))
    if number == signal.SIGTERM:
        assert not list(tmp_path.glob("trainer-*")), "what they met at is removed"


def alive(pid: int) -> bool:
    """Return whether the process runs: one that nobody has waited for yet has ended, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited for a minute"
        time.sleep(0.05)
