"""Where a study lies: Optuna's journal on the state volume of one machine, or a PostgreSQL that many machines reach.

Both give the same three things: Optuna's storage, a turn that one worker has at a time, and the right to work on the study at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from components.kfp_io import StepError

JOURNAL = "journal.log"
URL = "INTERMODAL_HPO_STORAGE"
"""Variable with the address of a PostgreSQL, from a secret: it may hold a password, so it is never an argument."""


@dataclass(frozen=True)
class Place:
    """A storage, opened. `turn()` is held by one worker of the study at a time, and is let go of when its process dies."""

    storage: BaseStorage
    turn: Callable[[], AbstractContextManager[None]]


def take_url(environment: MutableMapping[str, str]) -> str:
    """Return the address of the database and remove it from the environment; empty: the study lies on the state volume."""
    return environment.pop(URL, "").strip()


@contextmanager
def open_place(
    state: Path, identity: str, url: str, *, sole: bool, bury: Callable[[BaseStorage], None]
) -> Iterator[Place]:
    """Open the study's storage. `sole`: refuse a study on the volume that another process works on.

    `bury(storage)` is called if the kernel says that no process works on the study: each RUNNING trial in it is of a dead one.
    Raises StepError if the volume cannot be written or the database not be reached.
    """
    if url:
        with _open_database(url, identity) as place:
            yield place
        return
    folder = state / identity
    with _worker_lock(folder, sole, bury):
        yield Place(open_journal(folder), lambda: _locked(folder / "turn.lock"))


class _FileLock(BaseJournalFileLock):
    """A lock that the kernel lets go of when its process dies; Optuna's own lock files would outlive a kill.

    A process killed while it wrote leaves half a line, after which Optuna would append and then refuse the file: whoever
    has the lock next cuts it off first.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal.lock"
        self._journal = folder / JOURNAL
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        _drop_half_written_line(self._journal)
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_journal(folder: Path) -> BaseStorage:
    """Open, or make, the journal in `folder`."""
    lock = _FileLock(folder)
    lock.acquire()
    lock.release()
    return optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL), lock_obj=lock))


def _drop_half_written_line(journal: Path) -> None:
    """Cut off a last line without its end."""
    if not journal.exists() or not journal.stat().st_size:
        return
    with journal.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        os.fsync(file.fileno())


@contextmanager
def _worker_lock(folder: Path, sole: bool, bury: Callable[[BaseStorage], None]) -> Iterator[None]:
    """Hold the study in `folder`, alone or with other workers."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "worker.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StepError(
            f"the study's folder {folder} cannot be written: {error.strerror}", hint="is the state volume mounted?"
        ) from error
    try:
        with _locked(folder / "start.lock"):
            alone = _try_lock(descriptor, fcntl.LOCK_EX)
            if alone:
                bury(open_journal(folder))
            if not sole:
                alone = _try_lock(descriptor, fcntl.LOCK_SH)
            if not alone:
                raise StepError(
                    f"another process works on the study in {folder}",
                    hint="wait until it ends, or stop it; several work on one study as workers (workers=N)",
                )
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _open_database(url: str, identity: str) -> Iterator[Place]:
    """Open the database and let go of every connection at the end: a server has few of them."""
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise StepError(f"{URL} is no address of a PostgreSQL: it must begin with postgresql://")
    address = f"postgresql+psycopg://{rest}"
    try:
        engine = sqlalchemy.create_engine(address, pool_pre_ping=True, isolation_level="AUTOCOMMIT", pool_size=1)
        with _database_turn(engine, "schema"):  # two workers that make the tables at once would trip over each other
            if not sqlalchemy.inspect(engine).has_table("alembic_version"):  # the last one that Optuna makes
                _let_go(optuna.storages.RDBStorage(address))
        storage = optuna.storages.RDBStorage(address, engine_kwargs={"pool_pre_ping": True}, skip_table_creation=True)
    except (SQLAlchemyError, ValueError) as error:  # ValueError: a port that is no number
        raise StepError(
            f"the database of {URL} cannot be used: {_plain(error, address)}",
            hint="a step has no network unless it is given one: --network hpo=bridge --network hpo-worker=bridge",
        ) from None
    try:
        yield Place(storage, lambda: _database_turn(engine, identity))
    finally:
        _let_go(storage)
        engine.dispose()


def _let_go(storage: optuna.storages.RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


@contextmanager
def _database_turn(engine: Any, name: str) -> Iterator[None]:
    """Hold an advisory lock of PostgreSQL, which ends with its connection."""
    from sqlalchemy import text

    key = int.from_bytes(hashlib.sha256(f"intermodal-hpo/{name}".encode()).digest()[:8], signed=True)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def _plain(error: Exception, address: str) -> str:
    """Return the first line of what the database said, without the address."""
    said = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    secret = address.partition("://")[2]
    for part in (address, secret, secret.partition("@")[0], secret.partition("@")[0].partition(":")[2]):
        if part:
            said[0] = said[0].replace(part, "***")
    return said[0]
