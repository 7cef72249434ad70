"""Near misses: the runs that were almost what was asked for, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from intermodal.tracking import schema
from intermodal.tracking.find_conditions import Condition
from intermodal.tracking.index import Index, IndexedRun

_SHOWN = 5
_POOL = 500
"""Runs of one kind that are compared."""
_DIFFERENCES = 6
_NOT_COMPARED = ("mlflow.", schema.KEY, schema.FINGERPRINT, schema.INPUTS, schema.OUTPUTS, schema.HARDWARE)
"""Tags that differ by nature, or are compared as something else."""

_FIRST: tuple[str, ...] = ("kind", "state", "pipeline", "component", "task", "attempt", "run")


@dataclass(frozen=True)
class Near:
    """A run, and in what it differs: from what was asked for, or from the others that are it as well."""

    id: str
    name: str
    differs: Mapping[str, str]
    """What -> what this run has there."""

    def __str__(self) -> str:
        words = ", ".join(f"{what} {value}" for what, value in self.differs.items())
        return f"{self.id} {self.name} ({words or 'no difference'})"


def near_misses(index: Index, wanted: Sequence[Condition], *, cached: bool) -> list[Near]:
    """Return the runs for which most of the conditions hold: at most five, the nearest first, and of equals the newest first.

    To be other work (a pipeline, a component, an artifact) is farther away than any parameter or score.
    """
    scored: list[tuple[int, int, int, str, IndexedRun]] = []
    for run in _candidates(index, wanted):
        missed = [condition for condition in wanted if not condition.holds(run)]
        if len(missed) < len(wanted) or _near_identity(run, wanted):
            other = sum(condition.what not in ("param", "tag", "metric") for condition in missed)
            scored.append((other, len(missed), -run.started, run.id, run))
    ordered = [item[-1] for item in sorted(scored, key=lambda item: item[:4])[:_SHOWN]]
    return [Near(run.id, run.name, _misses(run, wanted, cached=cached)) for run in ordered]


def alike(runs: Sequence[IndexedRun]) -> list[Near]:
    """Return runs that are all what was asked for, each with what the others have otherwise."""
    facts = [_facts(run) for run in runs]
    names = list(dict.fromkeys(key for fact in facts for key in fact))
    differing = [name for name in names if len({fact.get(name) for fact in facts}) > 1][:_DIFFERENCES]
    return [
        Near(run.id, run.name, {name: fact.get(name, "absent") for name in differing})
        for run, fact in zip(runs, facts, strict=True)
    ]


def _candidates(index: Index, wanted: Sequence[Condition]) -> list[IndexedRun]:
    """Return, for each condition left out, the newest runs for which the others hold; for one condition alone, those near to it."""
    found: dict[str, IndexedRun] = {}
    for left_out in range(len(wanted)):
        rest = [condition for number, condition in enumerate(wanted) if number != left_out]
        if rest:
            clauses, values = zip(*(condition.sql() for condition in rest), strict=True)
            where = " AND ".join(f"({clause})" for clause in clauses)
            found |= {run.id: run for run in _newest(index, where, [value for some in values for value in some])}
    for condition in wanted:
        clause, values_of_one = condition.sql()
        found |= {run.id: run for run in _newest(index, clause, values_of_one)}
        if condition.what == "identity":
            start = condition.value[:6]  # a digit may be wrong, or one too many copied
            where = "fingerprint >= ? AND fingerprint < ?"
            found |= {run.id: run for run in _newest(index, where, [start, start + "g"])}
    return list(found.values())


def _newest(index: Index, where: str, values: Sequence[object]) -> list[IndexedRun]:
    ids = index.query(f"SELECT id FROM runs WHERE {where} ORDER BY started DESC LIMIT ?", (*values, _POOL))
    marks = ",".join("?" * len(ids))
    return index.select(f"id IN ({marks})", [row["id"] for row in ids])


def _near_identity(run: IndexedRun, wanted: Sequence[Condition]) -> bool:
    asked = next((condition.value for condition in wanted if condition.what == "identity"), "")
    return bool(asked) and run.tag(schema.FINGERPRINT).startswith(asked[:6])


def _misses(run: IndexedRun, wanted: Sequence[Condition], *, cached: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for condition in wanted:
        if condition.holds(run):
            continue
        if condition.what in ("produced", "consumed"):
            found[condition.what] = ", ".join(digest[:16] for digest in condition.actual(run)) or "nothing"
        else:
            actual = condition.actual(run)
            shown = "absent" if actual is None else str(actual)[:40]
            found[condition.name] = (
                f"{shown}, not {condition.operator} {condition.value}" if condition.what == "metric" else shown
            )
    if not cached and run.tag(schema.CACHED_FROM):
        found["cached from"] = run.tag(schema.CACHED_FROM)
    return found


def _facts(run: IndexedRun) -> dict[str, str]:
    """Return what tells one run from another, the most telling first."""
    tags = {
        name.removeprefix("intermodal."): value
        for name, value in sorted(run.tags.items())
        if not name.startswith(_NOT_COMPARED)
    }
    first = {str(name): tags.pop(name) for name in _FIRST if name in tags}
    inputs = {
        f"input {name}": ", ".join(digest[:12] for digest in some) for name, some in run.artifacts("input").items()
    }
    outputs = {
        f"output {name}": ", ".join(digest[:12] for digest in some) for name, some in run.artifacts("output").items()
    }
    identity = {"identity": run.tag(schema.FINGERPRINT)[:16]} if run.tag(schema.FINGERPRINT) else {}
    params = {f"parameter {name}": value[:40] for name, value in sorted(run.params.items())}
    metrics = {f"metric {name}": str(value) for name, value in sorted(run.metrics.items())}
    return {**first, **identity, **params, **inputs, **outputs, **metrics, **tags, "started": str(run.started)}
