"""Data and environments in the workspace, by content: the same folder is uploaded once, an image is what its digest says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.backends.azureml.bodies import environment_name
from intermodal.engine.store import BadContent, scan
from intermodal.errors import BadInput

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Data, Environment

DIGEST_TAG = "intermodal.sha256"
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_IGNORE_FILES = (".amlignore", ".gitignore")


def register_data_asset(
    ml_client: MLClient,
    name: str,
    uri: str,
    *,
    version: str,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> Data:
    """Make the folder at an address (azureml://, https://, wasbs://, abfss://) known as `name`, `version`; return the asset.

    Nothing is done if it is known already. Raises BadInput if that version is known of another address, since what a job has read must
    stay what it was, or if `uri` is a local path; whatever else the service says is raised as it is.
    """
    from azure.ai.ml.entities import Data

    _check_name(name)
    if "://" not in uri:
        raise BadInput(
            f"data asset {name}: {uri} is no address", hint="ensure_data_asset_uploaded takes a local folder"
        )
    there = _existing(ml_client, name, version)
    if there is not None:
        if _plain(str(there.path)) != _plain(uri):
            raise BadInput(f"data asset {name}:{version} is {there.path}, not {uri}", hint="give another version")
        return there
    wanted = Data(
        name=name, version=version, path=uri, type="uri_folder", description=description, tags=dict(tags or {})
    )
    made: Data = ml_client.data.create_or_update(wanted)
    return made


def ensure_data_asset_uploaded(
    ml_client: MLClient,
    name: str,
    folder: Path,
    *,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> Data:
    """Return the data asset `name` that holds what `folder` holds; upload it unless it is there.

    The version is the start of the content's digest (names, sizes, sha256 of all files), so equal content is uploaded once, from
    whichever machine, and changed content is another version. Raises BadInput if the folder is missing, empty or holds what
    cannot be uploaded as it is.
    """
    from azure.ai.ml.entities import Data

    _check_name(name)
    digest = _digest(folder)
    version = digest[:16]
    there = _existing(ml_client, name, version)
    if there is not None:
        if (there.tags or {}).get(DIGEST_TAG) != digest:
            raise BadInput(f"data asset {name}:{version} is there, but is not of this content", hint="use another name")
        return there
    marked = {**(tags or {}), DIGEST_TAG: digest}
    wanted = Data(name=name, version=version, path=str(folder), type="uri_folder", description=description, tags=marked)
    made: Data = ml_client.data.create_or_update(wanted)
    return made


def image_environment(image: str) -> Environment:
    """Return the environment of an image by digest (`registry/name@sha256:...`), the one that compiled pipelines use too.

    Its name is made of the image, so there is one of each and nothing can change under it. Raises BadInput without a digest.
    """
    from azure.ai.ml.entities import Environment

    if not _DIGEST.search(image):
        raise BadInput(
            f"image {image}: has no digest, so it could change under its name", hint="name@sha256:<64 digits>"
        )
    return Environment(name=environment_name(image), version="1", image=image)


def _existing(ml_client: MLClient, name: str, version: str) -> Data | None:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        found: Data = ml_client.data.get(name, version=version)
    except ResourceNotFoundError:
        return None
    return found


def _digest(folder: Path) -> str:
    if not folder.is_dir():
        raise BadInput(f"{folder}: is no folder")
    for name in _IGNORE_FILES:
        if next(folder.rglob(name), None) is not None:
            raise BadInput(f"{folder}: holds a {name}, by which the upload would leave files out", hint="remove it")
    try:
        manifest: Any = scan(folder)
    except BadContent as error:
        raise BadInput(f"{folder}: {error}") from error
    if not manifest.entries:
        raise BadInput(f"{folder}: is empty")
    return str(manifest.digest)


def _plain(uri: str) -> str:
    """Return an address without what the service adds to it: the long form of a datastore, a slash at the end."""
    return re.sub(r"^azureml://subscriptions/.*/datastores/", "azureml://datastores/", uri).rstrip("/")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInput(f"data asset {name!r}: a name has letters, digits, dots, underscores and hyphens")
