"""The record of a run that goes on elsewhere: made before anything is sent, opened again by whoever goes on with it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermodal.engine.artifacts import Inputs
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.options import Options
from intermodal.engine.resume import RunLock, StateUse, read_request
from intermodal.engine.store import write_synced
from intermodal.engine.temporary import discard
from intermodal.errors import BadInput
from intermodal.settings import Settings
from intermodal.spec.document import canonical_json, sha256_text
from intermodal.spec.types import Pipeline

PLACE = "place"
"""Key of a run's request: what its place needs to find it again. Nothing in it is a secret."""


@dataclass(frozen=True)
class Asked:
    """What is to run: the pipeline, its inputs, and what the place needs to find the run again (`place`, plain values)."""

    pipeline: Pipeline
    inputs: Inputs
    backend: str
    place: Mapping[str, Any]
    configuration: Mapping[str, Any]
    project: Path | None


class OpenRun:
    """A run of the record that goes on elsewhere. Close it (`with`)."""

    def __init__(self, state: StateFolder, database: Database, run: str, *, alone: bool = True) -> None:
        """Open the run; `alone`: this process alone may follow it.

        Raises BadInput if another process follows it, or it is not on record as one that goes on elsewhere.
        """
        self.state = state
        self.database = database
        self.id = run
        self._use = StateUse(state.root)
        self._lock = RunLock(state.run(run), run) if alone else None
        rows = database.query("SELECT * FROM runs WHERE id=?", (run,))
        if not rows or PLACE not in json.loads(rows[0]["request"] or "{}"):
            self.close()
            raise BadInput(f"run {run}: did not go anywhere else; it ran on this machine")
        self.row: sqlite3.Row = rows[0]
        kept = read_request(database, state, run)
        self.pipeline, self.inputs, self.project = kept.pipeline, kept.inputs, kept.project

    @property
    def folder(self) -> Path:
        return self.state.run(self.id)

    @property
    def backend(self) -> str:
        return str(self.row["backend"])

    @property
    def place(self) -> dict[str, Any]:
        """What the place was told to remember of the run."""
        return dict(json.loads(self.row["request"])[PLACE])

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
        self._use.release()

    def __enter__(self) -> OpenRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def record_run(state: StateFolder, database: Database, run: str, asked: Asked, files: Mapping[str, str]) -> None:
    """Put a run that is about to be sent on record; `files` are kept in its folder. All or nothing."""
    folder = state.run(run)
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        write_synced(folder / "pipeline.yaml", asked.pipeline.ir)
        arguments = {
            **asked.inputs.parameters,
            **{name: [item.uri for item in items] for name, items in asked.inputs.artifacts.items()},
        }
        configuration = canonical_json(dict(asked.configuration) or arguments)
        request = {
            "names": {},
            "parameters": dict(asked.inputs.parameters),
            "artifacts": {name: [x.as_json() for x in items] for name, items in asked.inputs.artifacts.items()},
            "options": Options().as_json(),
            "settings": Settings().model_dump(),
            "project": str(asked.project) if asked.project else None,
            PLACE: dict(asked.place),
        }
        database.add_run(
            run,
            asked.pipeline.name,
            asked.pipeline.digest,
            asked.backend,
            canonical_json(arguments),
            (configuration, sha256_text(configuration)),
            canonical_json(request),
        )
    except BaseException:
        discard(folder)
        raise
