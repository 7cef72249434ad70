"""Whether a task's outputs can be taken from the cache, and if not, why: said in one line, for the record and for `plan`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from intermodal.engine.artifacts import Outputs
from intermodal.engine.database import CacheEntry, Database
from intermodal.engine.options import Options
from intermodal.engine.store import Store
from intermodal.spec.types import Task

NO_ENTRY = "no entry in the cache"


@dataclass(frozen=True)
class Lookup:
    """What the cache holds for a task: an entry that is whole, or why there is none to be used."""

    entry: CacheEntry | None
    reason: str
    damaged: bool = False


def look_up(fingerprint: str, off: str | None, database: Database, store: Store) -> Lookup:
    """Ask the cache; `off` says why the task must not be taken from it. A damaged entry is a miss."""
    if off is not None:
        return Lookup(None, off)
    entry = database.cached(fingerprint)
    if entry is None:
        return Lookup(None, NO_ENTRY)
    damage = damage_of(entry.outputs, store)
    if damage is not None:
        return Lookup(None, f"the cache entry of {entry.run}/{entry.path} cannot be used: {damage}", damaged=True)
    return Lookup(entry, f"the same task as {entry.path} of run {entry.run}")


def caching_off(task: Task, path: str, options: Options, *, workspace: bool) -> str | None:
    """Return why a task must run whatever the cache holds, None if it need not."""
    if not options.cache:
        return "caching is off for the run (--no-cache)"
    if options.runs_anyway(path):
        return "caching is off for it (--no-cache-task)"
    if not task.cache:
        return "caching is off for it in the pipeline"
    if workspace:
        return "tasks that share a workspace are not cached: what one leaves there is not among its outputs"
    return None


def damage_of(outputs: Outputs, store: Store) -> str | None:
    """Say which of the outputs is damaged or gone from the store, None if all are as they were published."""
    for name, digest in stored(outputs):
        damage = store.damage(digest)
        if damage is not None:
            return f"artifact {name!r}: {damage}"
    return None


def stored(outputs: Outputs) -> Iterator[tuple[str, str]]:
    """Yield (name, digest) of the artifacts whose content is in the store."""
    for name, items in outputs.artifacts.items():
        for item in items:
            if item.digest:
                yield name, item.digest
