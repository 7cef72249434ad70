"""The artifact store: content-addressed, written once, never half-written.

Layout below the root: `<first two digits>/<digest>/data` is the content, a file or a folder, read-only; `manifest.json` beside
it lists every file with size and sha256. The digest is the sha256 of the canonical manifest, so equal bytes have one entry
on every machine. A thing is moved to a temporary name, synced, renamed; what is not under its final name does not exist.

Every file gets the same time of change when it is published, so that a later write shows without reading the file again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermodal.engine.faults import Faults
from intermodal.engine.temporary import Temporary
from intermodal.spec.document import canonical_json, sha256_text

STORED_TIME_NS = 315_619_200 * 10**9
"""The time of change of all stored files: 1980-01-02 UTC, the first day that a zip file can hold in every time zone."""

MAX_ENTRIES = 1_000_000
"""Files and folders of one artifact."""
MAX_DEPTH = 100
"""Folders inside one another in an artifact."""
_MANY = 500
"""Files and folders of an artifact above which all that the machine has to write is written at once: a sync of each takes ms."""
_HOLLOW_FROM = 2**30
_HOLLOW_RATIO = 100

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

    @staticmethod
    def from_json(document: dict[str, Any]) -> Manifest:
        entries = tuple((path, size, sha256, executable) for path, size, sha256, executable in document["entries"])
        return Manifest(document["directory"], entries, tuple(document["folders"]))

    @property
    def digest(self) -> str:
        return sha256_text(canonical_json(self.as_json()))

    @property
    def size(self) -> int:
        """Bytes in all files together."""
        return sum(entry[1] for entry in self.entries)

    def difference(self, found: Manifest) -> str:
        """Say in a few words what of `found` is not as it is here."""
        mine, theirs = ({entry[0]: entry for entry in manifest.entries} for manifest in (self, found))
        for path, entry in mine.items():
            shown = repr(path) if path else "its file"
            if path not in theirs:
                return f"{shown} is gone"
            if theirs[path] != entry:
                return f"{shown} has changed"
        if extra := sorted(theirs.keys() - mine.keys()):
            return f"{extra[0]!r} does not belong to it"
        return "its folders have changed"


def hash_file(path: Path, _status: os.stat_result) -> str:
    """Return the sha256 of a file without following a link that took its place."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def scan(path: Path, file_hash: FileHash = hash_file) -> Manifest:
    """Hash the file or folder at `path`. Raises BadContent for anything that is neither, FileNotFoundError if absent."""
    status = path.lstat()
    if stat.S_ISREG(status.st_mode):
        _refuse_hollow(status, path.name)
        return Manifest(False, (("", status.st_size, file_hash(path, status), _executable(status)),))
    _refuse_special(status, path, path)
    entries: list[tuple[str, int, str, bool]] = []
    folders: list[str] = []
    for relative, child, child_status in _walk(path):
        if stat.S_ISREG(child_status.st_mode):
            _refuse_hollow(child_status, relative)
            entries.append((relative, child_status.st_size, file_hash(child, child_status), _executable(child_status)))
        else:
            _refuse_special(child_status, child, path)
            folders.append(relative)
        if len(entries) + len(folders) > MAX_ENTRIES:
            raise BadContent(f"holds more than {MAX_ENTRIES} files and folders; pack them into an archive")
    return Manifest(True, tuple(sorted(entries)), tuple(sorted(folders)))


def _walk(root: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Yield (relative path, path, status) of all that a folder holds. A folder that cannot be read is an error, not empty."""
    rest = [("", root, 0)]
    while rest:
        prefix, folder, depth = rest.pop()
        with os.scandir(folder) as found:
            for entry in found:
                if not _is_text(entry.name):
                    raise BadContent(f"holds a name that is not UTF-8 ({prefix}{entry.name!a})")
                status = entry.stat(follow_symlinks=False)
                yield prefix + entry.name, Path(entry.path), status
                if stat.S_ISDIR(status.st_mode):
                    if depth >= MAX_DEPTH:
                        raise BadContent(f"holds folders more than {MAX_DEPTH} deep")
                    rest.append((f"{prefix}{entry.name}/", Path(entry.path), depth + 1))


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refuse_hollow(status: os.stat_result, name: str) -> None:
    """A few bytes on the disk may stand for a file that takes years to read."""
    if status.st_size > _HOLLOW_FROM and status.st_size > _HOLLOW_RATIO * status.st_blocks * 512:
        raise BadContent(f"holds a file of {status.st_size} bytes that is almost nothing but a hole ({name})")


def _executable(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IXUSR)


def _refuse_special(status: os.stat_result, path: Path, root: Path) -> None:
    if not stat.S_ISDIR(status.st_mode):
        kind = "symbolic link" if stat.S_ISLNK(status.st_mode) else "special file"
        shown = path.relative_to(root).as_posix() if path != root else path.name
        raise BadContent(f"holds a {kind} ({shown}); an artifact is made of regular files and folders")


class Store:
    """The content-addressed store below `root`. Safe for many processes at once: the last step is one rename."""

    def __init__(self, root: Path, faults: Faults | None = None) -> None:
        self.root = root
        self._faults = faults or Faults()
        self.temporary = Temporary(root / "tmp")

    def path(self, digest: str) -> Path:
        """Return where the content of `digest` lies (whether or not it is there)."""
        return self._entry(digest) / "data"

    def _entry(self, digest: str) -> Path:
        return self.root / digest[:2] / digest

    def manifest(self, digest: str) -> Manifest:
        """Return what the entry holds. Raises FileNotFoundError if there is none, BadContent if it cannot be read."""
        text = (self._entry(digest) / "manifest.json").read_bytes()
        try:
            manifest = Manifest.from_json(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise BadContent("its manifest is damaged") from error
        if manifest.digest != digest:
            raise BadContent("its manifest is damaged")
        return manifest

    def damage(self, digest: str, *, thorough: bool = False) -> str | None:
        """Say what is wrong with an entry, None if nothing is.

        A file whose size and time of change are as they were when it was published is not read again, unless `thorough`.
        """
        data = self.path(digest)
        try:
            manifest = self.manifest(digest)
            remembered = {path: (size, sha256) for path, size, sha256, _ in manifest.entries}
            read = 0

            def known_hash(path: Path, status: os.stat_result) -> str:
                nonlocal read
                size, sha256 = remembered.get(path.relative_to(data).as_posix() if path != data else "", (-1, ""))
                if not thorough and (status.st_mtime_ns, status.st_size) == (STORED_TIME_NS, size):
                    return sha256
                read += 1
                return hash_file(path, status)

            found = scan(data, known_hash)
        except FileNotFoundError:
            return "it is not in the store" if not self._entry(digest).exists() else "a part of it is gone"
        except (BadContent, OSError) as error:
            return getattr(error, "strerror", None) or str(error)
        if found != manifest:
            return manifest.difference(found)
        if read:  # right, but not known by its times: an entry of an older version, or one that was copied here
            with contextlib.suppress(OSError):
                _settle(data)
        return None

    def publish(self, source: Path, *, link: bool = False, file_hash: FileHash = hash_file) -> str:
        """Put the file or folder at `source` into the store, leave it where it is, and return its digest.

        `link` shares the files instead of copying them: for outputs of a step, which nobody writes any more. Raises
        BadContent, FileNotFoundError, and OSError where the disk is full.
        """
        manifest = scan(source, file_hash)
        digest = manifest.digest
        if self.damage(digest) is None:
            return digest
        with self.temporary.folder() as staging:
            data = staging / "data"
            _copy(source, data, _link_file if link else shutil.copy2)
            if not link and scan(data).digest != digest:
                raise BadContent("changed while it was being read")
            _settle(data)
            write_synced(staging / "manifest.json", canonical_json(manifest.as_json()))
            self._faults.reach("store:staged")
            self._install(staging, digest)
            self._faults.reach("store:installed")
        return digest

    def _install(self, staging: Path, digest: str) -> None:
        entry = self._entry(digest)
        if not entry.parent.is_dir():
            entry.parent.mkdir(exist_ok=True)
            _sync(self.root)
        if entry.exists() and self.damage(digest):
            self.remove(digest)
        try:
            staging.rename(entry)
        except OSError:
            if self.damage(digest):  # else another process published the same bytes first
                raise
        _sync(entry.parent)

    def remove(self, digest: str) -> None:
        """Remove an entry, if it is there: at once for whoever looks, whatever its size."""
        with self.temporary.folder() as gone, contextlib.suppress(FileNotFoundError):
            self._entry(digest).rename(gone / "entry")

    def digests(self) -> list[str]:
        """Return the digests of all entries, damaged ones too, sorted."""
        return sorted(
            path.name for path in self.root.glob("[0-9a-f][0-9a-f]/*") if path.name.startswith(path.parent.name)
        )


def _copy(source: Path, target: Path, copy_file: Callable[[str, str], object]) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=copy_file)
    else:
        copy_file(str(source), str(target))


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)  # a file system that cannot share it, or a file of another user


def _settle(data: Path) -> None:
    """Make content readable by any step, writable by none, and durable."""
    if not data.is_dir():
        _freeze(data)
        _sync(data)
        return
    data.chmod(0o755)
    frozen: list[Path] = []
    for base, directories, files in os.walk(data):
        frozen.append(Path(base))
        for name in directories:
            Path(base, name).chmod(0o755)
        for name in files:
            _freeze(Path(base, name))
            frozen.append(Path(base, name))
    if len(frozen) > _MANY:
        os.sync()
        return
    for path in frozen:
        _sync(path)


def _freeze(path: Path) -> None:
    path.chmod(0o555 if path.stat().st_mode & stat.S_IXUSR else 0o444)
    os.utime(path, ns=(STORED_TIME_NS, STORED_TIME_NS))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: str) -> None:
    """Write a text file; it and its name are on the disk when this returns."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    _sync(path.parent)
