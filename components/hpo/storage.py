"""Where a study lies: Optuna's journal on the state volume of one machine, or a PostgreSQL that many machines reach.

Both give the same three things: Optuna's storage, a turn that one worker has at a time, and the right to work on the study at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
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
_PATIENCE = 60.0
"""Seconds until a wait for another worker is told of."""
URL = "INTERMODAL_HPO_STORAGE"
"""Variable with the address of a PostgreSQL, from a secret: it may hold a password, so it is never an argument."""


class TurnLost(Exception):
    """This process was held up for longer than a lease while it had the study's turn, and another worker has had it since."""


@dataclass(frozen=True)
class Place:
    """A storage, opened. `turn()` is held by one worker of the study at a time, and is let go of when its process dies.

    On a database it is also let go of when its process stands still for longer than a lease: its end then raises TurnLost,
    and what was done in it may count for nothing. Whoever waits for it longer than a lease is told so.
    """

    storage: BaseStorage
    turn: Callable[[], AbstractContextManager[None]]


def take_url(environment: MutableMapping[str, str]) -> str:
    """Return the address of the database and remove it from the environment; empty: the study lies on the state volume."""
    return environment.pop(URL, "").strip()


@contextmanager
def open_place(
    state: Path, identity: str, url: str, *, sole: bool, bury: Callable[[BaseStorage], None], lease: float = _PATIENCE
) -> Iterator[Place]:
    """Open the study's storage. `sole`: refuse a study on the volume that another process works on. `lease`: in seconds.

    `bury(storage)` is called if the kernel says that no process works on the study: each RUNNING trial in it is of a dead one.
    Raises StepError if the volume cannot be written or the database not be reached.
    """
    if url:
        with _open_database(url, identity, lease) as place:
            yield place
        return
    folder = state / identity
    with _worker_lock(folder, sole, bury):
        yield Place(open_journal(folder), lambda: _locked(folder / "turn.lock", lease))


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
        try:
            _lock(self._descriptor, _PATIENCE)
            _drop_half_written_line(self._journal)
        except BaseException:
            self.release()  # else the next try of this very process would wait for it for ever
            raise
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
def _locked(path: Path, patience: float = _PATIENCE) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(descriptor, patience)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, patience: float) -> None:
    if not _try_lock(descriptor, fcntl.LOCK_EX):
        with _waiting(patience):
            fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextmanager
def _waiting(patience: float) -> Iterator[None]:
    """Say so if what is waited for here, something that another worker holds, takes longer than `patience` seconds."""
    words = f"waiting for {patience:g} s for another worker to let go of the study: is it stopped or paused?"
    told = threading.Timer(patience, print, [words], {"flush": True})
    told.daemon = True
    told.start()
    try:
        yield
    finally:
        told.cancel()


@contextmanager
def _open_database(url: str, identity: str, lease: float) -> Iterator[Place]:
    """Open the database and let go of every connection at the end: a server has few of them."""
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise StepError(f"{URL} is no address of a PostgreSQL: it must begin with postgresql://")
    address = f"postgresql+psycopg://{rest}"
    try:
        engine = sqlalchemy.create_engine(address, pool_pre_ping=True, pool_size=1)
        with _database_turn(
            engine, "schema", _PATIENCE
        ):  # two workers that make the tables at once would trip over each other
            if not sqlalchemy.inspect(engine).has_table("alembic_version"):  # the last one that Optuna makes
                _let_go(optuna.storages.RDBStorage(address))
        storage = optuna.storages.RDBStorage(address, engine_kwargs={"pool_pre_ping": True}, skip_table_creation=True)
        # Twice: who loses the turn finds it out at the end of the turn, not by a transaction of Optuna's that broke off in it.
        _end_if_idle(storage.engine, 2 * lease)
    except (SQLAlchemyError, ValueError) as error:  # ValueError: a port that is no number
        raise StepError(
            f"the database of {URL} cannot be used: {_plain(error, address)}",
            hint="a step has no network unless it is given one: --network hpo=bridge --network hpo-worker=bridge",
        ) from None
    try:
        yield Place(storage, lambda: _database_turn(engine, identity, lease))
    finally:
        _let_go(storage)
        engine.dispose()


def _let_go(storage: optuna.storages.RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _end_if_idle(engine: Any, seconds: float) -> None:
    """Let the server end each transaction in which this process says nothing for so long, with the locks that it holds."""
    from sqlalchemy import event

    def limit(connection: Any) -> None:
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {round(1000 * seconds)}")

    event.listen(engine, "begin", limit)


@contextmanager
def _database_turn(engine: Any, name: str, lease: float) -> Iterator[None]:
    """Hold an advisory lock of PostgreSQL, which ends with its transaction, and that with its process or its silence."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    key = int.from_bytes(hashlib.sha256(f"intermodal-hpo/{name}".encode()).digest()[:8], signed=True)
    with engine.connect() as connection:
        connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {round(1000 * lease)}"))
        with _waiting(lease):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        try:
            with _heard_of(connection, lease / 4):
                yield
        except Exception as error:
            try:
                connection.commit()
            except SQLAlchemyError:
                raise TurnLost from error
            raise
        try:
            connection.commit()
        except SQLAlchemyError as error:
            raise TurnLost from error


@contextmanager
def _heard_of(connection: Any, seconds: float) -> Iterator[None]:
    """Say something on the connection again and again, as only a process can that does not stand still."""
    from sqlalchemy.exc import DBAPIError

    over = threading.Event()

    def speak() -> None:
        while not over.wait(seconds):
            try:
                connection.exec_driver_sql("SELECT 1")
            except DBAPIError:
                return  # the end of the turn finds it out

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _plain(error: Exception, address: str) -> str:
    """Return the first line of what the database said, without the address."""
    said = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    secret = address.partition("://")[2]
    for part in (address, secret, secret.partition("@")[0], secret.partition("@")[0].partition(":")[2]):
        if part:
            said[0] = said[0].replace(part, "***")
    return said[0]
