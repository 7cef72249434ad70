"""azurite, Microsoft's emulator of blob storage: found or installed by npm from a lock with hashes, and run as long as it is needed."""

from __future__ import annotations

import fcntl
import os
import re
import selectors
import shutil
import socket
import subprocess
import time
from pathlib import Path

from intermodal.backends.azureml.emulator.identity import Identity
from intermodal.errors import EnvironmentProblem

VERSION = "3.35.0"
"""As in storage/package.json."""
_FILES = Path(__file__).parent / "storage"
_PATIENCE = 120.0
"""Seconds to wait for the service to start, on a busy machine too."""
_LISTENS = re.compile(rb"successfully listens on http://[^:]+:(\d+)")


def missing_tools() -> list[str]:
    """Return the programs that the emulator needs and this machine lacks: of `node` and `npm`."""
    return [name for name in ("node", "npm") if shutil.which(name) is None]


def installed(tools: Path) -> bool:
    """Whether azurite of the right version is in a tools folder (`.intermodal/tools`)."""
    return _main(tools).is_file()


def install(tools: Path) -> Path:
    """Return azurite's script, installed in the tools folder if it is not there. Raises EnvironmentProblem.

    npm runs no scripts of packages, and takes only what the lock's hashes name. Processes that install at once wait for each other.
    """
    if shutil.which("node") is None:
        raise EnvironmentProblem(
            "Node.js is missing: azurite, the emulator's storage, runs on it", hint="apt install nodejs npm"
        )
    if installed(tools):
        return _main(tools)
    if shutil.which("npm") is None:
        raise EnvironmentProblem(
            f"azurite {VERSION} is not installed, and npm to install it is missing", hint="apt install npm"
        )
    folder = _folder(tools)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "azurite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed(tools):
            _install(folder)
    return _main(tools)


def _install(folder: Path) -> None:
    making = folder.with_name(folder.name + ".part")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_FILES / name, making)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=making, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise EnvironmentProblem(
            f"npm cannot install azurite {VERSION}: {words[0] if words else 'no message'}",
            hint=f"try it in {making}: {' '.join(command)}",
        )
    making.rename(folder)


def _folder(tools: Path) -> Path:
    return tools / f"azurite-{VERSION}"


def _main(tools: Path) -> Path:
    return _folder(tools) / "node_modules/azurite/dist/src/blob/main.js"


class Azurite:
    """The service on 127.0.0.1, its blobs in a folder. It ends when this process does, however that ends."""

    def __init__(self, script: Path, folder: Path, identity: Identity) -> None:
        """Start it and wait until it answers. Raises EnvironmentProblem with its own words."""
        folder.mkdir(parents=True, exist_ok=True)
        self._remembered = folder / "port"
        options = ["--blobHost", "127.0.0.1", "--blobPort", str(self._free_port()), "--location", str(folder / "blobs")]
        options += ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        self._process = subprocess.Popen(
            ["node", str(_FILES / "serve.js"), str(script), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "AZURITE_ACCOUNTS": f"{identity.account}:{identity.account_key}"},
            start_new_session=True,  # Ctrl-C ends the emulator first, which still needs its storage
        )
        self.port = self._wait()
        self._remembered.write_text(str(self.port), encoding="ascii")

    def _free_port(self) -> int:
        """The port of the last time if it is free: addresses that a user kept stay good."""
        try:
            port = int(self._remembered.read_text(encoding="ascii"))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except (OSError, ValueError, OverflowError):
            return 0
        return port

    def _wait(self) -> int:
        assert self._process.stdout is not None
        said = b""
        deadline = time.monotonic() + _PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while time.monotonic() < deadline:
                if not selector.select(timeout=1):
                    continue
                data = os.read(self._process.stdout.fileno(), 2**16)
                said += data
                if found := _LISTENS.search(said):
                    return int(found.group(1))
                if not data:
                    break
        self.close()
        words = said.decode(errors="replace").strip().splitlines()
        raise EnvironmentProblem(f"azurite does not start: {words[-1] if words else 'it says nothing'}")

    def close(self) -> None:
        """Stop it; it writes down what it holds first."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
