"""The workspace's storage: containers of one account, datastores that name them, addresses, and signatures for clients."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import (
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    generate_blob_sas,
    generate_container_sas,
)

from intermodal.backends.azureml.emulator.identity import Identity
from intermodal.errors import BadInput

ARTIFACT_STORE = "workspaceartifactstore"
ARTIFACT_CONTAINER = "azureml"
BLOB_STORE = "workspaceblobstore"
_DATASTORE = re.compile(
    r"azureml://(?:subscriptions/[^/]+/resource[gG]roups/[^/]+/(?:providers/[^/]+/)?workspaces/[^/]+/)?"
    r"datastores/(?P<store>[^/]+)/(?:paths/)?(?P<path>.*)"
)
_SIGNED_HOURS = 24


@dataclass(frozen=True)
class Place:
    """Where blobs are: a container and the beginning of their names."""

    container: str
    path: str


def datastore_path(uri: str) -> tuple[str, str] | None:
    """Return the datastore and the path of an `azureml://.../datastores/...` address, None for another one."""
    found = _DATASTORE.fullmatch(uri)
    return (found["store"], found["path"].strip("/")) if found else None


class Blobs:
    """The storage account, through Microsoft's own client."""

    def __init__(self, identity: Identity, port: int) -> None:
        self._identity = identity
        self.url = f"http://127.0.0.1:{port}/{identity.account}"
        self._service = BlobServiceClient(self.url, credential=identity.account_key)
        self.blob_container = f"azureml-blobstore-{identity.id}"
        for name in (ARTIFACT_CONTAINER, self.blob_container):
            self.make_container(name)

    def close(self) -> None:
        self._service.close()

    def make_container(self, name: str) -> None:
        with suppress(ResourceExistsError):
            self._service.create_container(name)

    def place(self, url: str) -> Place | None:
        """Return what an http(s) address of this account names, None for one of elsewhere. The port does not count: it may change."""
        parts = unquote(urlsplit(url).path).split("/", 3)
        if len(parts) < 3 or parts[1] != self._identity.account:
            return None
        return Place(parts[2], parts[3] if len(parts) > 3 else "")

    def container_address(self, name: str) -> tuple[str, str]:
        """Return a container's address, and the same with a signature that may read, list and write for a day."""
        signature = generate_container_sas(
            self._identity.account,
            name,
            self._identity.account_key,
            permission=ContainerSasPermissions(read=True, list=True, write=True, create=True, add=True),
            expiry=_expiry(),
        )
        return f"{self.url}/{name}", f"{self.url}/{name}?{signature}"

    def signed(self, place: Place) -> str:
        """Return the address of a blob with a signature that may read it for a day."""
        signature = generate_blob_sas(
            self._identity.account,
            place.container,
            place.path,
            account_key=self._identity.account_key,
            permission=BlobSasPermissions(read=True),
            expiry=_expiry(),
        )
        return f"{self._container(place).get_blob_client(place.path).url}?{signature}"

    def names(self, place: Place) -> Iterator[str]:
        """Yield the names of all blobs whose names begin so."""
        return (name for name, _ in self.sizes(place))

    def sizes(self, place: Place) -> Iterator[tuple[str, int]]:
        """Yield the names of all blobs whose names begin so, and their sizes in bytes."""
        for item in self._container(place).list_blobs(name_starts_with=place.path, include=["metadata"]):
            if not (item.metadata or {}).get("hdi_isfolder"):
                yield item.name, item.size

    def upload(self, source: Path, place: Place) -> None:
        """Publish a file at a place, or all files of a folder below it. Raises BadInput for a link: it may lead anywhere."""
        if source.is_file() and not source.is_symlink():
            self._put(source, place)
            return
        for path in sorted([source, *source.rglob("*")]):
            if path.is_symlink():
                raise BadInput(f"{path} is a link, and is not published")
            if path.is_file():
                name = PurePosixPath(place.path, path.relative_to(source).as_posix())
                self._put(path, Place(place.container, str(name)))

    def _put(self, source: Path, place: Place) -> None:
        with source.open("rb") as file:
            self._container(place).upload_blob(place.path, file, overwrite=True)

    def write(self, place: Place, data: bytes) -> None:
        self._container(place).upload_blob(place.path, data, overwrite=True)

    def append(self, place: Place, data: bytes, *, first: bool) -> None:
        """Append to a blob that grows, at most 4 MiB; `first` makes it anew."""
        blob = self._container(place).get_blob_client(place.path)
        if first:
            blob.create_append_blob()
        if data:
            blob.append_block(data)

    def read(self, place: Place) -> bytes:
        """Return a blob's content. Raises KeyError."""
        try:
            return bytes(self._container(place).download_blob(place.path).readall())
        except ResourceNotFoundError as error:
            raise KeyError(place.path) from error

    def download(self, place: Place, folder: Path) -> Path:
        """Fetch a blob, or all blobs below a folder's name, into `folder`.

        Returns the path of the file, or of the folder that holds the files. Raises KeyError if nothing is there.
        """
        client = self._container(place)
        name = place.path.strip("/")
        if name and client.get_blob_client(name).exists():
            target = folder / PurePosixPath(name).name
            self._get(client, name, target)
            return target
        below = f"{name}/" if name else ""
        found = list(self.names(Place(place.container, below))) if client.exists() else []
        if not found:
            raise KeyError(f"nothing is at {place.container}/{name}")
        for blob in found:
            target = folder / blob.removeprefix(below)
            if not target.resolve().is_relative_to(folder.resolve()):
                raise KeyError(f"{blob!r} leads out of its folder")
            self._get(client, blob, target)
        return folder

    def _get(self, client: ContainerClient, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            client.download_blob(name).readinto(file)

    def _container(self, place: Place) -> ContainerClient:
        return self._service.get_container_client(place.container)


def _expiry() -> datetime:
    return datetime.now(UTC) + timedelta(hours=_SIGNED_HOURS)
