"""What nothing needs any more, and how it goes: runs, entries of the cache and of the store, what was left half-made.

A killed collection leaves nothing wrong: what is needed is decided from the record, the record changes first and at once, and
what it no longer names goes after it, now or the next time.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.references import users
from intermodal.engine.resume import sweep
from intermodal.engine.states import State
from intermodal.engine.store import Store


@dataclass(frozen=True)
class Policy:
    """Which finished runs stay: the newest `keep`, and all that ended less than `days` ago."""

    keep: int
    days: float | None = None


@dataclass(frozen=True)
class Garbage:
    """What may go, and what it weighs in bytes. `volumes` are only told: they are never removed with the rest."""

    runs: tuple[str, ...]
    cache: tuple[str, ...]
    """Fingerprints."""
    entries: Mapping[str, int]
    """Digest -> bytes."""
    volumes: Mapping[str, int]

    @property
    def size(self) -> int:
        return sum(self.entries.values())


def find_garbage(database: Database, state: StateFolder, store: Store, policy: Policy) -> Garbage:
    """Return what the policy lets go. Runs that did not end (going on, or killed and to be resumed) always stay."""
    runs = _old_runs(database, policy)
    rows = database.query("SELECT fingerprint, run FROM cache")
    wanted = {
        row["fingerprint"]
        for row in database.query("SELECT run, fingerprint FROM tasks WHERE fingerprint IS NOT NULL")
        if row["run"] not in runs
    }
    cache = tuple(row["fingerprint"] for row in rows if row["run"] in runs and row["fingerprint"] not in wanted)
    gone, dropped = set(runs), {(row["run"]) for row in rows if row["fingerprint"] in set(cache)}
    needed = {digest for digest, names in users(database).items() if any(_stays(name, gone, dropped) for name in names)}
    entries = {digest: size_of(store.path(digest).parent) for digest in store.digests() if digest not in needed}
    folders = state.root / "volumes"
    volumes = {path.name: size_of(path) for path in sorted(folders.glob("[!.]*"))} if folders.is_dir() else {}
    return Garbage(runs, cache, entries, volumes)


def _old_runs(database: Database, policy: Policy) -> tuple[str, ...]:
    rows = database.query("SELECT id, state, ended FROM runs ORDER BY started DESC")
    ended = [row for row in rows if State(row["state"]).final and row["ended"]]
    youngest = time.time() - policy.days * 86400 if policy.days is not None else None
    old = [row for row in ended[policy.keep :] if youngest is None or row["ended"] < youngest]
    return tuple(row["id"] for row in old)


def _stays(name: str, gone: set[str], dropped: set[str]) -> bool:
    """Whether something that refers to an entry is still there after the collection."""
    if name.startswith("cache: "):
        return name.removeprefix("cache: ").split("/")[0] not in dropped
    return name.split("/")[0] not in gone


def collect(garbage: Garbage, database: Database, state: StateFolder, store: Store) -> None:
    """Remove it. The state folder must be used by nothing else (`StateUse(alone=True)`)."""
    with database.transaction() as connection:
        for run in garbage.runs:
            for table, column in (("attempts", "run"), ("tasks", "run"), ("runs", "id")):
                connection.execute(f"DELETE FROM {table} WHERE {column}=?", (run,))
        connection.executemany("DELETE FROM cache WHERE fingerprint=?", [(key,) for key in garbage.cache])
    for digest in garbage.entries:
        store.remove(digest)
    for run in garbage.runs:
        shutil.rmtree(state.run(run), ignore_errors=True)
    sweep(state, store, database)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; links are not followed."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(Path(base, name).lstat().st_size for base, _, files in os.walk(path) for name in files)
