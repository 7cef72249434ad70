"""Where backups lie: a folder (a mounted drive), or anything that an installed fsspec package reaches."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from intermodal.errors import BadInput, EnvironmentProblem

_BLOCK = 2**20
_CHAINED = re.compile(r"::(?=[\w.+-]+://)")
"""What fsspec takes between addresses: `simplecache::s3://...`."""
_USER = re.compile(r"(?<=://)(?:[^/?#]*|[^/@]*:(?!\d*/)[^@]*)(?=@)")
"""`name:password` of an address; also a password with a slash in it, which should be %2F."""
_NO_USER = ("abfs://", "abfss://")
"""Where `container@account` is meant."""


class Place(Protocol):
    """Files by name (`a/b`). Every method raises EnvironmentProblem, which names the place, for what the place refuses.

    What is there may be anything: a place that is cut off may keep half a file.
    """

    address: str
    """As people may see it: without secrets."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the files right in a folder; none if there is no such folder."""

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes as the place itself says it, None if there is none."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """Read a file. Raises FileNotFoundError."""

    def put(self, name: str, source: Path) -> None:
        """Put a file there, in place of one of that name."""


@contextmanager
def explained(address: object, doing: str) -> Iterator[None]:
    """Turn an OSError into an EnvironmentProblem that names what cannot be read, written, ..."""
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(f"{address} cannot be {doing}: {error.strerror or error}") from error


def open_place(address: str, *, make: bool) -> Place:
    """Return the place of an address: a path, or `scheme://...`. Raises BadInput, EnvironmentProblem.

    `make`: a folder that is absent is made in a parent that must be there, since a drive that is not mounted is no place for a backup.
    """
    if "://" in address:
        return _Remote(address)
    folder = Path(address)
    if not folder.is_dir():
        if not make or not folder.absolute().parent.is_dir():
            raise BadInput(f"{address}: there is no such folder", hint="is the drive mounted?")
        with explained(address, "made"):
            folder.mkdir()
    return _Folder(folder)


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.address = str(root)

    def names(self, folder: str) -> list[str]:
        path = self._root / folder
        if not path.is_dir():
            return []
        with explained(self.address, "read"):
            return sorted(f"{folder}/{item.name}" for item in path.iterdir() if item.is_file())

    def size(self, name: str) -> int | None:
        path = self._root / name
        with explained(path, "read"):
            try:
                return path.stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def blocks(self, name: str) -> Iterator[bytes]:
        path = self._root / name
        if not path.exists():
            raise FileNotFoundError(name)
        with explained(path, "read"), path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                yield block

    def put(self, name: str, source: Path) -> None:
        target = self._root / name
        part = target.with_name(f".part-{uuid.uuid4().hex}")
        with explained(self.address, "written"):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with source.open("rb") as given, part.open("xb") as copy:
                    shutil.copyfileobj(given, copy, _BLOCK)
                    copy.flush()
                    os.fsync(copy.fileno())
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)


class _Remote:
    def __init__(self, address: str) -> None:
        """Raises BadInput for a scheme whose package is not installed, or an address that its package does not take."""
        self.address, self._secrets = _without_secrets(address)
        try:
            import fsspec
        except ImportError as error:
            raise BadInput(f"{self.address}: fsspec is not installed", hint="pip install fsspec") from error
        try:
            with self._asked("reached", ImportError, ValueError):
                self._files, self._root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise BadInput(f"{self.address}: {self._said(error)}") from self._cause(error)

    def names(self, folder: str) -> list[str]:
        with self._asked("read"):
            self._files.invalidate_cache()
            try:
                found: list[dict[str, Any]] = self._files.ls(self._path(folder), detail=True)
            except FileNotFoundError:
                return []
            return sorted(f"{folder}/{item['name'].rpartition('/')[2]}" for item in found if item["type"] == "file")

    def size(self, name: str) -> int | None:
        with self._asked("read"):
            self._files.invalidate_cache()
            try:
                size: int | None = self._files.size(self._path(name))
            except FileNotFoundError:
                return None
            return size

    def blocks(self, name: str) -> Iterator[bytes]:
        with self._asked("read", FileNotFoundError), self._files.open(self._path(name), "rb") as stream:
            while block := stream.read(_BLOCK):
                yield block

    def put(self, name: str, source: Path) -> None:
        with self._asked("written"):
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(source), self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _asked(self, doing: str, *known: type[Exception]) -> Iterator[None]:
        """Explain whatever a package raises; each has errors of its own."""
        try:
            yield
        except known:
            raise
        except Exception as error:  # noqa: BLE001 - a package of a scheme may raise anything
            raise EnvironmentProblem(f"{self.address} cannot be {doing}: {self._said(error)}") from self._cause(error)

    def _said(self, error: Exception) -> str:
        text = str((isinstance(error, OSError) and error.strerror) or error)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return next((line for line in text.splitlines() if line.strip()), type(error).__name__)

    def _cause(self, error: Exception) -> Exception | None:
        """Return what --debug may show: no error that may quote a secret."""
        return None if self._secrets else error


def _without_secrets(address: str) -> tuple[str, list[str]]:
    """Return an address without users, passwords and queries, and what of it must not be shown, the longest first."""
    shown: list[str] = []
    secrets: set[str] = set()
    for part in _CHAINED.split(address):
        part, _, query = part.partition("?")
        user = None if part.startswith(_NO_USER) else _USER.search(part)
        if user is not None:
            secrets |= {user[0], user[0].partition(":")[2]}
            part = part[: user.start()] + part[user.end() + 1 :]
        secrets.add(query)
        shown.append(part)
    secrets |= {unquote(secret) for secret in secrets}
    return "::".join(shown), sorted(filter(None, secrets), key=len, reverse=True)
