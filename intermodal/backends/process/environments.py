"""One virtual environment per set of locks, made once and shared by all runs of a state folder."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from intermodal.build.wheels import fetch, read_lock
from intermodal.engine.backend import Packages
from intermodal.errors import EnvironmentProblem
from intermodal.turns import alone

_READY = "intermodal-ready"
_EXACT = ("--require-hashes", "--no-deps")


def environment_for(locks: Sequence[Path], folder: Path, wheels: Path, packages: Packages | None = None) -> Path:
    """Return the environment of `locks` below `folder`, installing it if it is not there whole.

    `wheels` is a folder of downloaded wheels, which may be shared with image builds. `packages` are installed over what the locks say.
    With neither it is the bare Python that runs this.

    Raises EnvironmentProblem with the installer's last words.
    """
    total = hashlib.sha256(f"{sys.implementation.cache_tag} {sys.platform}\n".encode())
    for lock in locks:
        total.update(lock.read_bytes() + b"\0")
    if packages is not None:
        total.update("".join(sorted(wheel.sha256 for wheel in packages.wheels)).encode())
    environment = folder / total.hexdigest()[:24]
    if (environment / _READY).is_file():
        return environment
    folder.mkdir(parents=True, exist_ok=True)
    with alone(environment.with_suffix(".lock"), f"making {environment}"):
        if not (environment / _READY).is_file():  # else another run made it meanwhile
            _make(environment, locks, wheels, packages)
    return environment


def _make(environment: Path, locks: Sequence[Path], wheels: Path, packages: Packages | None) -> None:
    shutil.rmtree(environment, ignore_errors=True)
    added = packages.wheels if packages else ()
    names = " + ".join([*(f"{lock.parent.name}/{lock.name}" for lock in locks), *(wheel.name for wheel in added)])
    if names:
        print(f"installing the environment of {names} into {environment}", file=sys.stderr)
    python = str(environment / "bin" / "python")
    _run([_uv(), "venv", "--quiet", "--python", sys.executable, str(environment)], names)
    for lock in locks:
        pins = read_lock(lock)
        if pins and _same_as_images():
            # uv links files from its cache: three environments with torch take the space of one.
            fetch(pins, wheels)
            offline = ["--offline", "--no-index", "--find-links", str(wheels)]
            _run([_uv(), "pip", "install", "--quiet", "--python", python, *_EXACT, *offline, "-r", str(lock)], names)
        elif pins:
            pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--only-binary", ":all:"]
            _run([*pip, *_EXACT, "-r", str(lock)], names)
    if added:
        offline = ["--offline", "--no-index", "--no-deps", "--reinstall"]
        files = [str(wheel.path) for wheel in added]
        _run([_uv(), "pip", "install", "--quiet", "--python", python, *offline, *files], names)
    (environment / _READY).touch()


def _same_as_images() -> bool:
    """Whether wheels downloaded for the images (CPython 3.11, x86-64, glibc) fit this machine too."""
    fits = platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"
    return fits and sys.implementation.cache_tag == "cpython-311"


def _uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if found is None:
        raise EnvironmentProblem("uv is not installed", hint="pip install uv, or run through make")
    return found


def _run(command: Sequence[str], names: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no message"]
        raise EnvironmentProblem(
            f"installing {names} failed: {errors[-1].strip()}", hint="look at the lock and at pip's settings"
        )
