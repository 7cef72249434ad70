"""A real Podman that answers on Docker's API. `python -m tests.support.podman` makes sure that it can be had: `make test` runs it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.apt import install


@contextlib.contextmanager
def podman() -> Iterator[str]:
    """Give the address of an engine that keeps everything in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="podman-") as name:  # podman takes no long paths
        yield from _serve(Path(name))


def _serve(folder: Path) -> Iterator[str]:
    address = f"unix://{folder}/podman.sock"
    places = ["--root", str(folder / "root"), "--runroot", str(folder / "run")]
    child = subprocess.Popen(
        ["podman", *places, "--storage-driver", "vfs", "system", "service", "--time=0", address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 60
        while not (folder / "podman.sock").exists():
            assert child.poll() is None and time.monotonic() < deadline, child.stderr and child.stderr.read()
            time.sleep(0.05)
        yield address
    finally:
        child.terminate()
        child.wait()


def main() -> None:
    """Make sure that there is a Podman."""
    if shutil.which("podman") is None:
        install("podman", "podman", "the test that it is told from Docker", "apt install podman")


if __name__ == "__main__":
    main()
