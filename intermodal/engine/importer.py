"""Importers: something that exists already becomes an artifact of the store.

The content is read anew each time, so a file that changed under an old URI is noticed; what has not changed leaves downstream cached.
"""

from __future__ import annotations

import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.backend import Backend
from intermodal.engine.database import Database
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass, no_space
from intermodal.engine.placeholders import Context, resolve_value
from intermodal.engine.store import BadContent, Store
from intermodal.engine.temporary import discard
from intermodal.engine.uris import IN_WORKSPACE, WORKSPACE, is_mounted, path_of, store_uri, stored_digest
from intermodal.errors import BadInput, EnvironmentProblem
from intermodal.spec.types import Constant, FromInput, Importer, Value

NAME = "artifact"
"""What an imported artifact is called."""

_TIMEOUT = 60.0
"""Seconds without a byte after which a download is given up."""


def resolve_importer(
    importer: Importer, inputs: Inputs, job: dict[str, str], place: str
) -> tuple[str, dict[str, Value]]:
    """Return the URI and the metadata with their placeholders replaced. Raises BadInput naming `place`."""
    context = Context(parameters=inputs.parameters, channels=inputs.channels, job=job)
    uri: Value = None
    if isinstance(importer.uri, Constant):
        uri = _substituted(importer.uri.value, context)
    elif isinstance(importer.uri, FromInput):
        uri = inputs.parameters.get(importer.uri.name, inputs.channels.get(importer.uri.name))
    if not isinstance(uri, str) or not uri:
        raise BadInput(f"{place}: the importer has no URI")
    metadata = _substituted(dict(importer.metadata), context)
    return uri, metadata


def _substituted(value: Any, context: Context) -> Any:
    if isinstance(value, str):
        return resolve_value(value, context)
    if isinstance(value, dict):
        return {str(_substituted(key, context)): _substituted(item, context) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, context) for item in value]
    return value


@dataclass(frozen=True)
class Imports:
    """What the importers of one run work with."""

    store: Store
    database: Database
    backend: Backend
    places: Sequence[tuple[str, Path]] = ()
    """Prefixes of URIs and the local folders that stand in for them."""
    workspace: Path | None = None
    """The run's workspace, if its pipeline has one."""

    def run(self, importer: Importer, uri: str, metadata: Mapping[str, Value]) -> Artifact:
        """Fetch what `uri` names into the store. Raises AttemptFailed saying why it cannot."""
        try:
            digest = stored_digest(uri)
            if digest is None:
                digest = self._publish(uri, importer)
            elif self.store.damage(digest) is not None:
                raise _failed(uri, "it is not in the store any more")
            artifact = imported(importer, uri, digest, metadata)
            if importer.to_workspace:
                self._copy(digest, artifact.uri or store_uri(digest, NAME), artifact.metadata)
        except BadContent as error:
            raise _failed(uri, str(error)) from error
        except EnvironmentProblem as error:
            raise _failed(uri, error.message) from error
        except OSError as error:
            if no_space(error):
                full = Failure(FailureClass.DISK_FULL, f"{uri} cannot be imported: no space left on the disk")
                raise AttemptFailed(full) from error
            raise _failed(uri, error.strerror or str(error)) from error
        return artifact

    def _publish(self, uri: str, importer: Importer) -> str:
        with self.store.temporary.folder() as folder:
            path = self._fetch(uri, importer, folder)
            return self.store.publish(path, file_hash=self.database.file_hash)

    def _fetch(self, uri: str, importer: Importer, folder: Path) -> Path:
        """Return a local path with the content of `uri`."""
        here = local_path(uri, self.places)
        if here is not None:
            return here
        scheme, _, rest = uri.partition("://")
        if scheme in ("http", "https"):
            return _download(uri, folder)
        if scheme == "oci":
            return self._from_image(uri, rest, importer, folder)
        return _by_fsspec(uri, scheme, folder)

    def _from_image(self, uri: str, reference: str, importer: Importer, folder: Path) -> Path:
        """Return the model in an image: KFP's modelcars hold one in `/models`."""
        if importer.type.schema_title != "system.Model":
            raise _failed(uri, f"oci:// is for a system.Model, not for a {importer.type.schema_title}")
        if importer.to_workspace:
            raise _failed(uri, "an image cannot be imported into a workspace")
        return self.backend.export(self.backend.resolve_image(reference), PurePosixPath("/models"), folder)

    def _copy(self, digest: str, uri: str, metadata: Mapping[str, Value]) -> None:
        """Put content where the SDK looks for an artifact in the workspace; a step may change it there."""
        assert self.workspace is not None  # checked when the pipeline was loaded
        target = self.workspace / PurePosixPath(path_of(uri, metadata)).relative_to(WORKSPACE)
        source = self.store.path(digest)
        with self.store.temporary.folder() as folder:
            copy = folder / "content"
            if source.is_dir():
                shutil.copytree(source, copy, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(source, copy)
            target.parent.mkdir(parents=True, exist_ok=True)
            discard(target)
            copy.rename(target)


def _failed(uri: str, reason: str) -> AttemptFailed:
    return AttemptFailed(Failure(FailureClass.USER_CODE, f"{uri} cannot be imported: {reason}"))


def imported(importer: Importer, uri: str, digest: str, metadata: Mapping[str, Value]) -> Artifact:
    """Return the artifact that an import of `uri` is, once the digest of its content is known."""
    if importer.to_workspace:
        metadata = {**metadata, IN_WORKSPACE: True}
    return Artifact(NAME, importer.type, digest=digest, uri=uri if is_mounted(uri) else "", metadata=metadata)


def local_path(uri: str, places: Sequence[tuple[str, Path]]) -> Path | None:
    """Return the path of this machine that `uri` names, or that stands in for it; None if it lies elsewhere."""
    for prefix, place in sorted(places, key=lambda pair: len(pair[0]), reverse=True):
        if uri == prefix or uri.startswith(prefix.rstrip("/") + "/"):
            return place / uri[len(prefix) :].lstrip("/")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri).expanduser()
    return Path(urllib.parse.unquote(rest)) if scheme == "file" else None


def _download(uri: str, folder: Path) -> Path:
    target = folder / "content"
    try:
        with urllib.request.urlopen(uri, timeout=_TIMEOUT) as answer, target.open("wb") as stream:
            shutil.copyfileobj(answer, stream)
    except urllib.error.HTTPError as error:
        raise _failed(uri, f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _failed(uri, str(error.reason)) from error
    return target


def _by_fsspec(uri: str, scheme: str, folder: Path) -> Path:
    try:
        import fsspec
    except ImportError as error:
        raise _failed(uri, f"{scheme}:// needs the Python package fsspec and its support for {scheme}") from error
    try:
        filesystem, path = fsspec.url_to_fs(uri)
    except ImportError as error:
        raise _failed(uri, str(error)) from error
    except ValueError as error:
        raise _failed(uri, f"{scheme}:// is not known ({error})") from error
    target = folder / "content"
    filesystem.get(path, str(target), recursive=filesystem.isdir(path))
    return target
