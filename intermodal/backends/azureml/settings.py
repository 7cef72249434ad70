"""`[tool.intermodal.azureml]`: where jobs go and what they run on, typed and validated. Nothing in it is a secret.

Every plain value can come from the environment instead: INTERMODAL_AZUREML_<KEY>, e.g. INTERMODAL_AZUREML_WORKSPACE.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from intermodal.backends.azureml.native_sweep import NativeSweep
from intermodal.errors import BadInput

PREFIX = "INTERMODAL_AZUREML_"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InstanceType(_Table):
    """A machine that tasks may run on: its size, and the instance type or the cluster that gives it."""

    cpus: PositiveFloat
    memory: str
    """A Kubernetes quantity, e.g. `14Gi`."""
    accelerator: str = ""
    """A KFP accelerator type, e.g. `nvidia.com/gpu`; empty for a machine without one."""
    accelerators: int = 0
    instance_type: str = ""
    """Serverless: an Azure VM size, e.g. `Standard_DS3_v2`."""
    compute: str = ""
    """The name of a compute cluster of the workspace."""
    price: float = 0.0
    """What orders machines that would do: the cheapest is taken, the first of equals."""


class TaskSettings(_Table):
    """What one component's tasks get beside, or instead of, what the pipeline says."""

    instance_type: str = ""
    compute: str = ""
    shm_size: str = ""
    timeout: PositiveFloat | None = None
    """Seconds."""


class Secret(_Table):
    """A key of a Kubernetes secret: which Key Vault secret it is. The launcher fetches it with the compute's identity."""

    vault: str
    """The vault's address, e.g. `https://name.vault.azure.net`."""
    name: str
    version: str = ""


class AzureMLSettings(_Table):
    """The table. An unknown key is an error."""

    subscription: str = ""
    resource_group: str = ""
    workspace: str = ""
    experiment: str = ""
    registry: str = ""
    """The container registry that steps' images are pushed to, e.g. `name.azurecr.io`."""
    images: dict[str, str] = Field(default_factory=dict)
    """Image of the pipeline -> image in a registry, by digest; over the lock that `make images-push` writes."""
    compute: str = "serverless"
    instance_types: list[InstanceType] = Field(default_factory=list)
    tasks: dict[str, TaskSettings] = Field(default_factory=dict)
    """Component name -> its settings."""
    identity: Literal["", "managed", "user"] = ""
    identity_client_id: str = ""
    fan_out: PositiveInt = 16
    """Slots of a loop whose items a task makes."""
    fail_fast: bool = False
    tags: dict[str, str] = Field(default_factory=dict)
    datastore: str = ""
    """Datastore for outputs; empty for the workspace's default."""
    secrets: dict[str, dict[str, Secret]] = Field(default_factory=dict)
    """Secret of the pipeline -> key -> Key Vault secret."""
    config_maps: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Config map of the pipeline -> key -> value."""
    sweeps: dict[str, NativeSweep] = Field(default_factory=dict)
    """Component name of a search step -> how AzureML runs it as a native sweep; without, its container searches by itself."""
    volumes: dict[str, str] = Field(default_factory=dict)
    """Claim of the pipeline -> `azureml://datastores/<name>/paths/<folder>`."""
    python_images: list[str] = Field(default_factory=list)
    """Images that are said to have Python 3.9 or newer: compiling does not look for it in them."""


_FROM_ENVIRONMENT = (
    "subscription", "resource_group", "workspace", "experiment", "registry", "compute", "identity", "identity_client_id",
    "fan_out", "fail_fast", "datastore",
)  # fmt: skip


def load_azureml_settings(project: Path | None, environment: Mapping[str, str]) -> AzureMLSettings:
    """Read the table of the project's pyproject.toml, with values of the environment over it. Raises BadInput naming the key."""
    table: dict[str, Any] = {}
    place = "the environment"
    if project is not None:
        path = project / "pyproject.toml"
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise BadInput(f"{path}: {error}") from error
        table = dict(document.get("tool", {}).get("intermodal", {}).get("azureml", {}))
        place = str(path)
    for name, value in environment.items():
        key = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and value:
            if key not in _FROM_ENVIRONMENT:
                raise BadInput(
                    f"{name}: no such setting", hint=", ".join(PREFIX + known.upper() for known in _FROM_ENVIRONMENT)
                )
            table[key] = value
    try:
        return AzureMLSettings.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{place}: [tool.intermodal.azureml] {where}: {first['msg']}") from error
