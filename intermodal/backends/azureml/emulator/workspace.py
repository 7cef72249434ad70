"""The workspace itself: what it is made of, its datastores and its computes, as ARM shows them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from intermodal.backends.azureml.emulator.answers import Answer, Refused, Request, not_found, timestamp
from intermodal.backends.azureml.emulator.blobs import ARTIFACT_CONTAINER, ARTIFACT_STORE, BLOB_STORE, Blobs, Place
from intermodal.backends.azureml.emulator.contract import Executor
from intermodal.backends.azureml.emulator.identity import PROVIDER, REGION, Identity
from intermodal.backends.azureml.emulator.records import Asset, Records


@dataclass
class Workspace:
    """What the handlers of requests share."""

    identity: Identity
    records: Records
    blobs: Blobs
    address: str
    """`https://host:port` as clients on this machine reach it."""
    computes: Collection[str] | None = None
    """The clusters that there are; None: a cluster of any name."""
    executor: Executor | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)
    """Notified whenever a run has changed."""

    def id(self, *parts: str) -> str:
        """Return an ARM id below the workspace."""
        return "/".join((self.identity.scope, *parts))

    def resource(self, kind: str, asset: Asset, properties: Mapping[str, Any]) -> dict[str, Any]:
        """Return an asset as ARM shows it."""
        path = [kind, asset.name] + (["versions", asset.version] if asset.version else [])
        return {
            "id": self.id(*path),
            "name": asset.version or asset.name,
            "type": f"{PROVIDER}/workspaces/{kind}{'/versions' if asset.version else ''}",
            "properties": dict(properties),
            "systemData": system_data(asset.created, asset.modified),
        }

    @property
    def tracking(self) -> str:
        """The workspace's MLflow address, without a scheme."""
        return f"{self.address.removeprefix('https://')}/mlflow/v1.0{self.identity.scope}"

    def container(self, datastore: str) -> str:
        """Return the container that a datastore names. Raises KeyError."""
        if datastore == ARTIFACT_STORE:
            return ARTIFACT_CONTAINER
        if datastore == BLOB_STORE:
            return self.blobs.blob_container
        return str(self.records.asset("datastores", datastore).properties["containerName"])

    def place(self, datastore: str, path: str) -> Place:
        """Return where a path of a datastore is. Raises KeyError."""
        return Place(self.container(datastore), path)


Handler = Callable[[Workspace, Request], Answer]
Routes = tuple[tuple[str, str, Handler], ...]
"""Method, pattern of the path below the workspace, handler."""


def system_data(created: float, modified: float) -> dict[str, Any]:
    who = {"createdBy": "emulator", "createdByType": "User"}
    changed = {"lastModifiedAt": timestamp(modified), "lastModifiedBy": "emulator", "lastModifiedByType": "User"}
    return {"createdAt": timestamp(created), **who, **changed}


def _workspace(workspace: Workspace, request: Request) -> Answer:
    identity = workspace.identity
    group = identity.scope.split("/providers/")[0]
    return Answer(
        {
            "id": identity.scope,
            "name": identity.workspace,
            "type": f"{PROVIDER}/workspaces",
            "location": REGION,
            "tags": {},
            "etag": None,
            "kind": "Default",
            "identity": {"type": "SystemAssigned", "principalId": identity.id, "tenantId": identity.tenant},
            "sku": {"name": "Basic", "tier": "Basic"},
            "properties": {
                "friendlyName": identity.workspace,
                "description": "",
                "workspaceId": identity.id,
                "discoveryUrl": f"{workspace.address}/discovery/workspaces/{identity.id}",
                "mlFlowTrackingUri": f"azureml://{workspace.tracking}",
                "storageAccount": f"{group}/providers/Microsoft.Storage/storageAccounts/{identity.account}",
                "keyVault": f"{group}/providers/Microsoft.Keyvault/vaults/{identity.account}",
                "applicationInsights": f"{group}/providers/Microsoft.insights/components/{identity.account}",
                "hbiWorkspace": False,
                "tenantId": identity.tenant,
                "imageBuildCompute": None,
                "provisioningState": "Succeeded",
                "v1LegacyMode": False,
                "publicNetworkAccess": "Enabled",
                "isPrivateLinkEnabled": False,
                "storageHnsEnabled": False,
                "systemDatastoresAuthMode": "accessKey",
            },
        }
    )


def discovery(workspace: Workspace, request: Request) -> Answer:
    """Say where the workspace's other services are; everybody may ask."""
    return Answer(
        dict.fromkeys(("api", "history", "experimentation", "artifact", "modelmanagement", "studio"), workspace.address)
    )


def _datastore(workspace: Workspace, name: str) -> dict[str, Any]:
    try:
        stored = workspace.records.asset("datastores", name)
    except KeyError:
        if name not in (ARTIFACT_STORE, BLOB_STORE):
            raise not_found(f"datastore {name}") from None
        stored = Asset("datastores", name, "", {}, 0, 0)
    properties = {
        "description": None,
        "tags": {},
        "properties": {},
        **stored.properties,
        "isDefault": name == BLOB_STORE,
        "datastoreType": "AzureBlob",
        "accountName": workspace.identity.account,
        "containerName": workspace.container(name),
        "endpoint": "core.windows.net",
        "protocol": "https",
        "serviceDataAccessAuthIdentity": "None",
        "credentials": {"credentialsType": "AccountKey"},
    }
    return workspace.resource("datastores", stored, properties)


def _list_datastores(workspace: Workspace, request: Request) -> Answer:
    names = [BLOB_STORE, ARTIFACT_STORE, *(asset.name for asset in workspace.records.assets("datastores"))]
    wanted = request.query.get("isDefault", "").lower() == "true"
    return Answer({"value": [_datastore(workspace, name) for name in names if not wanted or name == BLOB_STORE]})


def _get_datastore(workspace: Workspace, request: Request) -> Answer:
    return Answer(_datastore(workspace, request.names["name"]))


def _put_datastore(workspace: Workspace, request: Request) -> Answer:
    """Make a datastore over a container of the emulator's own account, whatever account the body names."""
    name = request.names["name"]
    properties = request.object().get("properties", {})
    if properties.get("datastoreType") != "AzureBlob":
        raise Refused(400, "UserError", f"The emulator has AzureBlob datastores only: {name}", target="datastoreType")
    if name in (ARTIFACT_STORE, BLOB_STORE):
        raise Refused(400, "UserError", f"{name} is the workspace's own", target="name")
    container = str(properties.get("containerName", ""))
    if not re.fullmatch(r"[a-z0-9](-?[a-z0-9]){2,62}", container):
        raise Refused(400, "UserError", f"{container!r} is no name of a container", target="containerName")
    workspace.blobs.make_container(container)
    kept = {key: properties.get(key) for key in ("description", "tags", "properties", "containerName")}
    workspace.records.put_asset("datastores", name, "", kept)
    return Answer(_datastore(workspace, name), 201)


def _secrets(workspace: Workspace, request: Request) -> Answer:
    _datastore(workspace, request.names["name"])
    return Answer({"secretsType": "AccountKey", "key": workspace.identity.account_key})


def _compute(workspace: Workspace, name: str) -> dict[str, Any]:
    if workspace.computes is not None and name not in workspace.computes:
        raise Refused(404, "ResourceNotFound", f"The specified resource {name!r} was not found.", target="compute")
    return {
        "id": workspace.id("computes", name),
        "name": name,
        "type": f"{PROVIDER}/workspaces/computes",
        "location": REGION,
        "tags": {},
        "properties": {
            "computeType": "AmlCompute",
            "computeLocation": REGION,
            "provisioningState": "Succeeded",
            "provisioningErrors": None,
            "isAttachedCompute": False,
            "description": None,
            "properties": {
                "vmSize": "STANDARD_DS3_V2",
                "vmPriority": "Dedicated",
                "osType": "Linux",
                "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT2M"},
                "allocationState": "Steady",
                "currentNodeCount": 0,
                "targetNodeCount": 0,
                "remoteLoginPortPublicAccess": "NotSpecified",
            },
        },
    }


def _get_compute(workspace: Workspace, request: Request) -> Answer:
    return Answer(_compute(workspace, request.names["name"]))


def _list_computes(workspace: Workspace, request: Request) -> Answer:
    return Answer({"value": [_compute(workspace, name) for name in workspace.computes or ()]})


ROUTES: Routes = (
    ("GET", "", _workspace),
    ("GET", "/datastores", _list_datastores),
    ("GET", "/datastores/(?P<name>[^/]+)", _get_datastore),
    ("PUT", "/datastores/(?P<name>[^/]+)", _put_datastore),
    ("POST", "/datastores/(?P<name>[^/]+)/listSecrets", _secrets),
    ("GET", "/computes", _list_computes),
    ("GET", "/computes/(?P<name>[^/]+)", _get_compute),
)
