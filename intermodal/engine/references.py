"""Who needs which entry of the store: the record of runs read backwards."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from intermodal.engine.database import Database


def users(database: Database) -> dict[str, list[str]]:
    """Return digest -> who refers to it: `<run>/<task>` that made it, `<run>` for what the run was given, `cache: ...`."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for row in database.query("SELECT run, path, outputs FROM tasks ORDER BY started"):
        for digest in _digests(row["outputs"]):
            found[digest][f"{row['run']}/{row['path']}"] = None
    for row in database.query("SELECT id, request, outputs FROM runs ORDER BY started"):
        for digest in (*_digests(row["outputs"]), *_digests(row["request"])):
            found[digest].setdefault(row["id"], None)
    for row in database.query("SELECT run, path, outputs FROM cache"):
        for digest in _digests(row["outputs"]):
            found[digest].setdefault(f"cache: {row['run']}/{row['path']}", None)
    return {digest: list(names) for digest, names in found.items()}


def _digests(document: str | None) -> Iterator[str]:
    """Yield the digests of the artifacts in a record's JSON, wherever they stand in it."""
    left: list[Any] = [json.loads(document)] if document else []
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            if "digest" in value and "uri" in value and isinstance(value["digest"], str) and value["digest"]:
                yield value["digest"]
            left += value.values()
