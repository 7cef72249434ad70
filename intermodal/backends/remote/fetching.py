"""Fetching: what a run gave elsewhere comes into the store here, named by its content, so that it is as if it had run here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from intermodal.backends.remote.contract import PlaceProblem, Remote
from intermodal.backends.remote.opened import OpenRun
from intermodal.engine.artifacts import Artifact, Outputs
from intermodal.engine.session import link_outputs
from intermodal.engine.store import BadContent, Store
from intermodal.errors import EnvironmentProblem
from intermodal.spec.document import canonical_json
from intermodal.spec.paths import find_component
from intermodal.spec.types import Importer


@dataclass(frozen=True)
class Fetched:
    """What was brought: how many artifacts, and how many bytes."""

    artifacts: int
    bytes: int


def fetch(run: OpenRun, remote: Remote, say: Callable[[str], None] = lambda _: None) -> Fetched:
    """Bring every artifact that the record names and the store lacks. `say` is told each, in one line.

    What importers named stays where it is. Killed at any moment, it goes on where it was. Raises PlaceProblem,
    EnvironmentProblem naming the task if an artifact is damaged.
    """
    store = Store(run.state.store)
    count = size = 0
    here: dict[str, str] = {}
    for path, outputs in _made_there(run):
        brought = dict(outputs.artifacts)
        for name, items in outputs.artifacts.items():
            found = []
            for item in items:
                if item.uri and not item.digest:
                    item = replace(item, digest=_bring(run, remote, store, path, item))
                    count, size = count + 1, size + store.manifest(item.digest).size
                    say(f"{path}: {name} ({store.manifest(item.digest).size} bytes)")
                found.append(item)
            brought[name] = tuple(found)
            here |= {item.uri: item.digest for item in found if item.uri and item.digest}
        _write(run, path, Outputs(outputs.parameters, brought))
    _name_everywhere(run, here)
    rows = run.database.query("SELECT outputs FROM runs WHERE id=?", (run.id,))
    if rows[0]["outputs"]:
        link_outputs(run.folder / "outputs", store, Outputs.from_json(json.loads(rows[0]["outputs"])))
    return Fetched(count, size)


def _made_there(run: OpenRun) -> Iterator[tuple[str, Outputs]]:
    rows = run.database.query("SELECT path, outputs FROM tasks WHERE run=? ORDER BY started, path", (run.id,))
    for row in rows:
        component, loop = find_component(run.pipeline, row["path"])
        single = not loop and not hasattr(component.implementation, "tasks")
        if row["outputs"] and single and not isinstance(component.implementation, Importer):
            yield row["path"], Outputs.from_json(json.loads(row["outputs"]))


def _bring(run: OpenRun, remote: Remote, store: Store, path: str, item: Artifact) -> str:
    with run.state.temporary.folder() as folder:
        try:
            return store.publish(remote.download(item.uri, folder), link=True)
        except BadContent as error:
            raise EnvironmentProblem(f"{path}: artifact {item.name!r} at {item.uri} {error}") from error
        except FileNotFoundError as error:
            raise PlaceProblem(f"{path}: artifact {item.name!r} is not at {item.uri}", passing=False) from error


def _write(run: OpenRun, path: str, outputs: Outputs) -> None:
    with run.database.transaction() as connection:
        connection.execute(
            "UPDATE tasks SET outputs=? WHERE run=? AND path=?", (canonical_json(outputs.as_json()), run.id, path)
        )


def _name_everywhere(run: OpenRun, here: dict[str, str]) -> None:
    """Name by its content, wherever the record speaks of it, what has been brought."""
    with run.database.transaction() as connection:
        for row in connection.execute("SELECT path, inputs, outputs FROM tasks WHERE run=?", (run.id,)).fetchall():
            connection.execute(
                "UPDATE tasks SET inputs=?, outputs=? WHERE run=? AND path=?",
                (_named(row["inputs"], here), _named(row["outputs"], here), run.id, row["path"]),
            )
        row = connection.execute("SELECT outputs FROM runs WHERE id=?", (run.id,)).fetchone()
        connection.execute("UPDATE runs SET outputs=? WHERE id=?", (_named(row["outputs"], here), run.id))


def _named(document: str | None, here: dict[str, str]) -> str | None:
    if document is None:
        return None
    value = json.loads(document)
    left: list[Any] = [value]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            if item.get("digest") == "" and item.get("uri") in here and "type" in item:
                item["digest"] = here[item["uri"]]
            left += item.values()
    return canonical_json(value)
