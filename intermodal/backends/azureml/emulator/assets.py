"""Versioned assets: codes, data, environments, components and models."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from intermodal.backends.azureml.emulator.answers import Answer, Refused, Request, not_found
from intermodal.backends.azureml.emulator.identity import PROVIDER
from intermodal.backends.azureml.emulator.published import check_body
from intermodal.backends.azureml.emulator.records import Asset
from intermodal.backends.azureml.emulator.workspace import Routes, Workspace, system_data

KINDS = ("codes", "data", "environments", "components", "models")
_MAY_CHANGE = ("description", "tags", "properties", "isArchived", "stage")
"""What an existing version may have changed; the rest is fixed for ever."""
_ASSET_ID = re.compile(
    r"(?:azureml:)?(?:.*/workspaces/[^/]+/(?P<kind>[a-z]+)/(?P<name>[^/]+)/versions/(?P<version>[^/]+)"
    r"|azureml:(?P<short>[^/:]+):(?P<number>[^/:]+))"
)


def find_asset(workspace: Workspace, id: str, kind: str | None = None) -> Asset:
    """Return what an ARM id names, or `azureml:name:version` where the kind is known. Raises KeyError."""
    found = _ASSET_ID.fullmatch(id)
    if found is None or (found["kind"] and kind and found["kind"] != kind):
        raise KeyError(id)
    if found["kind"]:
        return workspace.records.asset(found["kind"], found["name"], found["version"])
    if kind is None:
        raise KeyError(id)
    return workspace.records.asset(kind, found["short"], found["number"])


def register_output(workspace: Workspace, form: Mapping[str, Any], uri: str) -> None:
    """Register what a job gave, if its output asks for a name: as data, or as a model by its type."""
    name = form.get("assetName") or form.get("asset_name")
    if not name:
        return
    type = str(form.get("jobOutputType") or form.get("type") or "uri_folder")
    is_model = type.endswith("_model")
    kind = "models" if is_model else "data"
    version = (
        form.get("assetVersion") or form.get("asset_version") or next_version(workspace.records.assets(kind, name))
    )
    properties = {"modelType": type, "modelUri": uri} if is_model else {"dataType": type, "dataUri": uri}
    workspace.records.put_asset(kind, str(name), str(version), properties)


def next_version(versions: Sequence[Asset]) -> str:
    """Return the version that a new one gets: the greatest number and one."""
    return str(max((int(asset.version) for asset in versions if asset.version.isdigit()), default=0) + 1)


def _put(workspace: Workspace, request: Request) -> Answer:
    kind, name, version = (request.names[part] for part in ("kind", "name", "version"))
    properties = check_body(kind, request.object())
    _refuse_flow(kind, properties)
    try:
        before = workspace.records.asset(kind, name, version)
    except KeyError:
        stored = workspace.records.put_asset(kind, name, version, properties)
        return Answer(_shown(workspace, stored), 201)
    if _fixed(before.properties) != _fixed(properties):
        raise Refused(
            409,
            "UserError",
            f"{kind} {name}:{version} exists already, with another content",
            target=f"{name}:{version}",
        )
    return Answer(_shown(workspace, workspace.records.put_asset(kind, name, version, properties)))


def _refuse_flow(kind: str, properties: Mapping[str, Any]) -> None:
    """Refuse a component made of a prompt flow: the service makes a parallel component of it, by rules that are not published."""
    if kind == "components" and "flow_definition_uri" in (properties.get("componentSpec") or {}):
        raise Refused(
            400,
            "UserError",
            "a component made of a prompt flow; the emulator runs command, pipeline and sweep components",
            target="componentSpec.flow_definition_uri",
        )


def _fixed(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key not in _MAY_CHANGE and value is not None}


def _get(workspace: Workspace, request: Request) -> Answer:
    kind, name, version = (request.names[part] for part in ("kind", "name", "version"))
    try:
        return Answer(_shown(workspace, workspace.records.asset(kind, name, version)))
    except KeyError as error:
        raise not_found(f"{kind} {name}:{version}") from error


def _list_versions(workspace: Workspace, request: Request) -> Answer:
    kind, query = request.names["kind"], request.query
    content = query.get("hash")
    # Code is looked for by its content: whatever name it has, it need not be sent again.
    found = workspace.records.assets(kind, None if content else request.names["name"])
    if content:
        found = [asset for asset in found if _hash(asset) == (content, query.get("hashVersion"))]
    elif not found:
        raise not_found(f"{kind} {request.names['name']}")
    if "desc" in query.get("$orderBy", "").lower():
        found.reverse()
    view = query.get("listViewType", "All")
    found = [asset for asset in found if view == "All" or (view == "ArchivedOnly") == _archived(asset)]
    if top := query.get("$top"):
        found = found[: int(top)]
    return Answer({"value": [_shown(workspace, asset) for asset in found]})


def _hash(asset: Asset) -> tuple[str | None, str | None]:
    properties = asset.properties.get("properties") or {}
    return properties.get("hash_sha256"), properties.get("hash_version")


def _archived(asset: Asset) -> bool:
    return bool(asset.properties.get("isArchived"))


def _container(workspace: Workspace, kind: str, versions: list[Asset]) -> dict[str, Any]:
    latest = versions[-1]
    return {
        "id": workspace.id(kind, latest.name),
        "name": latest.name,
        "type": f"{PROVIDER}/workspaces/{kind}",
        "properties": {
            "description": None,
            "tags": {},
            "properties": {},
            "isArchived": all(map(_archived, versions)),
            "latestVersion": latest.version,
            "nextVersion": next_version(versions),
            **({"dataType": latest.properties.get("dataType")} if kind == "data" else {}),
        },
        "systemData": system_data(versions[0].created, latest.modified),
    }


def _get_container(workspace: Workspace, request: Request) -> Answer:
    kind, name = request.names["kind"], request.names["name"]
    versions = workspace.records.assets(kind, name)
    if not versions:
        raise not_found(f"{kind} container {name}")
    return Answer(_container(workspace, kind, versions))


def _list_containers(workspace: Workspace, request: Request) -> Answer:
    kind = request.names["kind"]
    named: dict[str, list[Asset]] = {}
    for asset in workspace.records.assets(kind):
        if not (asset.properties.get("isAnonymous") or asset.name == "azureml_anonymous"):
            named.setdefault(asset.name, []).append(asset)
    return Answer({"value": [_container(workspace, kind, versions) for versions in named.values()]})


def _pending_upload(workspace: Workspace, request: Request) -> Answer:
    """Give a container of its own for the content of a code, and a signature to write to it."""
    container = str(uuid.uuid4())
    workspace.blobs.make_container(container)
    address, signed = workspace.blobs.container_address(container)
    return Answer(
        {
            "pendingUploadId": None,
            "pendingUploadType": "TemporaryBlobReference",
            "blobReferenceForConsumption": {
                "blobUri": address,
                "storageAccountArmId": None,
                "credential": {"credentialType": "SAS", "sasUri": signed},
            },
        }
    )


def _shown(workspace: Workspace, asset: Asset) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "description": None,
        "tags": {},
        "properties": {},
        "isArchived": False,
        "isAnonymous": False,
    }
    given = {key: value for key, value in asset.properties.items() if value is not None}
    if asset.kind == "models":
        properties |= {"flavors": {}, "modelType": "custom_model", "jobName": None}
    if asset.kind == "components":
        given["componentSpec"] = spelled({**given["componentSpec"], "name": asset.name, "version": asset.version})
    return workspace.resource(asset.kind, asset, {**properties, **given, "provisioningState": "Succeeded"})


def spelled(value: Any) -> Any:
    """Return a component's spec as the service gives it back: booleans and numbers are text, as Python writes them."""
    if isinstance(value, dict):
        return {key: spelled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [spelled(item) for item in value]
    return value if value is None or isinstance(value, str) else str(value)


_KIND = f"/(?P<kind>{'|'.join(KINDS)})"
_NAME = _KIND + "/(?P<name>[^/]+)"
_VERSION = _NAME + "/versions/(?P<version>[^/]+)"
ROUTES: Routes = (
    ("GET", _KIND, _list_containers),
    ("GET", _NAME, _get_container),
    ("GET", _NAME + "/versions", _list_versions),
    ("GET", _VERSION, _get),
    ("PUT", _VERSION, _put),
    ("POST", _VERSION + "/startPendingUpload", _pending_upload),
)
