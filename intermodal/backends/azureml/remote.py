"""A pipeline job in a workspace, as a run: its nodes are tasks, and their metas tell how those ended."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from intermodal.backends.azureml.assets import create_assets, create_job
from intermodal.backends.azureml.kept import KeptMeta, Metas
from intermodal.backends.azureml.launcher.known import Meta
from intermodal.backends.azureml.launcher.main import META_FILE
from intermodal.backends.azureml.launcher.ports import MARKER, tree_digest
from intermodal.backends.azureml.lower import META
from intermodal.backends.azureml.meaning import Meaning
from intermodal.backends.azureml.names import port_name
from intermodal.backends.azureml.service import CANCEL, JOBS, Service, segment
from intermodal.backends.azureml.storage import Storage, datastore_uri
from intermodal.backends.remote.contract import Ended, Look, Outcome, PlaceProblem, Seen
from intermodal.backends.remote.opened import OpenRun
from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.states import State
from intermodal.engine.store import BadContent
from intermodal.errors import BadInput

_STATES: Mapping[str, State] = {
    "NotStarted": State.PENDING,
    "Queued": State.PENDING,
    "Provisioning": State.PENDING,
    "Starting": State.PENDING,
    "Preparing": State.PENDING,
    "Completed": State.SUCCEEDED,
    "Failed": State.FAILED,
    "Canceled": State.CANCELLED,
}
"""Run history's words; any other is that of something that goes on."""
_LOG = re.compile(r"user_logs/std_log.*\.txt")
_LOG_SECONDS = 600
"""How long a log's signed address is used before it is asked for again."""
JOB = "job"
"""Folder in the run's: the compiled job as it was sent."""


@dataclass(frozen=True)
class _Made:
    """Content that a task wrote: the address of its port, its path in there, its digest."""

    port: str
    relative: str
    digest: str


@dataclass
class _LogAddress:
    url: str
    since: float


class AzureMLRemote:
    """One run. `service` is of the workspace that the run's record names."""

    def __init__(self, run: OpenRun, service: Service) -> None:
        self._service = service
        self._storage = Storage(service)
        self._folder = run.folder / JOB
        self._place = run.place
        self._name: str = self._place["job"]
        self._paths: Mapping[str, str] = self._place["nodes"]
        """Node -> path of its task; empty for the verdict."""
        self._nodes = {path: node for node, path in self._paths.items()}
        self._metas = Metas(self._folder / "metas", self._nodes)
        self._meaning = Meaning(run.pipeline, run.inputs, self._place)
        self._ids: dict[str, str] = {}
        """Path -> the job whose outputs are the task's."""
        self._logs: dict[str, _LogAddress] = {}

    # Sending

    def submit(self) -> None:
        if self._service.get(f"/jobs/{segment(self._name)}", JOBS) is not None:
            return
        for item in self._place["uploads"]:
            source = Path(item["source"])
            if not source.exists() or tree_digest(source) != item["digest"]:
                raise BadInput(f"{source}: has changed since the run was made", hint="submit the pipeline anew")
            self._storage.upload(source, item["store"], item["path"])
        kept = {
            name: json.loads((self._folder / "bodies" / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("environments", "components", "job")
        }
        launcher = self._folder / "launcher"
        files = {
            path.relative_to(launcher).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(launcher.rglob("*.py"))
        }
        create_assets(self._service, files, {**kept, "code_version": self._place["code"]}, lambda _: None)
        create_job(self._service, self._name, kept["job"])

    def cancel(self) -> None:
        self._service.post(f"/jobs/{segment(self._name)}/cancel", CANCEL)

    # Looking

    def page(self) -> str:
        job = self._service.get(f"/jobs/{segment(self._name)}", JOBS) or {}
        studio = ((job.get("properties") or {}).get("services") or {}).get("Studio") or {}
        return str(studio.get("endpoint") or "")

    def look(self) -> Look:
        job = self._service.get(f"/jobs/{segment(self._name)}", JOBS)
        if job is None:
            raise PlaceProblem(
                f"the workspace has no job {self._name!r}",
                passing=False,
                status=404,
                hint="`intermodal resume` sends it",
            )
        tasks = [seen for child in self._children() if (seen := self._seen(child)) is not None]
        status = str(job["properties"].get("status"))
        state = _STATES.get(status, State.RUNNING)
        return Look(state if state.final else State.RUNNING, tasks, status)

    def _children(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page = self._service.history(f"/runs/{segment(self._name)}/children")
        while page is not None:
            found += page.get("value") or []
            following = page.get("nextLink")
            if not following:
                break
            page = self._service.history(following)
        return found

    def _seen(self, child: Mapping[str, Any]) -> Seen | None:
        """Return the task of a child run; None for the verdict, and for what is no node of ours."""
        path = self._path(child)
        if path is None:
            return None
        properties = child.get("properties") or {}
        reused = str(properties.get("azureml.reusedrunid") or "") if _true(properties.get("azureml.isreused")) else ""
        # The outputs of a native sweep are those of its best trial.
        self._ids[path] = reused or str(properties.get("best_child_run_id") or child["runId"])
        if not path:
            return None
        status = str(child.get("status"))
        return Seen(
            path,
            str(child["runId"]),
            _STATES.get(status, State.RUNNING),
            _seconds(child.get("startTimeUtc")),
            _seconds(child.get("endTimeUtc")),
            _failure(child) if status == "Failed" else None,
            f"{self._place['workspace']['name']}/{reused}" if reused else "",
            self._place["images"].get(path, ""),
            child.get("tags") or {},
        )

    def _path(self, child: Mapping[str, Any]) -> str | None:
        """A node is shown by the path of its task, which is unique in its job."""
        shown = str(child.get("displayName") or "")
        if shown in self._nodes:
            return shown
        for name in (shown, str(child.get("name") or "")):
            if name in self._paths:
                return self._paths[name]
        return "" if shown == "verdict" else None

    # Ends

    def ended(self, seen: Seen) -> Ended:
        kept = self._meta(seen.path)
        if kept is None and seen.state is State.SUCCEEDED:
            raise PlaceProblem(
                f"{seen.path}: its job has completed, but its {META_FILE} is not there yet", passing=True
            )
        meta = kept.meta if kept is not None else Meta(seen.path, State.FAILED, failure=seen.failure)
        if seen.state is State.CANCELLED:
            meta = Meta(seen.path, State.CANCELLED, failure=Failure(FailureClass.CANCELLED, "cancelled"))
        elif seen.reused and meta.state is State.SUCCEEDED:
            meta = replace(meta, state=State.CACHED)
        elif seen.state is State.FAILED and meta.state is not State.FAILED:
            meta = Meta(seen.path, State.FAILED, failure=seen.failure)  # the service's word goes before the launcher's
        if kept is None or meta is not kept.meta:
            self._metas.keep(seen.path, KeptMeta(self._ids[seen.path], kept.ports if kept else {}, meta))
        here = meta.decided in ("", seen.path) and not meta.absent
        return Ended(meta.state, self._outputs(meta.outputs), self._inputs(seen.path), meta.failure, meta.reason, here)

    def outcome(self, look: Look) -> Outcome:
        for seen in look.tasks:  # of an earlier follower's tasks, the metas are kept already
            if seen.state.final and self._metas.get(seen.path) is None:
                self.ended(seen)
        found = self._meaning.outcome(self._metas.all(), look.state)
        groups = [
            type(group)(group.path, group.state, self._outputs(group.outputs), group.failure, group.reason)
            for group in found.groups
        ]
        return Outcome(found.state, self._outputs(found.outputs), groups)

    def _meta(self, path: str) -> KeptMeta | None:
        kept = self._metas.get(path)
        if kept is None:
            job = self._ids[path]
            data = self._storage.read(f"{self._address(job, META).rstrip('/')}/{META_FILE}")
            if data is None:
                return None
            meta = Meta.from_json(json.loads(data))
            ports = {port: self._address(job, port) for port in map(_port, meta.digests)}
            kept = KeptMeta(job, ports, meta)
            self._metas.keep(path, kept)
        return kept

    def _address(self, job: str, port: str) -> str:
        """Return where an output of a node lies: where the service says, else where it puts outputs by default."""
        found = self._outputs_of(job).get(port) or {}
        return str(found.get("uri") or datastore_uri(self._default_store, f"azureml/{job}/{port}/"))

    def _outputs_of(self, job: str) -> dict[str, Any]:
        if job not in self._described:
            answer = self._service.get(f"/jobs/{segment(job)}", JOBS) or {}
            self._described[job] = (answer.get("properties") or {}).get("outputs") or {}
        return self._described[job]

    @cached_property
    def _described(self) -> dict[str, dict[str, Any]]:
        return {}

    @cached_property
    def _default_store(self) -> str:
        return str(self._place.get("datastore") or self._storage.default())

    # Values

    def _inputs(self, path: str) -> Inputs | None:
        given = self._meaning.inputs(path, self._metas.all())
        if given is None:
            return None
        return Inputs(given.parameters, self._outputs(Outputs({}, given.artifacts)).artifacts, given.channels)

    def _outputs(self, outputs: Outputs) -> Outputs:
        """Return outputs whose content is named by its address."""
        artifacts = {name: tuple(map(self._addressed, items)) for name, items in outputs.artifacts.items()}
        return Outputs(outputs.parameters, artifacts)

    def _addressed(self, artifact: Artifact) -> Artifact:
        uri = artifact.uri
        if artifact.digest.startswith("port|"):
            _, leaf, _, relative = artifact.digest.split("|", 3)
            kept = self._metas.get(leaf)
            if kept is not None:
                uri = f"{kept.ports[_port(artifact.digest)].rstrip('/')}/{relative}"
        return Artifact(artifact.name, artifact.type, "", uri, artifact.metadata)

    # Files

    def log(self, seen: Seen, start: int) -> bytes:
        kept = self._logs.get(seen.id)
        if kept is None or kept.since + _LOG_SECONDS < time.monotonic():
            details = self._service.history(f"/runs/{segment(seen.id)}/details") or {}
            files = {name: url for name, url in (details.get("logFiles") or {}).items() if _LOG.fullmatch(name)}
            if not files:
                return b""
            kept = self._logs[seen.id] = _LogAddress(files[min(files)], time.monotonic())
        return self._service.text(kept.url, start)

    def download(self, uri: str, folder: Path) -> Path:
        made = self._made.get(uri)
        empty = self._empty_folders(made) if made is not None else []
        try:
            path = self._storage.download(uri, folder)
        except FileNotFoundError:
            if not empty:
                raise
            path = folder / PurePosixPath(uri).name
        for name in empty:
            (path / name).mkdir(parents=True, exist_ok=True)
        if made is not None and tree_digest(path) != made.digest:
            raise BadContent("is not what its task wrote: its digest is another")
        return path

    def _empty_folders(self, made: _Made) -> list[str]:
        """Return the folders of content that storage has not kept, by their paths in it, as its port's marker names them."""
        data = self._storage.read(f"{made.port.rstrip('/')}/{MARKER}") or b"[]"
        names = [str(name) for name in json.loads(data or b"[]")]
        inside = [name for name in names if PurePosixPath(name).is_relative_to(made.relative)]
        if any(".." in PurePosixPath(name).parts for name in inside):
            raise BadContent("names a folder that leads out of it")
        return [str(PurePosixPath(name).relative_to(made.relative)) for name in inside]

    @cached_property
    def _made(self) -> dict[str, _Made]:
        """Address of content -> what its task's launcher said of it."""
        found = {}
        for kept in filter(None, map(self._metas.get, self._nodes)):
            for place, digest in kept.meta.digests.items():
                made = _Made(kept.ports[_port(place)], place.split("|", 3)[3], digest)
                found[f"{made.port.rstrip('/')}/{made.relative}"] = made
        return found


def _port(place: str) -> str:
    """Return the output port of what stands for content in a meta."""
    return port_name(f"a_{place.split('|', 3)[2]}")


def _true(value: Any) -> bool:
    return str(value).lower() == "true"


def _seconds(written: Any) -> float | None:
    """Return a moment of the service in seconds since the epoch; it writes up to seven digits of a second."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?", str(written or ""))
    if match is None:
        return None
    zone = match[3] if match[3] and match[3] != "Z" else "+00:00"
    return datetime.fromisoformat(f"{match[1]}{zone}").timestamp() + float(match[2] or 0)


def _failure(child: Mapping[str, Any]) -> Failure:
    """Return how a node's job failed: as its launcher said, else as the service says."""
    told = str((child.get("tags") or {}).get("kfp.failure") or "").split("|", 2)
    if len(told) == 3 and told[0] in {str(kind.value) for kind in FailureClass}:
        return Failure(FailureClass(told[0]), told[2], int(told[1]) if told[1].lstrip("-").isdigit() else None)
    error: Mapping[str, Any] = child.get("error") or {}
    inner = error.get("error") or error
    words = " ".join(str(inner.get("message") or inner.get("code") or "the service does not say why").split())
    for pattern, kind in _KINDS:
        if pattern.search(words):
            return Failure(kind, words)
    code = re.search(r"exit(?:ed with)?(?: status| code)?[ :]+(\d+)", words)
    return Failure(FailureClass.USER_CODE if code else FailureClass.ENGINE_LOST, words, int(code[1]) if code else None)


_KINDS = (
    (re.compile(r"out ?of ?memory|oom|exit (?:status|code)[ :]+137", re.IGNORECASE), FailureClass.OOM),
    (re.compile(r"time(?:d)? ?out|exceeded the (?:maximum|time)", re.IGNORECASE), FailureClass.TIMEOUT),
    (re.compile(r"pull|image", re.IGNORECASE), FailureClass.IMAGE),
    (re.compile(r"no space left|disk full", re.IGNORECASE), FailureClass.DISK_FULL),
)
"""What the service's words tell of."""
