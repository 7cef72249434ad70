"""Snapshots: what some folders held at one time. A snapshot's file names every file of it by its content, and is written last.

At a place lie `objects/<2 digits>/<sha256>` and `snapshots/<time>-<sha256 of the file>.json`. So a backup that was cut off names nothing,
a snapshot's file that was half copied by other means does not have the hash of its name, and what is there already is not sent again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from intermodal.backup.places import Place, explained
from intermodal.errors import BadInput, EnvironmentProblem

_SCHEMA = 1
_SQLITE = b"SQLite format 3\x00"
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
_BLOCK = 2**20

Say = Callable[[str], None]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Strict):
    path: str
    """Below its folder, with `/`."""
    size: int
    sha256: str


class Snapshot(_Strict):
    """What some folders held."""

    schema_version: int
    created: str
    """UTC, as in the file's name: `20260102T030405Z`."""
    folders: dict[str, list[File]]

    @property
    def files(self) -> Iterator[File]:
        return (file for files in self.folders.values() for file in files)


@dataclass(frozen=True)
class Sent:
    """What a backup did."""

    snapshot: str
    files: int
    bytes: int
    new_files: int
    """Files whose content was not at the place before."""
    new_bytes: int


class Damaged(Exception):
    """Something of a snapshot is not at the place as it was put there."""


def back_up(folders: Mapping[str, Path], place: Place, say: Say) -> Sent:
    """Take a snapshot of folders, safe while they are in use, and read back what was written.

    An SQLite database is copied by SQLite itself; of a file that only grows, a beginning is copied. Links, sockets and the like are left
    out and said. Raises BadInput for a folder that is not there, EnvironmentProblem.
    """
    listed: dict[str, list[File]] = {}
    new: list[int] = []
    with explained(place.address, "written"), tempfile.TemporaryDirectory(prefix="intermodal-backup-") as scratch:
        copy = Path(scratch, "copy")
        for name, folder in folders.items():
            if not folder.is_dir():
                raise BadInput(f"{folder}: there is no such folder")
            listed[name] = []
            for path in _files(folder, say):
                try:
                    digest = _copy(path, copy)
                except FileNotFoundError:
                    continue  # gone since it was listed: it is no part of this time's folder
                size = copy.stat().st_size
                if _send(place, digest, size, copy):
                    new.append(size)
                listed[name].append(File(path=path.relative_to(folder).as_posix(), size=size, sha256=digest))
        created = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        snapshot = Snapshot(schema_version=_SCHEMA, created=created, folders=listed)
        content = snapshot.model_dump_json(indent=1).encode()
        copy.write_bytes(content)
        name = f"snapshots/{created}-{hashlib.sha256(content).hexdigest()}.json"
        place.put(name, copy)
        _read(place, name)
    files = list(snapshot.files)
    return Sent(name, len(files), sum(file.size for file in files), len(new), sum(new))


def restore(
    place: Place, targets: Callable[[str], Path], wanted: list[str], say: Say, *, force: bool
) -> dict[str, Path]:
    """Bring folders (all if none is named) back from the newest whole snapshot; return where they are now.

    Each appears whole or not at all. Snapshots that are not whole are said and passed over. Raises BadInput if no snapshot has them, or
    if a folder is there already and holds something, unless `force`; EnvironmentProblem.
    """
    with explained(place.address, "read"):
        for name in reversed(place.names("snapshots")):
            try:
                snapshot = _read(place, name)
                missing = sorted(set(wanted) - snapshot.folders.keys())
                if missing:
                    raise Damaged(f"it has no {missing[0]}; it has {', '.join(snapshot.folders) or 'nothing'}")
                return _restore(place, snapshot, targets, wanted or list(snapshot.folders), force)
            except Damaged as error:
                say(f"passing over {name}: {error}")
    raise BadInput(f"{place.address}: holds no whole snapshot" + (f" of {', '.join(wanted)}" if wanted else ""))


def snapshots(place: Place) -> list[tuple[str, str | None]]:
    """Return the names of snapshots, oldest first, each with what is wrong with it (by the sizes that the place tells)."""
    found: list[tuple[str, str | None]] = []
    with explained(place.address, "read"):
        for name in place.names("snapshots"):
            try:
                _check_sizes(place, _read(place, name))
                found.append((name, None))
            except Damaged as error:
                found.append((name, str(error)))
    return found


# Reading


def _read(place: Place, name: str) -> Snapshot:
    with place.open(name) as stream:
        content = stream.read()
    digest = name.removesuffix(".json").rpartition("-")[2]
    if hashlib.sha256(content).hexdigest() != digest:
        raise Damaged("its file is not whole")
    try:
        snapshot = Snapshot.model_validate_json(content)
    except ValidationError as error:
        raise Damaged(f"this version cannot read it: {error.errors()[0]['msg']}") from error
    if snapshot.schema_version != _SCHEMA:
        raise Damaged(f"it has schema {snapshot.schema_version}, this version reads {_SCHEMA}")
    return snapshot


def _check_sizes(place: Place, snapshot: Snapshot) -> None:
    for file in snapshot.files:
        size = place.size(_object(file.sha256))
        if size != file.size:
            raise Damaged(f"{file.path} is {'missing' if size is None else f'{size} of {file.size} bytes'}")


def _restore(
    place: Place, snapshot: Snapshot, targets: Callable[[str], Path], names: list[str], force: bool
) -> dict[str, Path]:
    places = {name: targets(name) for name in names}
    for target in places.values():
        if target.exists() and (not target.is_dir() or any(target.iterdir())) and not force:
            raise BadInput(f"{target}: is there already and holds something", hint="--force replaces it")
    made: dict[str, Path] = {}
    try:
        for name, target in places.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            made[name] = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
            for file in snapshot.folders[name]:
                _fetch(place, file, made[name])
        for name, target in places.items():
            _exchange(made[name], target)
    finally:
        for folder in made.values():
            shutil.rmtree(folder, ignore_errors=True)
    return places


def _fetch(place: Place, file: File, folder: Path) -> None:
    path = folder / file.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Damaged(f"{file.path} leads out of its folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with place.open(_object(file.sha256)) as stream, path.open("xb") as copy:
            digest = _pour(stream, copy)
    except FileNotFoundError as error:
        raise Damaged(f"{file.path} is missing") from error
    if digest != file.sha256:
        raise Damaged(f"{file.path} is not what was put there")


def _exchange(new: Path, target: Path) -> None:
    """Put a folder in another's place; what was there goes last."""
    new.chmod(0o1777)  # a volume: steps of any uid write in it
    old = target.with_name(f".{target.name}-old-{os.getpid()}")
    if target.exists():
        target.rename(old)
    new.rename(target)
    if old.exists():
        shutil.rmtree(old)


# Writing


def _files(folder: Path, say: Say) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            say(f"{path}: is no file, left out")
        elif path.is_file() and not _is_of_sqlite(path):
            yield path


def _is_of_sqlite(path: Path) -> bool:
    """Whether a file is what SQLite keeps beside a database: the copy that SQLite makes has all of it in one file."""
    for ending in _BESIDE_SQLITE:
        if path.name.endswith(ending):
            return _is_sqlite(path.with_name(path.name.removesuffix(ending)))
    return False


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def _copy(path: Path, target: Path) -> str:
    """Copy a file as it is at one time and return the copy's sha256. Raises FileNotFoundError, EnvironmentProblem."""
    target.unlink(missing_ok=True)
    if _is_sqlite(path):
        try:
            address = f"{path.absolute().as_uri()}?mode=ro"
            with (
                closing(sqlite3.connect(address, uri=True, timeout=60)) as source,
                closing(sqlite3.connect(target)) as copy,
            ):
                source.backup(copy)
        except sqlite3.Error as error:
            raise EnvironmentProblem(f"{path}: the database cannot be copied: {error}") from error
        with target.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    with path.open("rb") as stream, target.open("xb") as copied:
        return _pour(stream, copied)


def _pour(source: BinaryIO, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := source.read(_BLOCK):
        digest.update(block)
        target.write(block)
    return digest.hexdigest()


def _send(place: Place, digest: str, size: int, source: Path) -> bool:
    """Put content at the place unless it is there, and read it back; return whether it was put there."""
    name = _object(digest)
    if place.size(name) == size:
        return False
    place.put(name, source)
    with place.open(name) as stream:
        seen = hashlib.sha256()
        while block := stream.read(_BLOCK):
            seen.update(block)
    if seen.hexdigest() != digest:
        raise EnvironmentProblem(f"{place.address}: what was written as {name} reads back otherwise")
    return True


def _object(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"
