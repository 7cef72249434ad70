"""Copies of files that others may be writing: an SQLite database as SQLite itself copies it, of any other file what is there."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from intermodal.errors import EnvironmentProblem

_SQLITE = b"SQLite format 3\x00"
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
_BLOCK = 2**20

Say = Callable[[str], None]


def list_files(folder: Path, say: Say) -> Iterator[Path]:
    """Yield the files below a folder, in order, but not what SQLite keeps beside a database. Links, sockets and the like are said.

    Raises EnvironmentProblem for a folder that cannot be read.
    """
    for root, folders, files in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted([*files, *(name for name in folders if Path(root, name).is_symlink())]):
            path = Path(root, name)
            if path.is_symlink() or (path.exists() and not path.is_file()):
                say(f"{path}: is no file, left out")
            elif not _is_beside_sqlite(path):
                yield path


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # gone since it was listed
        raise EnvironmentProblem(f"{error.filename} cannot be read: {error.strerror or error}") from error


def _is_beside_sqlite(path: Path) -> bool:
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


def copy_file(path: Path, target: Path, wait: float) -> str:
    """Copy a file as it is at one time, in place of `target`, and return the copy's sha256.

    `wait`: seconds for a database that another process holds locked. Raises FileNotFoundError if it is gone, EnvironmentProblem.
    """
    target.unlink(missing_ok=True)
    try:
        if _is_sqlite(path):
            _copy_database(path, target, wait)
            with target.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        with path.open("rb") as stream, target.open("xb") as copy:
            return pour(iter(lambda: stream.read(_BLOCK), b""), copy)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise EnvironmentProblem(f"{path} cannot be copied: {error.strerror or error}") from error


def _copy_database(path: Path, target: Path, wait: float) -> None:
    """Let SQLite copy a database. It would wait for ever for one that stays locked."""
    end = time.monotonic() + wait

    def look(status: int, remaining: int, total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > end:
            raise EnvironmentProblem(
                f"{path}: another process has held the database locked for {wait:g} s",
                hint="--wait SECONDS waits longer",
            )

    address = path.absolute().as_uri()
    for mode in ("ro", "rw"):
        try:
            with (
                closing(sqlite3.connect(f"{address}?mode={mode}", uri=True, timeout=min(wait, 1))) as source,
                closing(sqlite3.connect(target)) as copy,
            ):
                source.backup(copy, progress=look)
            return
        except sqlite3.Error as error:
            # A writer that was killed left half a transaction, which whoever opens the database next must take back.
            if mode == "ro" and error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
                continue
            raise EnvironmentProblem(f"{path}: the database cannot be copied: {error}") from error


def pour(blocks: Iterable[bytes], target: BinaryIO) -> str:
    """Write blocks to a file and return the sha256 of all of them."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        target.write(block)
    return digest.hexdigest()
