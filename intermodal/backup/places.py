"""Where backups lie: a folder (a mounted drive), or anything that an installed fsspec package reaches."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from intermodal.errors import BadInput, EnvironmentProblem


class Place(Protocol):
    """Files by name (`a/b`). A file is there whole or not at all. Every method may raise OSError."""

    address: str

    def names(self, folder: str) -> list[str]:
        """Return the names of the files right in a folder; none if there is no such folder."""

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes as the place itself says it, None if there is none."""

    def open(self, name: str) -> BinaryIO:
        """Open a file to read it. Raises FileNotFoundError."""

    def put(self, name: str, source: Path) -> None:
        """Put a file there, in place of one of that name."""


@contextmanager
def explained(address: str, doing: str) -> Iterator[None]:
    """Turn what a place refuses into EnvironmentProblem that names it."""
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
        return sorted(f"{folder}/{item.name}" for item in path.iterdir() if item.is_file())

    def size(self, name: str) -> int | None:
        try:
            return (self._root / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, name: str) -> BinaryIO:
        return (self._root / name).open("rb")

    def put(self, name: str, source: Path) -> None:
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".part-{uuid.uuid4().hex}")
        try:
            with source.open("rb") as given, part.open("xb") as copy:
                shutil.copyfileobj(given, copy, 2**20)
                copy.flush()
                os.fsync(copy.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


class _Remote:
    def __init__(self, address: str) -> None:
        """Raises BadInput for a scheme whose package is not installed."""
        try:
            import fsspec
        except ImportError as error:
            raise BadInput(f"{address}: fsspec is not installed", hint="pip install fsspec") from error
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise BadInput(f"{address}: {error}") from error
        self.address = address

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def names(self, folder: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            found: list[dict[str, Any]] = self._files.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return []
        return sorted(f"{folder}/{item['name'].rpartition('/')[2]}" for item in found if item["type"] == "file")

    def size(self, name: str) -> int | None:
        self._files.invalidate_cache()
        try:
            return int(self._files.size(self._path(name)))
        except FileNotFoundError:
            return None

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self._files.open(self._path(name), "rb"))

    def put(self, name: str, source: Path) -> None:
        self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
        self._files.put_file(str(source), self._path(name))
