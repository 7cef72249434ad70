"""What the record says of a task's earlier runs: what it was made of, and how long it took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from intermodal.engine.database import Database
from intermodal.engine.fingerprint import Parts
from intermodal.engine.states import State

_RECENT = 5


@dataclass(frozen=True)
class Earlier:
    """The last time a task came to a decision: the run, and the parts of its fingerprint then."""

    run: str
    path: str
    state: State
    parts: Parts


def read_parts(text: str) -> Parts:
    """Return the parts of a fingerprint as the record keeps them."""
    return [(str(name), value) for name, value in json.loads(text)]


def earlier(database: Database, pipeline: str, path: str, before: float | None = None) -> Earlier | None:
    """Return the last run of a task (of a pipeline, by its path) that began before a moment, None if there is none."""
    rows = database.query(
        "SELECT tasks.run, tasks.state, tasks.parts FROM tasks JOIN runs ON runs.id = tasks.run"
        " WHERE runs.pipeline=? AND tasks.path=? AND tasks.parts IS NOT NULL AND (? IS NULL OR runs.started < ?)"
        " ORDER BY runs.started DESC LIMIT 1",
        (pipeline, path, before, before),
    )
    if not rows:
        return None
    return Earlier(rows[0]["run"], path, State(rows[0]["state"]), read_parts(rows[0]["parts"]))


def usual_seconds(database: Database, pipeline: str, path: str, component: str) -> float | None:
    """Return how long a task took, None if it has never succeeded: the last time at this path, else what its component usually takes."""
    done = (
        "SELECT tasks.ended - tasks.started FROM tasks JOIN runs ON runs.id = tasks.run"
        " WHERE tasks.state='SUCCEEDED' AND runs.pipeline=? AND "
    )
    newest = " ORDER BY tasks.ended DESC LIMIT ?"
    rows = database.query(done + "tasks.path=?" + newest, (pipeline, path, 1))
    rows = rows or database.query(done + "tasks.component=?" + newest, (pipeline, component, _RECENT))
    return median(row[0] for row in rows) if rows else None


def makers(rows: Mapping[str, Any]) -> dict[str, str]:
    """Return, for the digest of each artifact, the task that made it. `rows` are outputs in JSON by path of the task.

    Groups give what a task inside them made: the innermost is the maker.
    """
    found: dict[str, str] = {}
    for path in sorted(rows, key=lambda path: path.count("/")):
        for items in rows[path]["artifacts"].values():
            found.update({item["digest"]: path for item in items if item["digest"]})
    return found
