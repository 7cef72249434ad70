"""Importers: something that exists already becomes an artifact of the store.

The content is read anew each time, so a file that changed under an old URI is noticed; what has not changed leaves downstream cached.
"""

from __future__ import annotations

import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.database import Database
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass, no_space
from intermodal.engine.placeholders import Context, resolve_value
from intermodal.engine.store import BadContent, Store
from intermodal.errors import BadInput
from intermodal.spec.types import Constant, FromInput, Importer, Value

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


def run_import(importer: Importer, uri: str, metadata: dict[str, Value], store: Store, database: Database) -> Artifact:
    """Fetch what `uri` names into the store. Raises AttemptFailed saying why it cannot."""
    try:
        with store.temporary.folder() as folder:
            path = _fetch(uri, folder)
            digest = store.publish(path, file_hash=database.file_hash)
    except BadContent as error:
        raise _failed(uri, str(error)) from error
    except OSError as error:
        if no_space(error):
            full = Failure(FailureClass.DISK_FULL, f"{uri} cannot be imported: no space left on the disk")
            raise AttemptFailed(full) from error
        raise _failed(uri, error.strerror or str(error)) from error
    return Artifact("artifact", importer.type, digest=digest, metadata=metadata)


def _failed(uri: str, reason: str) -> AttemptFailed:
    return AttemptFailed(Failure(FailureClass.USER_CODE, f"{uri} cannot be imported: {reason}"))


def _fetch(uri: str, folder: Path) -> Path:
    """Return a local path with the content of `uri`."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri).expanduser()
    if scheme == "file":
        return Path(urllib.parse.unquote(rest))
    if scheme in ("http", "https"):
        return _download(uri, folder)
    return _by_fsspec(uri, scheme, folder)


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
