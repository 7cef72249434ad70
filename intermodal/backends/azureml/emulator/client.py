"""A real `MLClient` for the emulator, and all that it takes to point one there.

    with emulating(folder, backend), connect(folder) as client:
        client.jobs.create_or_update(job)

`connect` needs nothing but the folder of an emulator that runs, in this process or another.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.backends.azureml.emulator.identity import AML_RESOURCE, Identity, load_identity
from intermodal.backends.azureml.emulator.tokens import make_token
from intermodal.errors import EnvironmentProblem

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import AccessToken

_CLOUD = "AZUREML_CURRENT_CLOUD"
_ADDRESS_FILE = "address.json"
_SECONDS_BEFORE_END = 300


@dataclass(frozen=True)
class Address:
    """Where an emulator is: what a client needs to know beside the folder's `workspace.json`."""

    url: str
    authority: str
    """File of the certificate authority, for `connection_verify`."""
    storage: str
    """`http://host:port` of the storage."""


class Credential:
    """A credential of the emulator's user: a token for any resource that is asked for, as azure-identity's credentials give."""

    def __init__(self, identity: Identity, *, lifetime: float = 3600.0) -> None:
        """`lifetime` in seconds may be negative: the tokens have ended already."""
        self._identity = identity
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[str, int]] = {}

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """Return a token for the first scope."""
        from azure.core.credentials import AccessToken

        audience = scopes[0].removesuffix("/.default").rstrip("/")
        with self._lock:
            token, ends = self._tokens.get(audience, ("", 0))
            if ends - time.time() < _SECONDS_BEFORE_END:
                token, ends = make_token(self._identity, audience, lifetime=self._lifetime)
                self._tokens[audience] = (token, ends)
        return AccessToken(token, ends)


def write_address(folder: Path, address: Address) -> None:
    """Say in the folder where its emulator is, for `connect`."""
    (folder / _ADDRESS_FILE).write_text(json.dumps(asdict(address), indent=2), encoding="utf-8")


def read_address(folder: Path) -> Address:
    """Return where a folder's emulator is. Raises EnvironmentProblem if none runs there."""
    try:
        return Address(**json.loads((folder / _ADDRESS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentProblem(
            f"no emulator runs on {folder}", hint=f"intermodal azureml emulate --folder {folder}"
        ) from error


def remove_address(folder: Path) -> None:
    (folder / _ADDRESS_FILE).unlink(missing_ok=True)


def cloud(address: Address) -> dict[str, Any]:
    """Return the arguments of MLClient that lead to an emulator: a cloud of its own, and trust in its authority."""
    return {
        # MLClient remembers clouds by name for the life of the process, and takes a name's first address.
        "cloud": f"Emulator-{address.url.rsplit(':', 1)[-1]}-{address.storage.rsplit(':', 1)[-1]}",
        "cloud_metadata": {
            "azure_portal": "https://portal.azure.com/",
            "resource_manager": address.url,
            "active_directory": address.url,
            "aml_resource_id": AML_RESOURCE,
            "storage_endpoint": "core.windows.net",
            "registry_discovery_endpoint": address.url,
        },
        "connection_verify": address.authority,
        "enable_telemetry": False,
    }


@contextmanager
def connect(folder: Path, credential: Any = None, **options: Any) -> Iterator[MLClient]:
    """Give a real MLClient for the emulator that runs on a folder, in any process.

    `credential` is the emulator's user unless given; `options` go to MLClient. While this lasts, the SDK's table of storage
    addresses leads to the emulator, and the cloud is the emulator's; both are as before at the end. They are one for the process:
    a process talks to one emulator at a time. Raises EnvironmentProblem.
    """
    from azure.ai.ml import MLClient
    from azure.ai.ml.constants._common import STORAGE_ACCOUNT_URLS

    address, identity = read_address(folder), load_identity(folder)
    before, storage = os.environ.get(_CLOUD), dict(STORAGE_ACCOUNT_URLS)
    STORAGE_ACCOUNT_URLS["AzureBlob"] = f"{address.storage}/{{0}}"
    try:
        yield MLClient(
            credential or Credential(identity),
            identity.subscription,
            identity.group,
            identity.workspace,
            **{**cloud(address), **options},
        )
    finally:
        STORAGE_ACCOUNT_URLS.update(storage)
        if before is None:
            os.environ.pop(_CLOUD, None)
        else:
            os.environ[_CLOUD] = before
