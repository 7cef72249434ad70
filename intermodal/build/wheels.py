"""Wheels for an image, downloaded on the host: hash-locked, for the image's Python, platform and libc.

The host's own pip does it, with its own configuration, so mirrors, proxies and private CAs work and none of it gets into
an image.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from intermodal.errors import EnvironmentProblem

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where the CPU builds of torch are published. Asked only if pip's own configuration does not know the locked build."""

_PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_5_x86_64",
    "manylinux1_x86_64",
)
_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)")


@dataclass(frozen=True)
class Pin:
    """One locked package."""

    name: str
    version: str
    hashes: frozenset[str]
    text: str
    """Its lines in the lock."""


def read_lock(path: Path) -> list[Pin]:
    """Return the packages of a hash-locked requirement file."""
    pins = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", path.read_text(encoding="utf-8")):
        match = _PINNED.match(block)
        if match:
            hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
            pins.append(Pin(match["name"], match["version"], hashes, block.rstrip("\n")))
    return pins


def fetch(pins: Sequence[Pin], cache: Path) -> list[Path]:
    """Return one wheel for each pin, from `cache` or downloaded into it. Raises EnvironmentProblem naming the package."""
    cache.mkdir(parents=True, exist_ok=True)
    known = _cached(cache)
    missing = [pin for pin in pins if not pin.hashes & known.keys()]
    torch = [pin for pin in missing if pin.name == "torch"]
    _check_torch(torch)
    _download([pin for pin in missing if pin.name != "torch"], cache, ())
    if torch:
        try:
            _download(torch, cache, ())
        except EnvironmentProblem:
            _download(torch, cache, ("--index-url", TORCH_CPU_INDEX))
    known = _cached(cache) if missing else known
    wheels = []
    for pin in pins:
        found = [known[digest] for digest in pin.hashes if digest in known]
        if not found:
            raise EnvironmentProblem(f"{pin.name}=={pin.version}: no wheel with a locked hash was downloaded")
        wheels.append(found[0])
    return sorted(wheels)


def _check_torch(pins: Sequence[Pin]) -> None:
    for pin in pins:
        if not pin.version.endswith("+cpu"):
            raise EnvironmentProblem(f"torch=={pin.version}: is not the CPU build", hint="lock torch==VERSION+cpu")


def _cached(cache: Path) -> dict[str, Path]:
    """Return sha256 -> wheel of the cache; each file's hash is remembered in a file beside it."""
    found = {}
    for wheel in cache.glob("*.whl"):
        note = wheel.with_suffix(".sha256")
        if not note.is_file() or note.stat().st_mtime_ns < wheel.stat().st_mtime_ns:
            with wheel.open("rb") as stream:
                note.write_text(hashlib.file_digest(stream, "sha256").hexdigest(), encoding="ascii")
        found[note.read_text(encoding="ascii")] = wheel
    return found


def _download(pins: Sequence[Pin], cache: Path, more: Sequence[str]) -> None:
    if not pins:
        return
    listing = cache / "wanted.txt"
    listing.write_text("\n".join(pin.text for pin in pins) + "\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
    ]
    command += [
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--abi",
        "cp311",
        "--abi",
        "abi3",
        "--abi",
        "none",
    ]
    for platform in _PLATFORMS:
        command += ["--platform", platform]
    command += ["--dest", str(cache), "--requirement", str(listing), *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
        names = ", ".join(pin.name for pin in pins[:3]) + (" …" if len(pins) > 3 else "")
        raise EnvironmentProblem(
            f"wheels of {names} cannot be downloaded: {lines[0] if lines else 'pip failed'}",
            hint="check the network and pip's configuration (`pip config list`)",
        )
