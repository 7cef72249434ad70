"""A real server of blobs as a place for backups, and the command in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from azure.storage.blob import BlobServiceClient

from intermodal.backends.azureml.emulator.azurite import Azurite, install
from intermodal.backends.azureml.emulator.identity import load_identity
from tests.support.azurite import TOOLS
from tests.support.command import Command

ROOT = Path(__file__).parents[2]


VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"
"""Where the package for az:// finds the key."""


class Azure:
    """Azurite, and the connection string of its account."""

    def __init__(self, account: str, key: str, port: int) -> None:
        self._account = account
        self._port = port
        self.connection = self.with_key(key)

    def with_key(self, key: str) -> str:
        """Return a connection string with any key."""
        endpoint = f"http://127.0.0.1:{self._port}/{self._account}"
        return f"DefaultEndpointsProtocol=http;AccountName={self._account};AccountKey={key};BlobEndpoint={endpoint};"

    def place(self) -> tuple[str, Callable[[], int]]:
        """Return the address of a place in a new container, and what counts its objects."""
        name = uuid.uuid4().hex
        container = BlobServiceClient.from_connection_string(self.connection).create_container(name)
        return f"az://{name}/kept", lambda: sum(1 for _ in container.list_blobs("kept/objects/"))


def start(intermodal: Command, verb: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "intermodal", verb, "--state", str(intermodal.state), *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(intermodal: Command, verb: str, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own to its end."""
    child = start(intermodal, verb, *words, **environment)
    out, err = child.communicate(timeout=120)
    return subprocess.CompletedProcess(words, child.returncode, out, err)


@contextmanager
def azurite(folder: Path) -> Iterator[Azure]:
    """Run one in a folder."""
    identity = load_identity(folder)
    server = Azurite(install(TOOLS), folder / "storage", identity)
    try:
        yield Azure(identity.account, identity.account_key, server.port)
    finally:
        server.close()
