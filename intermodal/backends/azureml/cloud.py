"""Which Azure a workspace is in, and how one proves who one is there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from intermodal.backends.azureml.settings import PREFIX, AzureMLSettings
from intermodal.errors import BadInput, EnvironmentProblem


class Token(Protocol):
    """An access token; `expires_on` is in seconds since the epoch."""

    token: str
    expires_on: int


class Credential(Protocol):
    """What azure-identity's credentials are."""

    def get_token(self, *scopes: str, **options: Any) -> Token: ...


@dataclass(frozen=True)
class Cloud:
    """Addresses of one Azure. `authority` is a certificate (PEM) to trust beside, or None."""

    management: str = "https://management.azure.com"
    resource: str = "https://ml.azure.com"
    """What tokens for run history, and for starting pipeline jobs, are for."""
    authority: Path | None = None
    blobs: str = ""
    """Address of a storage account, with `{account}` in it; empty: as the datastore says."""
    local: bool = False
    """Whether it is the emulator: images need no registry there."""


_CLOUDS: Mapping[str, Cloud] = {
    "AzureCloud": Cloud(),
    "AzureUSGovernment": Cloud("https://management.usgovcloudapi.net", "https://ml.azure.us"),
    "AzureChinaCloud": Cloud("https://management.chinacloudapi.cn", "https://ml.azure.cn"),
}


def find_cloud(environment: Mapping[str, str]) -> Cloud:
    """Return the cloud that AZUREML_CURRENT_CLOUD names, as the SDK does; the public one if none is named. Raises BadInput."""
    name = environment.get("AZUREML_CURRENT_CLOUD") or "AzureCloud"
    if name not in _CLOUDS:
        raise BadInput(f"AZUREML_CURRENT_CLOUD={name}: no such cloud", hint=", ".join(_CLOUDS))
    return _CLOUDS[name]


def check_settings(settings: AzureMLSettings) -> None:
    """Raise BadInput, in one line, if the settings do not say where jobs go."""
    missing = [name for name in ("subscription", "resource_group", "workspace") if not getattr(settings, name)]
    if missing:
        raise BadInput(
            f"[tool.intermodal.azureml] lacks {', '.join(missing)}",
            hint=" ".join(f"{PREFIX}{name.upper()}=..." for name in missing),
        )


def default_credential() -> Credential:
    """Return azure-identity's DefaultAzureCredential: environment, workload identity (OIDC), managed identity, az login, ..."""
    try:
        from azure.identity import DefaultAzureCredential
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            "submitting needs the Python package 'azure-identity'", hint="pip install 'intermodal[azureml]'"
        ) from error
    return cast(Credential, DefaultAzureCredential())


def sign_in(credential: Credential, resource: str) -> Token:
    """Return a token for a resource. Raises EnvironmentProblem, in one line, if there is none to be had."""
    from azure.core.exceptions import AzureError

    logging.getLogger("azure").addHandler(logging.NullHandler())  # what it would log is said by the error, in one line
    try:
        return credential.get_token(f"{resource.rstrip('/')}/.default")
    except AzureError as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EnvironmentProblem(
            f"no Azure credential for {resource}: {first}",
            hint="az login; or AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE (OIDC) or AZURE_CLIENT_SECRET",
        ) from error


EMULATOR = "INTERMODAL_EMULATOR"
"""The variable that names the folder of a running emulator, for `submit`; a run's record remembers it."""


def connect(environment: Mapping[str, str], emulator: Path | None = None) -> tuple[Cloud, Credential]:
    """Return which cloud is meant and who asks there; nothing is asked yet. `emulator` is the folder of one that runs.

    Raises BadInput, EnvironmentProblem.
    """
    if emulator is None:
        return find_cloud(environment), default_credential()
    from intermodal.backends.azureml.emulator.client import Credential as EmulatorUser
    from intermodal.backends.azureml.emulator.client import read_address
    from intermodal.backends.azureml.emulator.identity import AML_RESOURCE, load_identity

    address = read_address(emulator)
    cloud = Cloud(address.url, AML_RESOURCE, Path(address.authority), f"{address.storage}/{{account}}", local=True)
    return cloud, cast(Credential, EmulatorUser(load_identity(emulator)))


def emulated(settings: AzureMLSettings, emulator: Path) -> AzureMLSettings:
    """Return the settings with the emulator's workspace for theirs. Raises EnvironmentProblem if none runs there."""
    from intermodal.backends.azureml.emulator.client import read_address
    from intermodal.backends.azureml.emulator.identity import load_identity

    read_address(emulator)
    found = load_identity(emulator)
    names = {"subscription": found.subscription, "resource_group": found.group, "workspace": found.workspace}
    return settings.model_copy(update=names)
