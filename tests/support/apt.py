"""Programs that tests need, from Debian: root on Debian or Ubuntu gets them, anybody else is told what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive"}


def install(program: str, package: str, purpose: str, hint: str) -> None:
    """Install `package`, which brings `program`; exit with code 3 and one line if that cannot be."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        _end(f"no {program} on this machine; {purpose} need one", hint)
    print(f"no {program}: installing it with apt for {purpose} (root on Debian or Ubuntu)", file=sys.stderr, flush=True)
    for verb, words in (("update", []), ("install", ["-y", "--no-install-recommends", package])):
        done = subprocess.run(
            ["apt-get", verb, "-q", *words],
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()
            _end(f"apt-get {verb} failed: {last[-1] if last else 'no message'}")


def _end(problem: str, hint: str | None = None) -> None:
    print(f"error: {problem}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    raise SystemExit(3)
