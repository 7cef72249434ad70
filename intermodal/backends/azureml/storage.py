"""The workspace's storage: a datastore's files brought here, and files of ours brought there, named by their content."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from intermodal.backends.azureml.service import DATASTORES, Service, segment
from intermodal.backends.remote.contract import PlaceProblem
from intermodal.engine.store import BadContent

_ADDRESS = re.compile(
    r"azureml://(?:subscriptions/[^/]+/resource[gG]roups/[^/]+/(?:providers/[^/]+/)?workspaces/[^/]+/)?"
    r"datastores/(?P<store>[^/]+)/paths/(?P<path>.*)"
)
_SIGNED_SECONDS = 1800
"""How long a signature of a datastore is used before it is asked for again."""
DONE = ".intermodal-complete"
"""Beside uploaded content, once all of it is there."""


def datastore_uri(store: str, path: str) -> str:
    return f"azureml://datastores/{store}/paths/{path}"


def split_uri(uri: str) -> tuple[str, str]:
    """Return the datastore and the path of an address. Raises BadContent for one of elsewhere."""
    found = _ADDRESS.fullmatch(uri)
    if found is None:
        raise BadContent(f"is not in a datastore of the workspace ({uri})")
    return found["store"], found["path"]


@dataclass
class _Container:
    client: Any
    since: float


class Storage:
    """The datastores of one workspace, through Microsoft's own blob client. Raises PlaceProblem where it does not answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._containers: dict[str, _Container] = {}

    def default(self) -> str:
        """Return the name of the workspace's default datastore."""
        found = self._service.get("/datastores", DATASTORES) or {}
        for item in found.get("value", ()):
            if item.get("properties", {}).get("isDefault"):
                return str(item["name"])
        return "workspaceblobstore"

    # Downloads

    def read(self, uri: str) -> bytes | None:
        """Return the content of one small file, None if it is not there."""
        from azure.core.exceptions import ResourceNotFoundError

        store, path = split_uri(uri)
        with _explained(uri):
            try:
                data: bytes = self._container(store).download_blob(path, validate_content=True).readall()
            except ResourceNotFoundError:
                return None
        return data

    def download(self, uri: str, folder: Path) -> Path:
        """Bring the file, or the folder with all that is in it, into `folder` and return its path.

        Raises FileNotFoundError if nothing is there, BadContent if a name leads out of the folder.
        """
        store, path = split_uri(uri)
        path = path.strip("/")
        client = self._container(store)
        target = folder / (PurePosixPath(path).name or "content")
        with _explained(uri):
            found = {item.name: item for item in client.list_blobs(name_starts_with=path, include=["metadata"])}
            if path in found and not _is_folder(found[path]):
                _get(client, path, target)
                return target
            inside = [name for name, item in found.items() if name.startswith(f"{path}/") and not _is_folder(item)]
            if not inside:
                if path not in found:
                    raise FileNotFoundError(uri)
                target.mkdir(parents=True)  # a folder with nothing in it
            for name in inside:
                _get(client, name, _below(target, name.removeprefix(f"{path}/")))
        return target

    # Uploads

    def upload(self, source: Path, store: str, path: str) -> bool:
        """Bring a file or folder to `path`, which is named by its content; return False if it was there already."""
        client = self._container(store)
        done = f"{path.rstrip('/').rpartition('/')[0]}/{DONE}"
        with _explained(datastore_uri(store, path)):
            if client.get_blob_client(done).exists():
                return False
            for relative, file in _files(source):
                with file.open("rb") as stream:
                    client.upload_blob(f"{path.rstrip('/')}/{relative}".rstrip("/"), stream, overwrite=True)
            client.upload_blob(done, b"", overwrite=True)
        return True

    def _container(self, store: str) -> Any:
        kept = self._containers.get(store)
        if kept is None or kept.since + _SIGNED_SECONDS < time.monotonic():
            kept = self._containers[store] = _Container(self._open(store), time.monotonic())
        return kept.client

    def _open(self, store: str) -> Any:
        from azure.storage.blob import ContainerClient

        found = self._service.get(f"/datastores/{segment(store)}", DATASTORES)
        if found is None:
            raise PlaceProblem(f"the workspace has no datastore {store!r}", passing=False, status=404)
        properties = found["properties"]
        if properties.get("datastoreType") not in ("AzureBlob", "AzureDataLakeGen2"):
            raise PlaceProblem(
                f"datastore {store!r} is of kind {properties.get('datastoreType')}: only blob storage is read",
                passing=False,
            )
        container = properties.get("containerName") or properties.get("filesystem")
        return ContainerClient(
            self._account(properties),
            container,
            credential=self._secret(store, properties),
            connection_verify=True,
            retry_total=5,
        )

    def _account(self, properties: Mapping[str, Any]) -> str:
        account = properties["accountName"]
        if self._service.cloud.blobs:
            return self._service.cloud.blobs.format(account=account)
        return f"{properties.get('protocol') or 'https'}://{account}.blob.{properties.get('endpoint') or 'core.windows.net'}"

    def _secret(self, store: str, properties: Mapping[str, Any]) -> Any:
        if (properties.get("credentials") or {}).get("credentialsType") in (None, "None"):
            return self._service.credential  # who asks is asked, not a key
        secrets = self._service.post(f"/datastores/{segment(store)}/listSecrets", DATASTORES)
        return secrets.get("sasToken") or secrets.get("key")


def upload_signed(url: str, folder: str, files: Mapping[str, str]) -> None:
    """Bring text files into a folder of a container whose address is signed. Raises PlaceProblem."""
    from azure.storage.blob import ContainerClient

    with _explained(url.partition("?")[0]), ContainerClient.from_container_url(url, retry_total=5) as client:
        for name, content in files.items():
            client.upload_blob(f"{folder}/{name}", content.encode(), overwrite=True)


def content_address(source: Path, file: str, digest: str) -> str:
    """Return the path in a datastore of content with a digest; `file` is what a file is called there."""
    return f"intermodal/data/{digest}/{file}" if source.is_file() else f"intermodal/data/{digest}/content/"


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield "", path
        return
    for file in sorted(path.rglob("*")):
        if file.is_symlink() or not (file.is_dir() or file.is_file()):
            raise BadContent(f"holds a link or a special file ({file.relative_to(path).as_posix()})")
        if file.is_file():
            yield file.relative_to(path).as_posix(), file


def _is_folder(item: Any) -> bool:
    return bool((item.metadata or {}).get("hdi_isfolder"))


def _below(folder: Path, relative: str) -> Path:
    parts = PurePosixPath(relative).parts
    if ".." in parts or relative.startswith("/"):
        raise BadContent(f"holds a name that leads out of it ({relative!r})")
    return folder.joinpath(*parts)


def _get(client: Any, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        client.download_blob(name, validate_content=True).readinto(stream)


@contextmanager
def _explained(place: str) -> Iterator[None]:
    from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError

    try:
        yield
    except ResourceNotFoundError as error:
        raise FileNotFoundError(place) from error
    except AzureError as error:
        status = error.status_code or 0 if isinstance(error, HttpResponseError) else 0
        words = " ".join(str(error).split())[:300]
        passing = status in (0, 408, 429, 500, 502, 503, 504)
        raise PlaceProblem(f"{place}: storage: {words}", passing=passing, status=status) from error
