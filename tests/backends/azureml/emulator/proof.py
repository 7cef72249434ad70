"""Runs a compiled pipeline on the executor, and gives what came of it as a simulated run does, to be compared with the engine's."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.compile import Compiled, write
from intermodal.backends.azureml.emulator.client import connect
from intermodal.backends.azureml.emulator.emulate import emulating
from intermodal.backends.azureml.emulator.execution.executor import JobExecutor
from intermodal.backends.azureml.emulator.execution.host import Options
from intermodal.backends.azureml.emulator.plane import Plane
from intermodal.backends.docker import DockerBackend
from intermodal.engine.artifacts import Outputs
from intermodal.engine.backend import Backend
from intermodal.engine.database import Database
from intermodal.engine.store import Store
from intermodal.testing import HostBackend
from tests.backends.azureml.conftest import Play, outputs_of
from tests.backends.azureml.emulator.plane import FolderPlane, Run
from tests.backends.azureml.simulate import Simulated
from tests.oracle.agreement import content
from tests.support.azurite import TOOLS


def on(backend: Backend | None = None, options: Options | None = None) -> Play:
    """Return what runs a compiled job on a backend (this machine's processes, if none is given)."""

    def play(compiled: Compiled, folder: Path) -> Simulated:
        folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=folder))
        plane = FolderPlane(folder / "workspace")
        executor = JobExecutor(plane, backend or HostBackend(), folder / "jobs", options or Options(cores=2))
        executor.prepare()
        try:
            name = f"{compiled.lowered.name}-x"  # a job is named after its pipeline
            executor.submit(name, plane.add_compiled(compiled, "launcher"))
            done = plane.wait(name, 600)
        finally:
            executor.close()
        seen = collect(compiled, folder, plane.nodes(), plane.found)
        failed = [name for name, state in seen.states.items() if state == "Failed"]
        seen.ends = {name: plane.log(name)[-300:] for name in failed}
        assert done.state == ("Failed" if failed else "Completed"), done
        assert not failed or f"node {failed[0]!r} failed: " in str(done.error) or len(failed) > 1, done.error
        return seen

    return play


def over_the_wire(options: Options | None = None) -> Play:
    """Return what submits a job by the real client to an emulator that runs it on the Docker engine."""

    def play(compiled: Compiled, folder: Path) -> Simulated:
        from azure.ai.ml import load_job

        folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=folder))
        write(compiled, folder / "job")
        with emulating(folder / "ws", DockerBackend(), options, tools=TOOLS) as plane:
            with connect(plane.folder) as client:
                name = client.jobs.create_or_update(load_job(folder / "job" / "job.yml")).name
            done = plane.wait(name, 600)
            runs = {
                run.node: Run([run.status], run.error, dict(run.outputs), tags=dict(run.tags))
                for run in plane.records.children(name)
            }
            seen = collect(compiled, folder, runs, lambda uri: _downloaded(plane, uri, folder))
        failed = [node for node, state in seen.states.items() if state == "Failed"]
        assert done.status == ("Failed" if failed else "Completed"), done
        seen.tags = {node: run.tags for node, run in runs.items()}
        return seen

    return play


def _downloaded(plane: Plane, uri: str, folder: Path) -> Path | None:
    try:
        return plane.download(uri, Path(tempfile.mkdtemp(dir=folder)))
    except KeyError:
        return None


def collect(
    compiled: Compiled, folder: Path, nodes: Mapping[str, Run], fetch: Callable[[str], Path | None]
) -> Simulated:
    """Put the outputs of all nodes where a simulated run has them."""
    seen = Simulated(folder / "outputs")
    for name, path in compiled.report.nodes.items():
        run = nodes.get(name)
        seen.states[name] = run.state if run else "NotRun"
        if run is None:
            continue
        for port, uri in run.outputs.items():
            place = seen.folder / (path or "verdict") / port.removeprefix("a_")
            place.parent.mkdir(parents=True, exist_ok=True)
            if found := fetch(uri):
                place.symlink_to(found)
        meta = seen.folder / (path or "verdict") / "kfp_meta" / "meta.json"
        seen.metas[name] = json.loads(meta.read_text()) if meta.exists() else _lost(run)
    return seen


def _lost(run: Run) -> dict[str, Any]:
    """What is known of a node that left no meta."""
    return {"state": f"FAILED ({run.error})", "decided": "", "outputs": {"parameters": {}, "artifacts": {}}}


def kept(state: Path, run: str) -> dict[str, Any]:
    """Return a run's leaves as the state folder has them: path -> state and outputs, artifacts by their content."""
    store, database = Store(state / "store"), Database(state / "intermodal.db")
    rows = list(database.query("SELECT * FROM tasks WHERE run=? AND outputs IS NOT NULL", (run,)))
    database.close()
    return {
        row["path"]: {"state": row["state"], "outputs": _stored(Outputs.from_json(json.loads(row["outputs"])), store)}
        for row in rows
    }


def emulated(compiled: Compiled, ran: Simulated) -> dict[str, Any]:
    """Return a job's leaves in the same form."""
    nodes = {path: ran.metas[node] for node, path in compiled.report.nodes.items() if path and node in ran.metas}
    return {path: {"state": meta["state"], "outputs": outputs_of(meta, ran)} for path, meta in nodes.items()}


def _stored(outputs: Outputs, store: Store) -> dict[str, Any]:
    artifacts = {
        name: [
            {
                "type": item.type.schema_title,
                "content": content(store.path(item.digest) if item.digest else None),
                "uri": "" if item.digest else item.uri,
                "metadata": dict(item.metadata),
            }
            for item in items
        ]
        for name, items in outputs.artifacts.items()
    }
    return {"parameters": dict(outputs.parameters), "artifacts": artifacts}
