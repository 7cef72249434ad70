"""Lineage: what an artifact was made from, and what was made of it, through the runs in the index. Content is what links them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from intermodal.errors import BadInput
from intermodal.tracking import schema
from intermodal.tracking.find_conditions import conditions
from intermodal.tracking.index import Index, IndexedRun

Direction = Literal["made by", "read by"]
_DEEPEST = 50
_WIDEST = 50
"""Runs that made, or read, one artifact."""


@dataclass(frozen=True)
class Node:
    """A task that made the artifact above it (or read it), with the artifacts that it read (or made)."""

    run: IndexedRun
    through: Sequence[Artifact] = ()


@dataclass(frozen=True)
class Artifact:
    """An artifact, by its digest (hex), and the tasks that made it or read it. `cut`: what follows was shown already."""

    digest: str
    name: str = ""
    tasks: Sequence[Node] = ()
    cut: bool = False


@dataclass
class _Walk:
    index: Index
    direction: Direction
    seen: set[str] = field(default_factory=set)

    def artifact(self, digest: str, name: str, depth: int) -> Artifact:
        if digest in self.seen or depth > _DEEPEST:
            return Artifact(digest, name, cut=digest in self.seen)
        self.seen.add(digest)
        return Artifact(digest, name, [self.node(run, depth) for run in self.runs(digest)])

    def node(self, run: IndexedRun, depth: int) -> Node:
        onward = run.artifacts("input" if self.direction == "made by" else "output")
        found = [self.artifact(digest, name, depth + 1) for name, digests in onward.items() for digest in digests]
        return Node(run, found)

    def runs(self, digest: str) -> list[IndexedRun]:
        """Return the tasks that made (read) it, each work once: what was taken from the cache is no other work."""
        direction = "output" if self.direction == "made by" else "input"
        where = (
            "kind = 'task' AND cached_from IS NULL AND id IN (SELECT run FROM artifacts WHERE digest=? AND direction=?)"
        )
        found: dict[str, IndexedRun] = {}
        for run in self.index.select(where, (digest, direction), most=_WIDEST):
            found.setdefault(run.tag(schema.FINGERPRINT) or run.id, run)
        return list(found.values())


def lineage(index: Index, digest: str) -> tuple[Artifact, Artifact]:
    """Return where the artifact came from, and what became of it. Raises BadInput if the index knows no such digest, or several."""
    whole = _whole(index, digest)
    name = index.query("SELECT name FROM artifacts WHERE digest=? ORDER BY direction DESC LIMIT 1", (whole,))[0]["name"]
    up, down = (_Walk(index, direction).artifact(whole, name, 0) for direction in ("made by", "read by"))
    return up, down


def outputs_of(index: Index, run: str) -> dict[str, str]:
    """Return the outputs of a run of the record, or of an MLflow run: digest -> name. Raises BadInput if there are none."""
    runs = (
        index.select("id = ?", [run])
        or index.select("run = ? AND kind = 'pipeline'", [run])
        or index.select("run = ?", [run])
    )
    found = {digest: name for item in runs for name, digests in item.artifacts("output").items() for digest in digests}
    if not found:
        what = "made no artifact" if runs else "is not in the index"
        raise BadInput(f"run {run!r}: {what}", hint="a digest, a run's id, or MLflow's id of one")
    return found


def lines(artifact: Artifact, direction: Direction, depth: int = 0) -> Iterator[str]:
    """Yield the tree as indented lines."""
    indent = "    " * depth
    yield f"{indent}sha256:{artifact.digest[:16]} {artifact.name}{' (see above)' if artifact.cut else ''}".rstrip()
    for node in artifact.tasks:
        run = node.run
        where = f"{run.tag(schema.RUN)} {run.tag(schema.TASK)}".strip() or run.name
        yield f"{indent}  {direction} {where}  {run.tag(schema.STATE) or run.status}  {run.tag(schema.FINGERPRINT)[:16]}  {run.id}"
        for onward in node.through:
            yield from lines(onward, direction, depth + 1)


def as_json(artifact: Artifact) -> dict[str, object]:
    return {
        "digest": f"sha256:{artifact.digest}",
        "name": artifact.name,
        "cut": artifact.cut,
        "tasks": [
            {
                "id": node.run.id,
                "run": node.run.tag(schema.RUN),
                "task": node.run.tag(schema.TASK),
                "component": node.run.tag(schema.COMPONENT),
                "fingerprint": node.run.tag(schema.FINGERPRINT),
                "state": node.run.tag(schema.STATE),
                "artifacts": [as_json(item) for item in node.through],
            }
            for node in artifact.tasks
        ],
    }


def _whole(index: Index, digest: str) -> str:
    start = conditions(produced=digest)[0].value
    rows = index.query(
        "SELECT DISTINCT digest FROM artifacts WHERE digest >= ? AND digest < ? LIMIT 3", (start, start + "g")
    )
    if len(rows) != 1:
        raise BadInput(
            f"digest {digest!r}: the runs in the index name {'no' if not rows else 'more than one'} such artifact"
        )
    return str(rows[0]["digest"])
