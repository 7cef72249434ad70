"""What the record, the store and the backend already say of a task that has not run: the readings behind a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from intermodal.engine.artifacts import Outputs
from intermodal.engine.backend import Backend, Image
from intermodal.engine.changes import Change, name_changes
from intermodal.engine.database import CacheEntry, Database
from intermodal.engine.fingerprint import names_the_run
from intermodal.engine.graph import Work
from intermodal.engine.history import Earlier, earlier, usual_seconds
from intermodal.engine.importer import local_path
from intermodal.engine.lookup import NO_ENTRY, look_up, stored
from intermodal.engine.planner import Draft, Planner
from intermodal.engine.python import PackagesUnknown
from intermodal.engine.resources import Demand
from intermodal.engine.states import State
from intermodal.engine.store import Store, hash_file, scan
from intermodal.engine.uris import stored_digest
from intermodal.spec.types import Container, Task


@dataclass(frozen=True)
class Seen:
    """What is known of a leaf whose inputs are known: a cache entry, or why it must run."""

    reason: str
    demand: Demand
    changes: tuple[Change, ...] = ()
    entry: CacheEntry | None = None
    unprepared: bool = False
    """Whether something must be fetched before its fingerprint can be known."""
    twin: str | None = None
    """A task of the same run that would run and is the same task: its outputs may be there in time."""


class _AbsentImage(Exception):
    """The image of a task is not here yet."""


class Outlook:
    """Asks the record, the store and the backend, and changes none of them (hashes of files are remembered)."""

    def __init__(
        self,
        pipeline: str,
        planner: Planner,
        backend: Backend,
        root: Path,
        database: Database | None,
        store: Store | None,
        places: Sequence[tuple[str, Path]],
    ) -> None:
        """`database` and `store` are None where nothing has run yet; `root` is the state folder, which may not exist.

        `places` are the folders that stand in for URIs, as in the options of a run.
        """
        self._places = places
        self.planner = planner
        self._pipeline = pipeline
        self._backend = backend
        self._root = root
        self._database = database
        self._store = store
        self._images: dict[str, Image | None] = {}
        self._makers: dict[str, str] = {}
        self._fingerprints: dict[str, str] = {}
        """Of the tasks that would run."""

    def image(self, reference: str) -> Image | None:
        """Return an image that is here already. Raises EnvironmentProblem if it can never be had."""
        if reference not in self._images:
            found = self._backend.image_here(reference, self._root if self._database is not None else None)
            self._images[reference] = found and replace(found, digest=found.digest or reference)
        return self._images[reference]

    def decide(self, work: Work) -> Seen:
        """Say what becomes of a leaf. Raises BadInput, EnvironmentProblem, Unsupported."""

        def find(reference: str, container: Container) -> Image:
            found = self.image(reference)
            if found is None and container.kubernetes.pull_policy != "Never":
                raise _AbsentImage(reference)
            return found or self._backend.resolve_image(reference, "never")

        try:
            draft = self.planner.draft(work, find)
        except _AbsentImage as error:
            return Seen(f"its image {error} is not here and would be fetched first", Demand(), unprepared=True)
        except PackagesUnknown:
            return Seen("the packages that it installs would be looked for first", Demand(), unprepared=True)
        off = self.planner.caching_off(work.task, work.path)
        twin = self._fingerprints.setdefault(draft.identity.fingerprint, work.path)
        if off is None and twin != work.path:
            return Seen("the same task as", draft.demand, twin=twin)
        if self._database is None or self._store is None:
            return Seen(off or "nothing has run here yet", draft.demand)
        found = look_up(draft.identity.fingerprint, off, self._database, self._store)
        if found.entry is not None:
            del self._fingerprints[draft.identity.fingerprint]
            return Seen(found.reason, draft.demand, entry=found.entry)
        before = earlier(self._database, self._pipeline, work.path)
        changes = tuple(name_changes(before.parts, draft.identity.parts, self._makers)) if before else ()
        return Seen(_why(found.reason, before, changes, draft), draft.demand, changes)

    def runs_anyway(self, task: Task, path: str) -> str | None:
        """Return why a container leaf runs whatever its inputs turn out to be, None if that depends on them."""
        return self.planner.caching_off(task, path)

    def usual_seconds(self, path: str, component: str) -> float | None:
        return usual_seconds(self._database, self._pipeline, path, component) if self._database else None

    def content(self, uri: str) -> str | None:
        """Return the digest that what a URI names has in the store, None if it must be fetched first. Raises BadContent, OSError."""
        digest = stored_digest(uri)
        if digest is not None:
            return digest
        path = local_path(uri, self._places)
        if path is None:
            return None
        return scan(path, self._database.file_hash if self._database else hash_file).digest

    def remember(self, path: str, outputs: Outputs) -> None:
        """Keep in mind which task gives which content."""
        self._makers.update({digest: path for _, digest in stored(outputs)})


def _why(reason: str, before: Earlier | None, changes: tuple[Change, ...], draft: Draft) -> str:
    """Return why a leaf runs; what changed, if it is that, is told beside it."""
    if reason != NO_ENTRY:
        return reason
    if names_the_run(draft.container):
        return "it names the run itself, so it is another task in each run"
    if before is None:
        return "has not run before"
    if changes:
        return f"changed since run {before.run}"
    if before.state in (State.FAILED, State.CANCELLED):
        return f"{before.state.value.lower()} in run {before.run}; only what succeeded is kept in the cache"
    return f"as in run {before.run}, but its cache entry is gone"
