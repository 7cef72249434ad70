"""A container registry of this machine: Debian's `docker-registry`, its package unpacked beside the other tools, never installed."""

from __future__ import annotations

import fcntl
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TOOLS = Path(__file__).parents[2] / ".intermodal/tools/docker-registry"
_CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: "{root}"}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def find_registry() -> str:
    """Return the program, fetched by apt if it is not here. Raises AssertionError with apt's words."""
    found = shutil.which("docker-registry") or shutil.which("docker-registry", path=str(_TOOLS / "usr/bin"))
    if found:
        return found
    _TOOLS.parent.mkdir(parents=True, exist_ok=True)
    with (_TOOLS.parent / "docker-registry.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (_TOOLS / "usr/bin/docker-registry").is_file():
            _fetch()
    return str(_TOOLS / "usr/bin/docker-registry")


def _fetch() -> None:
    with tempfile.TemporaryDirectory(dir=_TOOLS.parent) as folder:
        if not _apt(folder):
            subprocess.run(["apt-get", "update", "-q"], capture_output=True, check=False)
            assert _apt(folder), "apt has no package docker-registry"
        (package,) = Path(folder).glob("docker-registry_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(_TOOLS)], check=True)


def _apt(folder: str) -> bool:
    done = subprocess.run(["apt-get", "download", "-q", "docker-registry"], cwd=folder, capture_output=True)
    return done.returncode == 0


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run one on loopback, which engines reach without TLS; its address, `127.0.0.1:PORT`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "registry.yml"
    config.write_text(_CONFIG.format(root=folder / "registry", port=port))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([find_registry(), "serve", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "registry.log").read_text()
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
