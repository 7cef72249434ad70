"""Keeping the index in step with its server.

MLflow tells of no run when it last changed, so what is new is found by what it does tell:

- runs that started since the newest that is known, and runs that ended since; both with some minutes of overlap for clocks that differ;
- runs that were open when they were last seen: they are looked at again;
- all of an experiment that was not there before;
- a slice of the past, the next one each time, so that late arrivals, deletions and tags of old runs are seen, too, in the end.

Where the runs are read from is the source's matter (`index_source`). The answer to a look-up is checked with the server besides (`find`),
so that a slice not yet come to misleads nobody.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from intermodal.tracking.index import OPEN, Index
from intermodal.tracking.index_source import Run, Source
from intermodal.tracking.rest import PAGE

SLICE = 100
"""Runs of the past that each bringing in step looks at again."""
OVERLAP = 600_000
"""Milliseconds by which clocks may differ, and a run may be sent late."""
_ASKED_BY_ID = 100


@dataclass(frozen=True)
class Synced:
    """What bringing the index in step did."""

    new: int
    changed: int
    gone: int
    runs: int
    """In the index now."""
    seconds: float


def sync(index: Index, source: Source) -> Synced:
    """Bring the index in step; the first time this reads everything. Raises Unreachable, Rejected."""
    with index.alone():
        return _Pass(index, source).run()


def rebuild(index: Index, source: Source) -> Synced:
    """Read everything again, and forget the rest. A look-up meanwhile finds what it found before. Raises as `sync` does."""
    with index.alone():
        return _Pass(index, source).run_all()


def behind(index: Index, source: Source) -> int:
    """Return how many runs (at most PAGE) the server has that started after the newest in the index. Raises as `sync` does."""
    newest = index.query("SELECT max(started) FROM runs")[0][0] or 0
    return len(source.first(source.experiments(), newest + 1, PAGE))


def look_again(index: Index, source: Source, experiments: Sequence[str], runs: Sequence[str]) -> tuple[int, int]:
    """Read these runs of the index once more; return how many had changed, and how many are no more and went.

    Raises as `sync` does.
    """
    changed = gone = 0
    for start in range(0, len(runs), _ASKED_BY_ID):
        asked = runs[start : start + _ASKED_BY_ID]
        found = source.named(experiments, asked)
        changed += index.put(found)[1]
        gone += index.remove(set(asked) - {run["info"]["run_id"] for run in found})
    return changed, gone


class _Pass:
    """One pass over what may have changed."""

    def __init__(self, index: Index, source: Source) -> None:
        self._index = index
        self._source = source
        self._meta = index.meta()
        self._experiments: list[str] = []
        self._seen: set[str] = set()
        self._new = self._changed = self._gone = 0
        self._clock = 0.0

    def run(self) -> Synced:
        began = self._begin()
        known = set(self._meta.get("experiments", ()))
        source = self._source
        self._take_all(source.pages([name for name in self._experiments if name not in known], "start_time", 0))
        rest = [experiment for experiment in self._experiments if experiment in known]
        # A run from a clock that is ahead must not hide those that start until then.
        started, ended = (
            max(0, min(self._meta.get(name, 0), int(began * 1000)) - OVERLAP) for name in ("started", "ended")
        )
        self._take_all(source.pages(rest, "start_time", started))
        self._take_all(source.pages(rest, "end_time", ended, started_before=started))
        self._look_at_open()
        cursor = self._look_back(int(self._meta.get("cursor", 0)))
        return self._end(began, cursor)

    def run_all(self) -> Synced:
        began = self._begin()
        before = {row["id"] for row in self._index.query("SELECT id FROM runs")}
        self._take_all(self._source.pages(self._experiments, "start_time", 0))
        self._gone += self._index.remove(before - self._seen)
        return self._end(began, 0)

    def _begin(self) -> float:
        self._clock = time.monotonic()
        began = time.time()
        self._experiments = self._source.experiments()
        marks = ",".join("?" * len(self._experiments))
        rows = self._index.query(f"SELECT id FROM runs WHERE experiment NOT IN ({marks})", self._experiments)
        self._gone += self._index.remove(row["id"] for row in rows)
        return began

    def _end(self, began: float, cursor: int) -> Synced:
        newest = self._index.query("SELECT max(started), max(ended) FROM runs")[0]
        self._index.set_meta(
            {
                "uri": self._index.uri,
                "experiments": self._experiments,
                "started": newest[0] or 0,
                "ended": newest[1] or 0,
                "cursor": cursor,
                "synced": began,
            }
        )
        return Synced(self._new, self._changed, self._gone, len(self._index), time.monotonic() - self._clock)

    def _take_all(self, pages: Iterable[Sequence[Run]]) -> None:
        for runs in pages:
            self._take(runs)

    def _take(self, runs: Sequence[Run]) -> None:
        new, changed = self._index.put(runs)
        self._new += new
        self._changed += changed
        self._seen.update(run["info"]["run_id"] for run in runs)

    def _look_at_open(self) -> None:
        """Look again at runs that were open and not met in this pass."""
        marks = ",".join("?" * len(OPEN))
        rows = self._index.query(f"SELECT id FROM runs WHERE status IN ({marks})", OPEN)
        changed, gone = look_again(
            self._index, self._source, self._experiments, [row["id"] for row in rows if row["id"] not in self._seen]
        )
        self._changed += changed
        self._gone += gone

    def _look_back(self, cursor: int) -> int:
        """Look again at the runs that started from `cursor` (ms) on; return where the next slice begins, 0 after the last."""
        if not self._experiments:
            return 0
        some = "SELECT id, started FROM runs WHERE started >= ? ORDER BY started LIMIT ?"
        before = self._index.query(some, (cursor, 10 * SLICE))
        runs = self._source.first(self._experiments, cursor, SLICE + 1)
        full = len(runs) > SLICE
        runs = runs[:SLICE]
        last = int(runs[-1]["info"]["start_time"]) if full else 2**62  # of the last moment there may be more
        self._take(runs)
        self._gone += self._index.remove({row["id"] for row in before if row["started"] < last} - self._seen)
        return max(last, cursor + 1) if full else 0
