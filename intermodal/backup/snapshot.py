"""Snapshots: what some folders held at one time. A snapshot's file names every file of it by its content, and is written last.

At a place lie `objects/<2 digits>/<sha256>` and `snapshots/<time>-<sha256 of the file>.json`. So a backup that was cut off names nothing,
a snapshot's file that was half copied by other means does not have the hash of its name, and what is there already is not sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, ValidationError

from intermodal.backup.places import Place

SCHEMA = 1


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
    """UTC, as in the file's name: `20260102T030405.678901Z`; older ones have whole seconds."""
    folders: dict[str, list[File]]

    @property
    def files(self) -> Iterator[File]:
        return (file for files in self.folders.values() for file in files)


class Damaged(Exception):
    """Something of a snapshot is not at the place as it was put there."""


def object_name(digest: str) -> str:
    """Return the name of what has this sha256."""
    return f"objects/{digest[:2]}/{digest}"


def snapshot_names(place: Place) -> list[str]:
    """Return the names of all snapshots, oldest first. Raises EnvironmentProblem."""
    return sorted((name for name in place.names("snapshots") if name.endswith(".json")), key=_age)


def _age(name: str) -> tuple[str, str]:
    """Return what sorts names by time: without the Z, whole seconds come before a fraction of the same second."""
    return name.partition("-")[0].removesuffix("Z"), name


def read_snapshot(place: Place, name: str) -> Snapshot:
    """Read a snapshot. Raises Damaged, EnvironmentProblem."""
    try:
        content = b"".join(place.blocks(name))
    except FileNotFoundError as error:
        raise Damaged("its file is missing") from error
    digest = name.removesuffix(".json").rpartition("-")[2]
    if hashlib.sha256(content).hexdigest() != digest:
        raise Damaged("its file is not whole")
    try:
        snapshot = Snapshot.model_validate_json(content)
    except ValidationError as error:
        raise Damaged(f"this version cannot read it: {error.errors()[0]['msg']}") from error
    if snapshot.schema_version != SCHEMA:
        raise Damaged(f"it has schema {snapshot.schema_version}, this version reads {SCHEMA}")
    return snapshot


def check_object(place: Place, file: File, *, content: bool = True) -> str:
    """Return what is wrong with a file's content at the place, by its size and, if `content`, by reading it; empty: nothing."""
    size = place.size(object_name(file.sha256))
    if size is None:
        return "missing"
    if size != file.size:
        return f"{size} of {file.size} bytes"
    if not content:
        return ""
    seen = hashlib.sha256()
    try:
        for block in place.blocks(object_name(file.sha256)):
            seen.update(block)
    except FileNotFoundError:
        return "missing"
    return "" if seen.hexdigest() == file.sha256 else "not what was put there"


def check_snapshots(place: Place, *, content: bool) -> list[tuple[str, str | None]]:
    """Return the names of snapshots, oldest first, each with what is wrong with it: by sizes, or by reading all `content`.

    Raises EnvironmentProblem.
    """
    known: dict[str, str] = {}
    return [(name, _wrong(place, name, known, content)) for name in snapshot_names(place)]


def _wrong(place: Place, name: str, known: dict[str, str], content: bool) -> str | None:
    try:
        snapshot = read_snapshot(place, name)
    except Damaged as error:
        return str(error)
    for file in snapshot.files:
        if file.sha256 not in known:
            known[file.sha256] = check_object(place, file, content=content)
        if known[file.sha256]:
            return f"{file.path} is {known[file.sha256]}"
    return None
