"""What the record of a run says of its champion: where it lies, and what it was made of."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.store import Store, hash_file
from intermodal.errors import BadInput
from intermodal.results import Artifact, Run
from intermodal.tracking.registry_card import Facts, Step, read_benchmark

_SMALL = 8 * 2**20
"""Bytes of a JSON file that is read for the card."""


def champion_of(run: Run, output: str) -> Artifact:
    """Return the model that a run gave as `output`. Raises BadInput if there is none, or the run is not green."""
    if not run.ok:
        raise BadInput(f"run {run.id} is {run.state.value}: only a green run's model is registered")
    found = run.outputs.get(output)
    if not isinstance(found, Artifact) or found.path is None or not found.digest:
        models = [
            name for name, value in run.outputs.items() if isinstance(value, Artifact) and value.type == "system.Model"
        ]
        raise BadInput(
            f"run {run.id} has no model {output!r} among its outputs",
            hint=f"--output NAME: {', '.join(models) or 'it has no model'}",
        )
    return found


def model_file(champion: Artifact) -> tuple[Path, dict[str, Any]]:
    """Return the ONNX file of a champion, and the bundle's manifest (empty if it is no bundle). Raises BadInput."""
    path = Path(champion.path or "")
    if path.is_file():
        return path, {}
    manifest = _json(path / "manifest.json")
    if isinstance(manifest, dict) and manifest.get("champion") in manifest.get("variants", {}):
        file = path / Path(str(manifest["variants"][manifest["champion"]]["file"])).name
        if not file.is_file():
            raise BadInput(f"{path}: its manifest names {file.name!r}, which is not there")
        return file, manifest
    files = sorted(path.rglob("*.onnx"))
    if len(files) != 1:
        raise BadInput(f"{path}: holds {len(files)} ONNX files; a model that is registered is one")
    return files[0], {}


def read_facts(database: Database, state: StateFolder, run: Run, champion: Artifact) -> Facts:
    """Return what the record says of the champion. Raises BadInput if what lies in the store is not what was recorded."""
    digest = champion.digest.removeprefix("sha256:")
    store = Store(state.store)
    if damage := store.damage(digest, thorough=True):
        raise BadInput(
            f"run {run.id}: its model is damaged: {damage}", hint="`intermodal verify` looks at all artifacts"
        )
    file, manifest = model_file(champion)
    row = database.query("SELECT * FROM runs WHERE id=?", (run.id,))[0]
    request = json.loads(row["request"] or "{}")
    git = request.get("facts", {}).get("git", {}) or {}
    benchmark = run.outputs.get("benchmark")
    decision = run.outputs.get("decision")
    return Facts(
        run=run.id,
        pipeline=run.pipeline,
        digest=digest,
        file=file.name,
        file_sha256=hash_file(file, file.stat()),
        file_bytes=file.stat().st_size,
        steps=_upstream(database, run.id, digest),
        data={name: _digests(items) for name, items in request.get("artifacts", {}).items() if _digests(items)},
        commit=str(git.get("commit", "")),
        dirty=bool(git.get("dirty", False)),
        manifest=manifest,
        benchmark=read_benchmark(benchmark.path, manifest)
        if isinstance(benchmark, Artifact) and benchmark.path
        else {},
        decision=decision if isinstance(decision, dict) else {},
        licence=_licence(run, manifest),
    )


def _upstream(database: Database, run: str, digest: str) -> list[Step]:
    """Return the tasks of the run from which the artifact came, through what they read, in the order in which they began."""
    rows = database.query(
        "SELECT * FROM tasks WHERE run=? AND fingerprint IS NOT NULL AND inputs IS NOT NULL ORDER BY started, path",
        (run,),
    )
    steps = {row["path"]: _step(database, row) for row in rows}
    makers: dict[str, list[str]] = {}
    for path, step in steps.items():
        for item in (item for some in step.outputs.values() for item in some):
            makers.setdefault(item, []).append(path)
    wanted, kept = [digest], set[str]()
    while wanted:
        for path in makers.get(wanted.pop(), ()):
            if path not in kept:
                kept.add(path)
                wanted += [item for some in steps[path].inputs.values() for item in some]
    return [step for path, step in steps.items() if path in kept]


def _step(database: Database, row: sqlite3.Row) -> Step:
    inputs, outputs = (json.loads(row[kind] or "{}").get("artifacts", {}) for kind in ("inputs", "outputs"))
    return Step(
        path=row["path"],
        component=row["component"].removeprefix("comp-"),
        state=row["state"],
        fingerprint=row["fingerprint"],
        image=_image(row),
        cached_from=row["cached_from"] or "",
        inputs={name: _digests(items) for name, items in inputs.items()},
        outputs={name: _digests(items) for name, items in outputs.items()},
    )


def _image(row: sqlite3.Row) -> str:
    """Return the digest of the image of a task: it is a part of the task's identity, whichever run did the work."""
    parts: Sequence[Sequence[Any]] = json.loads(row["parts"] or "[]")
    return next((str(value) for name, value in parts if name == "image"), "")


def _digests(items: Sequence[Mapping[str, Any]]) -> list[str]:
    return [item["digest"] for item in items if item.get("digest")]


def _licence(run: Run, manifest: Mapping[str, Any]) -> str:
    """Return what the backbone that the model was trained from says of its licence, empty if nothing."""
    for folder in _folders(run):
        facts = _json(folder / "backbone.json")
        if isinstance(facts, dict) and facts.get("name") == manifest.get("backbone") and facts.get("license"):
            return str(facts["license"])
    return ""


def _folders(run: Run) -> Iterator[Path]:
    for task in run.tasks.values():
        for value in task.outputs.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Artifact) and item.path is not None and item.path.is_dir():
                    yield item.path


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes()) if path.stat().st_size <= _SMALL else None
    except (OSError, ValueError, RecursionError):
        return None
