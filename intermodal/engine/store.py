"""The artifact store: content-addressed, written once, never half-written.

Layout below the root: `<first two digits>/<digest>/data` is the content, a file or a folder, read-only; `manifest.json` beside
it lists every file with size and sha256. The digest is the sha256 of the canonical manifest, so equal bytes have one entry
on every machine. A thing is moved to a temporary name, synced, renamed; what is not under its final name does not exist.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermodal.spec.document import canonical_json, sha256_text

FileHash = Callable[[Path, os.stat_result], str]
"""Returns the sha256 of a regular file; may remember it by its stat."""


class BadContent(Exception):
    """Content that cannot be an artifact: a symbolic link, a FIFO, a device, a socket."""


@dataclass(frozen=True)
class Manifest:
    """What an artifact holds: `entries` are (relative path, size, sha256, executable), sorted; a file has one, named ``."""

    directory: bool
    entries: tuple[tuple[str, int, str, bool], ...]
    folders: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "directory": self.directory,
            "entries": [list(entry) for entry in self.entries],
            "folders": list(self.folders),
        }

    @property
    def digest(self) -> str:
        return sha256_text(canonical_json(self.as_json()))

    @property
    def size(self) -> int:
        """Bytes in all files together."""
        return sum(entry[1] for entry in self.entries)


def hash_file(path: Path, _status: os.stat_result) -> str:
    """Return the sha256 of a file without following a link that took its place."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def scan(path: Path, file_hash: FileHash = hash_file) -> Manifest:
    """Hash the file or folder at `path`. Raises BadContent for anything that is neither, FileNotFoundError if absent."""
    status = path.lstat()
    if stat.S_ISREG(status.st_mode):
        return Manifest(False, (("", status.st_size, file_hash(path, status), _executable(status)),))
    _refuse_special(status, path, path)
    entries: list[tuple[str, int, str, bool]] = []
    folders: list[str] = []
    for base, directories, files in os.walk(path, followlinks=False):
        for name in sorted(directories + files):
            child = Path(base, name)
            child_status = child.lstat()
            relative = child.relative_to(path).as_posix()
            if stat.S_ISREG(child_status.st_mode):
                entries.append(
                    (relative, child_status.st_size, file_hash(child, child_status), _executable(child_status))
                )
            else:
                _refuse_special(child_status, child, path)
                folders.append(relative)
    return Manifest(True, tuple(sorted(entries)), tuple(sorted(folders)))


def _executable(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IXUSR)


def _refuse_special(status: os.stat_result, path: Path, root: Path) -> None:
    if not stat.S_ISDIR(status.st_mode):
        kind = "symbolic link" if stat.S_ISLNK(status.st_mode) else "special file"
        shown = path.relative_to(root).as_posix() if path != root else path.name
        raise BadContent(f"holds a {kind} ({shown}); an artifact is made of regular files and folders")


class Store:
    """The content-addressed store below `root`. Safe for many processes at once: the last step is one rename."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._temporary = root / "tmp"
        self._temporary.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Return where the content of `digest` lies (whether or not it is there)."""
        return self._entry(digest) / "data"

    def _entry(self, digest: str) -> Path:
        return self.root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        return (self._entry(digest) / "manifest.json").is_file() and os.path.lexists(self.path(digest))

    def manifest(self, digest: str) -> Manifest:
        document = json.loads((self._entry(digest) / "manifest.json").read_text(encoding="utf-8"))
        return Manifest(document["directory"], tuple(tuple(e) for e in document["entries"]), tuple(document["folders"]))

    def publish(self, source: Path, *, move: bool, file_hash: FileHash = hash_file) -> str:
        """Put the file or folder at `source` into the store and return its digest.

        `move` takes the source away (a step's output); else it is copied (a user's folder, never touched). Raises
        BadContent, FileNotFoundError, and OSError where the disk is full.
        """
        manifest = scan(source, file_hash)
        digest = manifest.digest
        if self.has(digest):
            if move:
                discard(source)
            return digest
        staging = self._temporary / uuid.uuid4().hex
        staging.mkdir()
        try:
            data = staging / "data"
            if move:
                source.rename(data)
            else:
                _copy(source, data)
                if scan(data).digest != digest:
                    raise BadContent("changed while it was being read")
            _settle(data)
            _write_synced(staging / "manifest.json", canonical_json(manifest.as_json()))
            self._install(staging, self._entry(digest))
        finally:
            discard(staging)
        return digest

    def _install(self, staging: Path, entry: Path) -> None:
        entry.parent.mkdir(exist_ok=True)
        if entry.exists() and not (entry / "manifest.json").is_file():
            discard(entry)  # damaged from outside: an entry is complete or it is nothing
        try:
            staging.rename(entry)
        except OSError:
            if not (entry / "manifest.json").is_file():  # else another process published the same bytes first
                raise
        _sync(entry.parent)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target, follow_symlinks=False)
        shutil.copymode(source, target)


def _settle(data: Path) -> None:
    """Make content readable by any step, writable by none, and durable."""
    for base, directories, files in os.walk(data):
        for name in files:
            _freeze_file(Path(base, name))
        for name in directories:
            Path(base, name).chmod(0o755)
    if data.is_dir():
        data.chmod(0o755)
    else:
        _freeze_file(data)


def _freeze_file(path: Path) -> None:
    path.chmod(0o555 if path.stat().st_mode & stat.S_IXUSR else 0o444)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_synced(path: Path, content: str) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def discard(path: Path) -> None:
    """Remove a temporary file or folder of ours, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
